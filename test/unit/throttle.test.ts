import { expect } from "chai";
import { Auth } from "../../app/relay/auth.ts";
import { Throttle } from "../../app/relay/throttle.ts";
import { deriveKey, makeToken } from "../../app/protocol.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const auth = (): Auth => new Auth({ relaySecret: RELAY_SECRET, revoked: [] });
const jwt = (id: string): Promise<string> =>
  makeToken(id, deriveKey(RELAY_SECRET, id, 1));

describe("a throttle", () => {
  it("blocks after so many failures, until the first of them is over", () => {
    const throttle = new Throttle(3, 1000);
    for (const now of [0, 100, 200]) {
      expect(throttle.blocks("a", now)).to.be.false;
      throttle.fail("a", now);
    }
    expect(throttle.blocks("a", 300)).to.be.true;
    expect(throttle.blocks("b", 300)).to.be.false;
    expect(throttle.blocks("a", 999)).to.be.true;
    expect(throttle.blocks("a", 1000)).to.be.false;
    throttle.fail("a", 1000);
    expect(throttle.blocks("a", 1050)).to.be.true;
    throttle.sweep(2000);
    expect(throttle.blocks("a", 1050)).to.be.false;
  });
});

describe("whoever guesses tokens", () => {
  it("is answered 429 after ten wrong ones, even with a right one", async () => {
    const keeper = auth();
    for (let i = 0; i < 10; i++)
      expect(await keeper.refuse("pi", "no.to.ken", "192.0.2.1")).to.equal(
        "bad_token",
      );
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.1")).to.equal(
      "too_many_failures",
    );
  });

  it("does not lock out the agent at another address, nor another id", async () => {
    const keeper = auth();
    for (let i = 0; i < 20; i++)
      await keeper.refuse("pi", "no.to.ken", "192.0.2.1");
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.2")).to.equal(
      undefined,
    );
    expect(await keeper.refuse("tau", await jwt("tau"), "192.0.2.1")).to.equal(
      undefined,
    );
  });

  it("gains nothing by many addresses when he guesses codes, while agents park on", async () => {
    const keeper = auth();
    for (let i = 0; i < 10; i++)
      await keeper.refuse("pi", "00000000", `192.0.2.${i}`);
    expect(await keeper.refuse("pi", "00000000", "192.0.2.99")).to.equal(
      "too_many_failures",
    );
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.99")).to.equal(
      undefined,
    );
  });

  it("gains nothing by the addresses of one IPv6 network", async () => {
    const keeper = auth();
    for (let i = 0; i < 10; i++)
      await keeper.refuse("pi", "no.to.ken", `2001:db8::${i}`);
    expect(await keeper.refuse("pi", "no.to.ken", "2001:db8::ffff")).to.equal(
      "too_many_failures",
    );
    expect(await keeper.refuse("pi", "no.to.ken", "2001:db8:0:1::1")).to.equal(
      "bad_token",
    );
  });
});
