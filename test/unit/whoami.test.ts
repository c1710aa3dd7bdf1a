// What doctor thinks of a relay's clock, and of what the relay takes its visitor for.
import { expect } from "chai";
import type { Answer } from "../../app/client/ask.ts";
import {
  clockFinding,
  readWhoami,
  visitorFinding,
  type Whoami,
} from "../../app/client/whoami.ts";

const page: Whoami = {
  version: "1.0.0",
  address: "192.0.2.1",
  proto: "https",
  host: "relay.example.com",
  forwarded: 1,
  trusted: 1,
  now: 1_000_000,
};

const answer: Answer = {
  status: 200,
  reason: "OK",
  server: undefined,
  location: undefined,
  byProxy: false,
  text: JSON.stringify({ relay: "rendezvous", ...page }),
  leftAt: 999_900,
  cameAt: 1_000_100,
  spread: 0,
  early: false,
  secured: undefined,
};

describe("a relay's word on its visitor", () => {
  it("is read where it is whole, and where a relay says it", () => {
    expect(readWhoami(answer)).to.deep.equal(page);
    for (const text of ["", "null", "5", "{}", JSON.stringify(page)])
      expect(readWhoami({ ...answer, text })).to.equal(undefined);
    expect(readWhoami({ ...answer, status: 404 })).to.equal(undefined);
  });

  for (const [what, seen, words] of [
    ["is right", {}, undefined],
    ["trusts no router", { trusted: 0, proto: "http" }, "TRUST_PROXY is 0"],
    [
      "has the router's address",
      { trusted: 0 },
      "so that this is the router's address",
    ],
    [
      "trusts more routers than there are",
      { trusted: 2 },
      "anybody may choose his address",
    ],
    [
      "was not told the scheme",
      { proto: "http" },
      "does not say it in X-Forwarded-Proto",
    ],
    [
      "has another host",
      { host: "10.0.0.1:5000" },
      "but Host came as 10.0.0.1:5000",
    ],
  ] as const) {
    it(`is judged when it ${what}`, () => {
      const url = new URL("https://relay.example.com");
      const finding = visitorFinding(url, { ...page, ...seen });
      expect(finding.mark).to.equal(words === undefined ? "ok" : "warn");
      expect(finding.words).to.include(words ?? "the relay sees 192.0.2.1");
    });
  }
});

describe("a relay's clock", () => {
  it("is not found to differ by less than the answer took", () => {
    const slow = { ...answer, leftAt: page.now - 6000, cameAt: page.now };
    expect(clockFinding(slow, page).words).to.include("the same as here");
  });

  for (const [seconds, mark, words] of [
    [0.4, "ok", "the same as here"],
    [12, "ok", "the relay's is 12 s ahead of this one; a code"],
    [-31, "warn", "31 s behind this one; codes (TOTP) are refused"],
    [61, "warn", "61 s ahead of this one; agents are refused"],
  ] as const) {
    it(`that is ${seconds} s ahead is judged`, () => {
      const now = page.now + seconds * 1000;
      const finding = clockFinding(answer, { ...page, now });
      expect(finding.mark).to.equal(mark);
      expect(finding.words).to.include(words);
      expect(finding.facts).to.deep.equal({ secondsAhead: seconds });
    });
  }
});
