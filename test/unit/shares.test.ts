// The lot's shares: whatever visitors of many networks do, nobody holds too much, nobody is forgotten, and nobody overtakes his own.
import { expect } from "chai";
import fc from "fast-check";
import { duplexPair, type Duplex } from "node:stream";
import type { FailureCode } from "../../app/errors.ts";
import { Lot, type Waiter } from "../../app/relay/lot.ts";
import { Tunnel } from "../../app/relay/tunnel.ts";
import { Link, UNOWNED } from "../../app/wire/link.ts";

const SHARE = 2;
const STREAMS = 3;
const STREAM_SHARE = 2;
const PLACES = 6;
const RUNS = 2000;

class Visitor implements Waiter {
  readonly network: string;
  readonly needsFresh: boolean;
  readonly isStream: boolean;
  tunnel: Tunnel | undefined;

  constructor(network: string, isStream: boolean) {
    this.network = network;
    this.isStream = isStream;
    this.needsFresh = isStream;
  }

  enters(): boolean {
    throw new Error("no server is private here");
  }

  serve(tunnel: Tunnel): void {
    expect(this.tunnel, "served once").to.be.undefined;
    this.tunnel = tunnel;
    tunnel.claim();
  }

  refuse(code: FailureCode): void {
    throw new Error(`nobody is refused here: ${code}`);
  }
}

/** The lot, and who is in it as a list that anybody can check. */
class World {
  readonly lot = new Lot(
    {
      maxTunnels: 100,
      maxTunnelsPerServer: 100,
      maxWaiting: 100,
      maxWaitingPerServer: PLACES,
      holdSeconds: 10,
      maxTunnelsPerVisitor: SHARE,
      maxStreamsPerServer: STREAMS,
      ratePerServer: 0,
      octetsPerSecondPerServer: 0,
    },
    { generationOf: () => 1 },
  );
  waiting: Visitor[] = [];
  served: Visitor[] = [];

  park(): void {
    const [near, far]: [Duplex, Duplex] = duplexPair();
    far.resume();
    const tunnel = new Tunnel(
      new Link(near, UNOWNED),
      { id: "pi", generation: 1 },
      false,
      this.lot,
      {
        heartbeatSeconds: 20,
      },
    );
    this.lot.admit(tunnel);
    tunnel.open();
  }

  come(network: string, isStream: boolean): void {
    const visitor = new Visitor(network, isStream);
    const full =
      (this.streams >= STREAMS || this.streamsOf(network) >= STREAM_SHARE) &&
      this.lot.knows("pi");
    const refused = this.lot.refusesVisit("pi", visitor);
    if (isStream && full) expect(refused).to.equal("too_many_streams");
    if (refused !== undefined) return;
    const tunnel = isStream
      ? this.lot.claimFresh("pi", visitor)
      : this.lot.claim("pi", true, visitor);
    if (tunnel !== undefined) {
      visitor.serve(tunnel);
      this.served.push(visitor);
      return;
    }
    const own = this.waiting.filter((other) => other.network === network);
    const code = this.lot.wait("pi", visitor);
    if (this.waiting.length >= PLACES || own.length >= PLACES / 2)
      expect(code).to.equal("busy");
    else expect(code).to.be.undefined;
    if (code === undefined) this.waiting.push(visitor);
  }

  giveUp(which: number): void {
    const visitor = this.waiting[which % this.waiting.length];
    if (visitor === undefined) return;
    this.lot.leave("pi", visitor);
    this.waiting = this.waiting.filter((other) => other !== visitor);
  }

  /** What becomes of a tunnel that is in use. */
  finish(which: number, how: "release" | "leave" | "die"): void {
    const visitor = this.served[which % this.served.length];
    const tunnel = visitor?.tunnel;
    if (tunnel === undefined) return;
    this.served = this.served.filter((other) => other !== visitor);
    if (how === "release") tunnel.release();
    else if (how === "leave") tunnel.leave();
    else this.lot.remove(tunnel);
  }

  loseIdle(which: number): void {
    const idle = this.lot.idle();
    const tunnel = idle[which % idle.length];
    if (tunnel !== undefined) this.lot.remove(tunnel);
  }

  get streams(): number {
    return [...this.waiting, ...this.served].filter(({ isStream }) => isStream)
      .length;
  }

  streamsOf(network: string): number {
    return [...this.waiting, ...this.served].filter(
      (visitor) => visitor.isStream && visitor.network === network,
    ).length;
  }

  held(network: string): number {
    return this.served.filter((visitor) => visitor.network === network).length;
  }

  check(): void {
    const before = this.waiting;
    const now = before.filter(({ tunnel }) => tunnel !== undefined);
    this.waiting = before.filter(({ tunnel }) => tunnel === undefined);
    this.served.push(...now);
    for (const visitor of now) {
      const overtaken = before
        .slice(0, before.indexOf(visitor))
        .filter(
          ({ tunnel, network, needsFresh }) =>
            tunnel === undefined &&
            network === visitor.network &&
            needsFresh === visitor.needsFresh,
        );
      expect(overtaken, "nobody overtakes his own").to.deep.equal([]);
    }
    const idle = this.lot.idle();
    for (const { network, needsFresh } of this.waiting) {
      if (this.held(network) >= SHARE) continue;
      const fitting = idle.filter(({ used }) => !needsFresh || !used);
      expect(fitting.length, "nobody waits for what is there").to.equal(0);
    }
    for (const network of ["a", "b", "c"])
      expect(this.held(network), "a share").to.be.at.most(SHARE);
    for (const network of ["a", "b", "c"])
      expect(this.streamsOf(network)).to.be.at.most(STREAM_SHARE);
    expect(this.streams).to.be.at.most(STREAMS);
    expect(this.lot.counts.waiting).to.equal(this.waiting.length);
    const tunnels = this.served.map(({ tunnel }) => tunnel);
    expect(new Set([...tunnels, ...idle]).size).to.equal(
      tunnels.length + idle.length,
    );
  }
}

type Step = (world: World) => void;

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.constant<Step>((world) => {
    world.park();
  }),
  fc
    .tuple(fc.constantFrom("a", "a", "b", "c"), fc.boolean())
    .map(([network, isStream]): Step => (world) => {
      world.come(network, isStream);
    }),
  fc
    .tuple(fc.nat(20), fc.constantFrom("release", "release", "leave", "die"))
    .map(([which, how]): Step => (world) => {
      world.finish(which, how);
    }),
  fc.nat(20).map((which): Step => (world) => {
    world.giveUp(which);
  }),
  fc.nat(20).map((which): Step => (world) => {
    world.loseIdle(which);
  }),
);

describe("the shares of a hidden server's visitors", () => {
  it("hold whatever happens: no share too large, nobody forgotten, nobody overtaken by his own", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const world = new World();
        for (const take of steps) {
          take(world);
          world.check();
        }
        // Everybody is served in the end, and then nothing is left.
        for (let left = 200; world.waiting.length > 0 && left > 0; left--) {
          if (world.served.length > 0) world.finish(0, "die");
          world.park();
          world.check();
        }
        expect(world.waiting).to.deep.equal([]);
        while (world.served.length > 0) world.finish(0, "release");
        const next = new Visitor("a", true);
        expect(world.lot.refusesVisit("pi", next)).to.be.undefined;
        expect(world.streams).to.equal(0);
      }),
      { numRuns: RUNS },
    );
  });
});
