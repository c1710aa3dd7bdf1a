// What the owner of a hidden server is given.
import { expect } from "chai";
import { generateSync, verifySync } from "otplib";
import { issue, type IssueOptions } from "../../app/issue.ts";
import { deriveKey, encodeSecret, relayOf } from "../../app/protocol.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const OPTIONS: IssueOptions = {
  relaySecret: RELAY_SECRET,
  relay: new URL("https://relay.example.com"),
  revoked: [],
  parameter: "rendezvous",
};

describe("issuing an id", () => {
  it("gives its secret, the agent's URL, the visitor's URL and a URI for an authenticator app", () => {
    const secret = encodeSecret(deriveKey(RELAY_SECRET, "pi", 1));
    expect(issue("pi", OPTIONS)).to.deep.equal({
      id: "pi",
      secret,
      url: `https://pi:${secret}@relay.example.com`,
      visit: "https://relay.example.com/?rendezvous=pi",
      otpauth: `otpauth://totp/rendezvous:pi?secret=${secret}&issuer=rendezvous`,
    });
  });

  it("gives the same every time, whatever the case, and another secret for another id or another relay", () => {
    const { secret } = issue("pi", OPTIONS);
    expect(issue("PI", OPTIONS)).to.deep.equal(issue("pi", OPTIONS));
    expect(issue("other", OPTIONS).secret).to.not.equal(secret);
    expect(
      issue("pi", { ...OPTIONS, relaySecret: RELAY_SECRET.toUpperCase() })
        .secret,
    ).to.not.equal(secret);
  });

  it("gives the lowest generation that is not revoked", () => {
    const { secret } = issue("pi", { ...OPTIONS, revoked: ["pi@1", "pi@2"] });
    expect(secret).to.equal(encodeSecret(deriveKey(RELAY_SECRET, "pi", 3)));
  });

  it("gives a visitor's URL below the base domain, or with the parameter's own name", () => {
    const relay = new URL("http://localhost:5000/some/path?x#y");
    expect(
      issue("pi", { ...OPTIONS, relay, baseDomain: "localhost" }).visit,
    ).to.equal("http://pi.localhost:5000/");
    const below = new URL("https://pi.example.com/a?b");
    expect(relayOf(below, "pi").href).to.equal("https://example.com/");
    expect(relayOf(below, "p").href).to.equal("https://pi.example.com/");
    expect(issue("pi", { ...OPTIONS, relay, parameter: "to" }).visit).to.equal(
      "http://localhost:5000/?to=pi",
    );
  });

  it("never lets a login of the relay's URL into the visitor's URL", () => {
    const { visit, url } = issue("pi", {
      ...OPTIONS,
      relay: new URL("https://user:hunter2@relay.example.com"),
    });
    expect(visit + url).to.not.include("hunter2");
  });

  it("refuses what is no id, and an id that is revoked, in a sentence", () => {
    for (const id of ["", "-a", "a.b", "a b", "a".repeat(64)])
      expect(() => issue(id, OPTIONS), id).to.throw(
        RangeError,
        "An id is one DNS label",
      );
    expect(() => issue("Pi", { ...OPTIONS, revoked: ["pI"] })).to.throw(
      RangeError,
      "pi is revoked. Take it out of REVOKED",
    );
  });

  it("gives an authenticator app what makes codes that are good", () => {
    const { secret, otpauth } = issue("pi", OPTIONS);
    const given = new URL(otpauth).searchParams.get("secret") ?? "";
    expect(verifySync({ secret, token: generateSync({ secret: given }) }).valid)
      .to.be.true;
  });
});
