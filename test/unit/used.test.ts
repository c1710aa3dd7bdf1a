// Tokens that were used: how many are remembered, for whom, and for how long.
import { expect } from "chai";
import { mock } from "node:test";
import { Auth } from "../../app/relay/auth.ts";
import { Used } from "../../app/relay/used.ts";
import { deriveKey, makeToken } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const NOON = 1_800_000_000;
const HERE = "192.0.2.1";

/** How many of so many tokens of an id are taken. */
const taken = (used: Used, id: string, count: number, until = NOON): number =>
  Array.from({ length: count }, (_, i) =>
    used.use(id, String(i), until),
  ).filter((verdict) => verdict === "good").length;

const jwt = (id: string): Promise<string> =>
  makeToken(id, deriveKey(RELAY_SECRET, id, 1));

describe("used tokens", () => {
  it("of an id are remembered as long as as many places are left for others, so that no id takes them all", () => {
    const used = new Used(16);
    expect(taken(used, "a", 100)).to.equal(8);
    expect(taken(used, "b", 100)).to.equal(4);
    expect(taken(used, "c", 100)).to.equal(2);
    expect(used.use("d", "0", NOON)).to.equal("good");
    expect(used.size).to.equal(15);
  });

  it("are never more than there are places, whoever comes", () => {
    const used = new Used(16);
    for (let i = 0; i < 100; i++) taken(used, `id-${i}`, 3);
    expect(used.size).to.equal(16);
    expect(used.use("late", "0", NOON)).to.equal("full");
  });

  it("are known when no place is left, and one that found none is not used up", () => {
    const used = new Used(4);
    expect(taken(used, "a", 3)).to.equal(2);
    expect(used.use("a", "2", NOON + 9)).to.equal("full");
    for (const name of ["0", "1"])
      expect(used.use("a", name, NOON)).to.equal("bad");
    used.sweep(NOON * 1000);
    expect(used.size).to.equal(0);
    expect(used.use("a", "2", NOON + 9)).to.equal("good");
    expect(used.use("a", "2", NOON + 9)).to.equal("bad");
  });

  it("are forgotten when they are over, each at its own time, and their places are free again", () => {
    const used = new Used(8);
    for (const until of [3, 1, 2.5, 2])
      expect(used.use("a", String(until), until)).to.equal("good");
    expect(used.use("a", "more", 9)).to.equal("full");
    for (const [now, left] of [
      [999, 4],
      [1000, 3],
      [2499, 2],
      [2999, 2],
      [3000, 0],
    ] as const) {
      used.sweep(now);
      expect(used.size, String(now)).to.equal(left);
    }
    expect(taken(used, "a", 100)).to.equal(4);
  });

  it("are not mistaken for another id's, nor for one of another name", () => {
    const used = new Used();
    for (const [id, name] of [
      ["a", "b c"],
      ["a", "b"],
      ["b", "b c"],
      ["a-b", "c"],
    ] as const)
      expect(used.use(id, name, NOON)).to.equal("good");
  });

  it("cost nothing at each sweep before they are over", () => {
    const used = new Used();
    expect(taken(used, "a", 50_000)).to.equal(50_000);
    const from = performance.now();
    for (let i = 0; i < 1000; i++) used.sweep(NOON * 1000 - 1);
    // Looking at each one would take ten times as long.
    expect(performance.now() - from).to.be.below(2000);
    expect(used.size).to.equal(50_000);
  });
});

describe("who uses more tokens than are remembered", () => {
  it("is told to come again, while other ids park, and whoever shows a used one is refused", async () => {
    const auth = new Auth(
      { relaySecret: RELAY_SECRET, revoked: [] },
      new Used(8),
    );
    const tokens = await Promise.all(
      Array.from({ length: 5 }, () => jwt("pi")),
    );
    for (const token of tokens.slice(0, 4))
      expect(await auth.refuse("pi", token, HERE)).to.be.undefined;
    const [first = "", , , , last = ""] = tokens;
    // It is no failure: nobody has guessed.
    for (let i = 0; i < 12; i++)
      expect(await auth.refuse("pi", last, HERE)).to.equal("too_many_requests");
    expect(await auth.refuse("pi", first, HERE)).to.equal("bad_token");
    expect(await auth.refuse("tau", await jwt("tau"), HERE)).to.be.undefined;
    mock.timers.enable({ apis: ["Date"], now: Date.now() + 106_000 });
    afterThisTest(() => {
      mock.timers.reset();
    });
    auth.sweep();
    expect(await auth.refuse("pi", await jwt("pi"), HERE)).to.be.undefined;
  });
});
