// The lot: who gets which tunnel, who may wait, and that nothing is left behind.
import { expect } from "chai";
import { duplexPair, type Duplex } from "node:stream";
import type { FailureCode } from "../../app/errors.ts";
import { Lot, type LotOptions, type Waiter } from "../../app/relay/lot.ts";
import type { Guest } from "../../app/relay/shares.ts";
import { Tunnel } from "../../app/relay/tunnel.ts";
import { Link } from "../../app/wire/link.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { advanceClock } from "../support/clock.ts";

const OPTIONS: LotOptions = {
  maxTunnels: 10,
  maxTunnelsPerServer: 4,
  maxWaiting: 10,
  maxWaitingPerServer: 4,
  holdSeconds: 10,
  maxTunnelsPerVisitor: 0,
  maxStreamsPerServer: 0,
  ratePerServer: 0,
  octetsPerSecondPerServer: 0,
};
/** Somebody who is not the only one of his kind. */
const GUEST: Guest = { network: "192.0.2.1", isStream: false };
const DAY = 24 * 60 * 60 * 1000;
const HOUR = DAY / 24;

const makeLot = (
  options: Partial<LotOptions> = {},
  generationOf: (id: string) => number | undefined = () => 1,
): Lot => new Lot({ ...OPTIONS, ...options }, { generationOf });

/** Lets a tunnel in; it is idle at once. */
function parkIn(lot: Lot, id = "pi", max?: number): Tunnel {
  const [near, far]: [Duplex, Duplex] = duplexPair();
  far.resume();
  afterThisTest(() => {
    near.destroy();
    far.destroy();
  });
  const link = new Link(near, { data() {}, end() {}, drain() {}, gone() {} });
  const tunnel = new Tunnel(
    link,
    { id, generation: 1 },
    false,
    lot,
    { heartbeatSeconds: 25 },
    { max },
  );
  if (lot.admit(tunnel)) tunnel.open();
  return tunnel;
}

class Visitor implements Waiter {
  readonly needsFresh = false;
  readonly isStream = false;
  readonly network = GUEST.network;
  served: Tunnel | undefined;
  refused: FailureCode | undefined;

  enters(): boolean {
    return true;
  }

  serve(tunnel: Tunnel): void {
    this.served = tunnel;
    tunnel.claim();
  }

  refuse(code: FailureCode): void {
    this.refused = code;
  }
}

function waitIn(lot: Lot, id = "pi"): Visitor {
  const visitor = new Visitor();
  expect(lot.wait(id, visitor)).to.be.undefined;
  return visitor;
}

describe("the lot", () => {
  it("gives the tunnel that was used last, for it is the likeliest to be alive", () => {
    const lot = makeLot();
    const [one, two, three] = [parkIn(lot), parkIn(lot), parkIn(lot)];
    expect([
      lot.claim("pi", true, GUEST),
      lot.claim("pi", true, GUEST),
      lot.claim("pi", true, GUEST),
    ]).to.deep.equal([three, two, one]);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
  });

  it("gives a tunnel to one only, and of its own server only", () => {
    const lot = makeLot();
    const tunnel = parkIn(lot);
    expect(lot.claim("other", true, GUEST)).to.be.undefined;
    expect(lot.claim("pi", true, GUEST)).to.equal(tunnel);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
    expect(lot.counts).to.include({ tunnels: 1, idle: 0 });
  });

  it("gives a request that cannot be sent twice a fresh tunnel rather than one that may be closed for idleness", () => {
    const lot = makeLot();
    const [fresh, used] = [parkIn(lot), parkIn(lot)];
    used.used = true;
    used.idleSince = performance.now() - 3000;
    expect(lot.claim("pi", false, GUEST)).to.equal(fresh);
    expect(lot.claim("pi", false, GUEST)).to.equal(used);
  });

  it("gives it one that was used just now, or any other request the last one", () => {
    const lot = makeLot();
    const [, used] = [parkIn(lot), parkIn(lot)];
    used.used = true;
    used.idleSince = performance.now();
    expect(lot.claim("pi", false, GUEST)).to.equal(used);
    used.release();
    used.idleSince = performance.now() - 3000;
    expect(lot.claim("pi", true, GUEST)).to.equal(used);
  });

  it("serves those who wait in the order they came, and each once", () => {
    const lot = makeLot();
    const [one, two] = [waitIn(lot), waitIn(lot)];
    const first = parkIn(lot);
    expect([one.served, two.served]).to.deep.equal([first, undefined]);
    first.release();
    expect(two.served).to.equal(first);
    expect(lot.counts).to.include({ waiting: 0, idle: 0 });
    first.release();
    expect(lot.counts).to.include({ idle: 1 });
    expect([one.refused, two.refused]).to.deep.equal([undefined, undefined]);
  });

  it("passes over those who have left", () => {
    const lot = makeLot();
    const [one, two] = [waitIn(lot), waitIn(lot)];
    lot.leave("pi", one);
    lot.leave("pi", one);
    const tunnel = parkIn(lot);
    expect([one.served, two.served]).to.deep.equal([undefined, tunnel]);
    expect(lot.counts.waiting).to.equal(0);
  });

  it("lets only so many wait for one server, and for all", () => {
    const lot = makeLot({ maxWaitingPerServer: 1, maxWaiting: 2 });
    const one = waitIn(lot, "one");
    expect(lot.wait("one", new Visitor())).to.equal("busy");
    waitIn(lot, "two");
    expect(lot.wait("three", new Visitor())).to.equal("busy");
    lot.leave("one", one);
    waitIn(lot, "three");
  });

  for (const [setting, max, share] of [
    [48, undefined, 48],
    [48, 10_000, 48],
    [48, 64, 48],
    [48, 8, 6],
    [2, 8, 2],
    [48, 3, 2],
    [48, 2, 1],
    [48, 1, 1],
  ] as const)
    it(`has ${share} for one network, and for streams, where the settings are ${setting} and the server opens ${max ?? "who knows how many"}`, () => {
      const lot = makeLot({
        maxTunnelsPerVisitor: setting,
        maxStreamsPerServer: setting,
      });
      for (let i = 0; i <= share; i++) {
        parkIn(lot, "pi", max);
        parkIn(lot, "other", max);
      }
      for (let i = 0; i < share; i++) {
        const stream = { network: `2001:db8:${i}::`, isStream: true };
        expect(lot.refusesVisit("other", stream)).to.be.undefined;
        expect(lot.claim("other", true, stream)).to.be.an.instanceof(Tunnel);
        expect(lot.claim("pi", true, GUEST)).to.be.an.instanceof(Tunnel);
      }
      const next = { network: "192.0.2.2", isStream: true };
      expect(lot.refusesVisit("other", next)).to.equal("too_many_streams");
      expect(lot.claim("pi", true, GUEST)).to.be.undefined;
      expect(lot.claim("pi", true, next)).to.be.an.instanceof(Tunnel);
    });

  it("knows no share where the settings are 0, however few the server opens", () => {
    const lot = makeLot();
    const guest = { ...GUEST, isStream: true };
    for (let i = 0; i < 4; i++) {
      parkIn(lot, "pi", 4);
      expect(lot.refusesVisit("pi", guest)).to.be.undefined;
      expect(lot.claim("pi", true, guest)).to.be.an.instanceof(Tunnel);
    }
  });

  it("goes by the last tunnel that said how many the server opens, also when it comes back", () => {
    const lot = makeLot({ maxTunnelsPerVisitor: 48 });
    const tunnels = [parkIn(lot, "pi", 2), parkIn(lot), parkIn(lot)];
    expect(lot.claim("pi", true, GUEST)).to.equal(tunnels[2]);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
    for (const tunnel of tunnels) lot.remove(tunnel);
    for (let i = 0; i < 4; i++) parkIn(lot);
    expect(lot.claim("pi", true, GUEST)).to.be.an.instanceof(Tunnel);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
    parkIn(lot, "pi", 4);
    for (let i = 0; i < 2; i++)
      expect(lot.claim("pi", true, GUEST)).to.be.an.instanceof(Tunnel);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
  });

  it("lets only so many tunnels in of one server, and of all, claimed ones counted", () => {
    const lot = makeLot({ maxTunnelsPerServer: 2, maxTunnels: 3 });
    const [one] = [parkIn(lot, "one"), parkIn(lot, "one")];
    lot.claim("one", true, GUEST);
    expect(lot.refuses("one")).to.equal("too_many_tunnels");
    expect(lot.refuses("two")).to.be.undefined;
    parkIn(lot, "two");
    expect(lot.refuses("two")).to.equal("too_many_tunnels");
    lot.remove(one);
    lot.remove(one);
    expect(lot.refuses("two")).to.be.undefined;
    expect(lot.counts.tunnels).to.equal(2);
  });

  it("refuses those who have waited for HOLD_SECONDS, and says why", () => {
    const lot = makeLot();
    const now = performance.now();
    lot.remove(parkIn(lot, "gone"));
    parkIn(lot, "busy");
    lot.claim("busy", true, GUEST);
    const visitors = [
      waitIn(lot, "never"),
      waitIn(lot, "gone"),
      waitIn(lot, "busy"),
    ];
    lot.sweep(now + 9000);
    expect(visitors.map(({ refused }) => refused)).to.deep.equal([
      undefined,
      undefined,
      undefined,
    ]);
    lot.sweep(now + 11_000);
    expect(visitors.map(({ refused }) => refused)).to.deep.equal([
      "unknown_server",
      "server_offline",
      "busy",
    ]);
    expect(lot.counts.waiting).to.equal(0);
  });

  it("refuses a name that was never seen at once, but not in the first HOLD_SECONDS after it was first needed", () => {
    const lot = makeLot();
    // It has stood by for another relay.
    advanceClock(HOUR);
    waitIn(lot);
    advanceClock(9000);
    waitIn(lot, "another");
    advanceClock(2000);
    expect(lot.wait("third", new Visitor())).to.equal("unknown_server");
    parkIn(lot);
    lot.claim("pi", true, GUEST);
    waitIn(lot);
  });

  it("forgets a claimed tunnel that goes, and an idle one", () => {
    const lot = makeLot();
    const [one, two] = [parkIn(lot), parkIn(lot)];
    expect(lot.take(two)).to.be.true;
    expect(lot.take(two)).to.be.false;
    lot.remove(one);
    lot.remove(two);
    expect(lot.counts).to.include({ tunnels: 0, idle: 0 });
    expect([...lot.tunnels()]).to.deep.equal([]);
    expect(lot.claim("pi", true, GUEST)).to.be.undefined;
  });

  it("lets nobody in and nobody wait once it drains", () => {
    const lot = makeLot();
    const visitor = waitIn(lot);
    lot.drain();
    expect(visitor.refused).to.equal("draining");
    expect(lot.wait("pi", new Visitor())).to.equal("draining");
    expect(lot.refuses("pi")).to.equal("draining");
    parkIn(lot);
    expect(lot.idle()).to.deep.equal([]);
  });

  it("lets no tunnel in whose generation is over", () => {
    const lot = makeLot({}, () => 2);
    const visitor = waitIn(lot);
    const tunnel = parkIn(lot);
    expect(tunnel.link.closed).to.be.true;
    expect(visitor.served).to.be.undefined;
    expect(lot.counts.tunnels).to.equal(0);
  });

  it("ends what is revoked, whoever has it, and nothing else", () => {
    const revoked = new Set<string>();
    const lot = makeLot({}, (id) => (revoked.has(id) ? undefined : 1));
    const claimed = parkIn(lot);
    expect(lot.claim("pi", true, GUEST)).to.equal(claimed);
    const [idle, other] = [parkIn(lot), parkIn(lot, "tau")];
    const waiting = waitIn(lot, "pi");
    revoked.add("pi");
    expect(lot.revoke()).to.equal(2);
    for (const tunnel of [claimed, idle]) expect(tunnel.link.closed).to.be.true;
    expect(waiting.refused).to.equal("server_offline");
    expect(lot.idle()).to.deep.equal([other]);
    expect(lot.wait("pi", new Visitor())).to.equal("server_offline");
    expect(other.link.closed).to.be.false;
  });

  it("remembers a server for a day after its last tunnel, and then has nothing left", () => {
    const lot = makeLot();
    for (let i = 0; i < 4; i++) lot.remove(parkIn(lot, `id-${i}`));
    waitIn(lot, "never");
    lot.sweep(performance.now() + HOUR);
    expect(lot.counts).to.deep.equal({
      servers: 4,
      tunnels: 0,
      idle: 0,
      waiting: 0,
    });
    lot.sweep(performance.now() + DAY + HOUR);
    expect(lot.counts).to.deep.equal({
      servers: 0,
      tunnels: 0,
      idle: 0,
      waiting: 0,
    });
  });
});
