// How many wrong tokens are too many, for whom, and for how long.
import { expect } from "chai";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { generateSync } from "otplib";
import { Auth } from "../../app/relay/auth.ts";
import { Throttle } from "../../app/relay/throttle.ts";
import { deriveKey, makeToken } from "../../app/protocol.ts";
import { advanceClock } from "../support/clock.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const MINUTE = 60 * 1000;

setFlagsFromString("--expose_gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** The memory that is in use. */
function heapNow(): number {
  for (let i = 0; i < 2; i++) collectGarbage();
  return process.memoryUsage().heapUsed;
}

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

describe("a throttle of places", () => {
  it("forgets nobody for whatever many others have failed, and blocks none of them for it", () => {
    const throttle = new Throttle(10, MINUTE, 65_536);
    for (let i = 0; i < 10; i++) throttle.fail("pi", i);
    for (let i = 0; i < 200_000; i++) throttle.fail(`id-${i}`, 10);
    expect(throttle.blocks("pi", 20)).to.be.true;
    expect(throttle.size).to.be.at.most(65_536);
    const blocked = Array.from({ length: 1000 }, (_, i) =>
      throttle.blocks(`new-${i}`, 20),
    ).filter(Boolean);
    // Some three of each place's ten are taken: one in a thousand places is full.
    expect(blocked.length).to.be.at.most(20);
    throttle.sweep(MINUTE + 20);
    expect(throttle.size).to.equal(0);
  });

  it("puts nobody where others can foresee it", () => {
    const shared = Array.from({ length: 20 }, () => {
      const throttle = new Throttle(1, MINUTE, 2);
      throttle.fail("pi", 0);
      return throttle.blocks("tau", 1);
    });
    expect(new Set(shared).size).to.equal(2);
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

  it("is taken again when his first failures are a minute old, not all of them", async () => {
    const keeper = auth();
    await keeper.refuse("pi", "no.to.ken", "192.0.2.1");
    advanceClock(MINUTE / 2);
    for (let i = 0; i < 9; i++)
      await keeper.refuse("pi", "no.to.ken", "192.0.2.1");
    expect(await keeper.refuse("pi", "no.to.ken", "192.0.2.1")).to.equal(
      "too_many_failures",
    );
    advanceClock(MINUTE / 2);
    keeper.sweep();
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.1")).to.equal(
      undefined,
    );
    expect(await keeper.refuse("pi", "no.to.ken", "192.0.2.1")).to.equal(
      "bad_token",
    );
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.1")).to.equal(
      "too_many_failures",
    );
  });

  it("gains nothing by many ids: after a hundred failures no code of his network is looked at", async () => {
    const keeper = auth();
    for (let i = 0; i < 100; i++)
      expect(
        await keeper.refuse(`id-${i}`, "00000000", `2001:db8::${i}`),
      ).to.equal("bad_token");
    expect(await keeper.refuse("pi", "00000000", "2001:db8::ffff")).to.equal(
      "too_many_failures",
    );
    const code = generateSync({ secret: deriveKey(RELAY_SECRET, "pi", 1) });
    expect(await keeper.refuse("pi", code, "2001:db8::1")).to.equal(
      "too_many_failures",
    );
    expect(await keeper.refuse("pi", code, "2001:db8:0:1::1")).to.equal(
      undefined,
    );
  });

  it("does not lock out the agents that share his address", async () => {
    const keeper = auth();
    for (let i = 0; i < 200; i++)
      await keeper.refuse(`id-${i}`, "no.to.ken", "192.0.2.1");
    expect(await keeper.refuse("tau", "no.to.ken", "192.0.2.1")).to.equal(
      "too_many_failures",
    );
    expect(await keeper.refuse("pi", await jwt("pi"), "192.0.2.1")).to.equal(
      undefined,
    );
  });

  it("leaves nothing behind of the heads that he sent them in, however long", async () => {
    const keeper = auth();
    const count = 400;
    const octets = 60_000;
    const before = heapNow();
    for (let i = 0; i < count; i++) {
      const head = Buffer.from(
        `1b4e28ba-2fa1-11d2-883f-${i} 192.168.100.${i % 200} ${"x".repeat(octets)}`,
      ).toString();
      const [id = "", address = ""] = head.split(" ");
      const token = i % 2 === 0 ? "00000000" : "no.to.ken";
      expect(await keeper.refuse(id, token, address)).to.equal("bad_token");
    }
    expect(heapNow() - before).to.be.below((count * octets) / 4);
    // It is still there to be measured.
    keeper.sweep();
  });

  it("gains nothing by guessing at once instead of one after the other", async () => {
    const keeper = auth();
    const verdicts = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        keeper.refuse("pi", String(i).padStart(8, "0"), "192.0.2.1"),
      ),
    );
    expect(
      verdicts.filter((verdict) => verdict === "bad_token"),
    ).to.have.length(10);
  });
});
