// The lot: parked tunnels and waiting visitors, per hidden server. The only mutable state that requests share.
import type { FailureCode } from "../errors.ts";
import { Meter } from "./meter.ts";
import { Bucket } from "./rate.ts";
import { Shares, type Guest, type ShareOptions } from "./shares.ts";
import type { Tunnel } from "./tunnel.ts";

/** How long an id stays known after its last tunnel has gone. */
const REMEMBER_MILLISECONDS = 24 * 60 * 60 * 1000;
/** A tunnel used so recently is not about to be closed by the service behind it (Node and Apache do so after 5 s, gunicorn after 2 s). */
const WARM_MILLISECONDS = 1000;

export interface LotOptions extends ShareOptions {
  readonly maxTunnels: number;
  readonly maxTunnelsPerServer: number;
  /** Visitors that may wait for all servers together. */
  readonly maxWaiting: number;
  readonly holdSeconds: number;
  /** Visits to one server; 0 is no limit, here and below. */
  readonly ratePerServer: number;
  /** Both directions of all tunnels of one server. */
  readonly octetsPerSecondPerServer: number;
}

/** Who may park: Auth knows. */
export interface Standing {
  /** The generation of an id whose tunnels may be here; undefined when the id is revoked. */
  generationOf(id: string): number | undefined;
}

/** A visitor without a tunnel. Exactly one of serve() and refuse() is called, once, unless he leaves before. */
export interface Waiter extends Guest {
  /** Only a tunnel that has carried nothing yet will do. */
  readonly needsFresh: boolean;
  /** A tunnel is there, and the server is private: whether he may have it. If not he is refused when this returns. */
  enters(): boolean;
  serve(tunnel: Tunnel): void;
  refuse(code: FailureCode): void;
}

interface Server {
  readonly id: string;
  /** Every tunnel that has been let in and is not gone: idle, being proved, or claimed. remove() takes it out. */
  readonly tunnels: Set<Tunnel>;
  /** How many of them are private. */
  privates: number;
  /** Tunnels to claim, the one that was used last at the end. claim() and remove() take them out. */
  readonly idle: Tunnel[];
  /** Visitors in the order they came, with the end of their patience. park(), leave() and sweep() take them out. */
  readonly waiting: Map<Waiter, number>;
  readonly shares: Shares;
  readonly visits: Bucket | undefined;
  readonly meter: Meter | undefined;
  /** Milliseconds of the monotonic clock when the last tunnel went; undefined when none was ever here. */
  goneAt: number | undefined;
}

/** What the lot holds, for the health page, for tests, and for the log. */
export interface LotCounts {
  readonly servers: number;
  readonly tunnels: number;
  readonly idle: number;
  readonly waiting: number;
}

/** Whose limit it is that refusesVisit() speaks of, where the code alone may mean another. */
export function detailOf(code: FailureCode): string | undefined {
  return code === "too_many_requests" ? "for this hidden server" : undefined;
}

export class Lot {
  readonly #options: LotOptions;
  readonly #standing: Standing;
  readonly #servers = new Map<string, Server>();
  /** Milliseconds of the monotonic clock when the first visitor or hidden server came: one relay may stand by for another. */
  #startedAt: number | undefined;
  #tunnels = 0;
  #waiting = 0;
  #closed = false;
  #draining = false;

  constructor(options: LotOptions, standing: Standing) {
    this.#options = options;
    this.#standing = standing;
  }

  /** Whether one more tunnel of this id may come in. Undefined is yes. */
  refuses(id: string): FailureCode | undefined {
    if (this.#closed) return "draining";
    if (this.#tunnels >= this.#options.maxTunnels) return "too_many_tunnels";
    const tunnels = this.#servers.get(id)?.tunnels.size ?? 0;
    return tunnels >= this.#options.maxTunnelsPerServer
      ? "too_many_tunnels"
      : undefined;
  }

  /** Whether one more visit to this id may begin. Undefined is yes. */
  refusesVisit(id: string, guest: Guest): FailureCode | undefined {
    const server = this.#servers.get(id);
    if (server === undefined) return undefined;
    if (server.visits?.take(performance.now()) === false)
      return "too_many_requests";
    return guest.isStream && server.shares.refusesStream(guest)
      ? "too_many_streams"
      : undefined;
  }

  /** Whether a hidden server of this id is here now. */
  has(id: string): boolean {
    return (this.#servers.get(id)?.tunnels.size ?? 0) > 0;
  }

  /** Whether visitors of this id must show a grant now: one of its tunnels wants it, so that no other way leads past. */
  isPrivate(id: string): boolean {
    return (this.#servers.get(id)?.privates ?? 0) > 0;
  }

  /** Whether one is here, or was not long ago. */
  knows(id: string): boolean {
    return this.has(id) || this.#servers.get(id)?.goneAt !== undefined;
  }

  /**
   * Counts a tunnel in. It can be claimed only after park().
   * False, and the end of the tunnel, where it has been revoked since its token was taken.
   */
  admit(tunnel: Tunnel): boolean {
    if (this.#isRevoked(tunnel)) {
      tunnel.revoke();
      return false;
    }
    this.#startedAt ??= performance.now();
    const server = this.#server(tunnel.id);
    server.tunnels.add(tunnel);
    if (tunnel.isPrivate) server.privates++;
    server.shares.max = tunnel.max ?? server.shares.max;
    tunnel.link.meter = server.meter;
    this.#tunnels++;
    return true;
  }

  /** Puts a tunnel where it can be claimed, or gives it to the visitor who has waited longest and has a share left. */
  park(tunnel: Tunnel): void {
    if (this.#draining) {
      tunnel.leave();
      return;
    }
    const server = this.#server(tunnel.id);
    this.#uncount(server, tunnel);
    server.idle.push(tunnel);
    this.#match(server);
  }

  /**
   * Takes a tunnel out of the lot: the one used last, for it is the likeliest to be alive.
   * A request that could not be sent twice gets one that cannot have been closed for idleness, where there is one.
   */
  claim(id: string, repeatable: boolean, guest: Guest): Tunnel | undefined {
    const server = this.#servers.get(id);
    const last = server?.idle.at(-1);
    if (server === undefined || last === undefined) return undefined;
    if (hasNoShare(server, guest)) return undefined;
    const isFine =
      repeatable ||
      !last.used ||
      performance.now() - last.idleSince < WARM_MILLISECONDS;
    const fresh = isFine ? -1 : server.idle.findIndex(({ used }) => !used);
    const at = fresh < 0 ? server.idle.length - 1 : fresh;
    return this.#give(server, at, guest);
  }

  /**
   * Takes a tunnel for a stream out of the lot: one that no service is joined to yet. Where there are only others,
   * one of them is ended, so that the agent may park a new one.
   */
  claimFresh(id: string, guest: Guest): Tunnel | undefined {
    const server = this.#servers.get(id);
    if (server === undefined || hasNoShare(server, guest)) return undefined;
    const fresh = server.idle.findLastIndex((tunnel) => !tunnel.used);
    if (fresh >= 0) return this.#give(server, fresh, guest);
    server.idle[0]?.leave();
    return undefined;
  }

  /** A tunnel that was claimed is of no more use to whoever has it: his share is free. */
  free(tunnel: Tunnel): void {
    const server = this.#servers.get(tunnel.id);
    if (server === undefined || tunnel.guest === undefined) return;
    this.#uncount(server, tunnel);
    this.#match(server);
  }

  /** Takes one particular tunnel out, to ping it; false when somebody else has it. */
  take(tunnel: Tunnel): boolean {
    const idle = this.#servers.get(tunnel.id)?.idle ?? [];
    const index = idle.lastIndexOf(tunnel);
    if (index >= 0) idle.splice(index, 1);
    return index >= 0;
  }

  /** Forgets a tunnel, wherever it stands. */
  remove(tunnel: Tunnel): void {
    const server = this.#servers.get(tunnel.id);
    if (server?.tunnels.delete(tunnel) !== true) return;
    if (tunnel.isPrivate) server.privates--;
    this.#tunnels--;
    this.take(tunnel);
    this.free(tunnel);
    if (server.tunnels.size === 0) server.goneAt = performance.now();
  }

  /** Lets a visitor wait for a tunnel; says why when there is no place, or nothing to wait for. */
  wait(id: string, waiter: Waiter): FailureCode | undefined {
    if (this.#draining) return "draining";
    // Nobody is on his way back.
    if (this.#standing.generationOf(id) === undefined)
      return this.knows(id) ? "server_offline" : "unknown_server";
    const known = this.#servers.get(id);
    const now = performance.now();
    const deadline = now + this.#options.holdSeconds * 1000;
    this.#startedAt ??= now;
    const isNew = now < this.#startedAt + this.#options.holdSeconds * 1000;
    if (!isNew && !this.knows(id)) return "unknown_server";
    if (
      this.#waiting >= this.#options.maxWaiting ||
      (known?.waiting.size ?? 0) >= this.#options.maxWaitingPerServer
    )
      return "busy";
    const server = this.#server(id);
    if (server.shares.crowds(waiter)) return "busy";
    server.waiting.set(waiter, deadline);
    server.shares.queue(waiter);
    this.#waiting++;
    return undefined;
  }

  /** A visitor does not wait any more. */
  leave(id: string, waiter: Waiter): void {
    const server = this.#servers.get(id);
    if (server?.waiting.delete(waiter) !== true) return;
    server.shares.unqueue(waiter);
    this.#waiting--;
  }

  /** Ends the waits that have lasted too long, and forgets servers that have been gone too long. */
  sweep(now: number): void {
    for (const server of this.#servers.values()) {
      server.meter?.sweep(now);
      for (const [waiter, deadline] of server.waiting) {
        if (deadline > now) break;
        this.leave(server.id, waiter);
        waiter.refuse(this.#whyNot(server));
      }
      if (server.tunnels.size > 0 || server.waiting.size > 0) continue;
      if (
        server.goneAt === undefined ||
        now - server.goneAt > REMEMBER_MILLISECONDS
      )
        this.#servers.delete(server.id);
    }
  }

  /** Ends every tunnel that may not be here any more, and the waits for ids that may not come back. Gives the number of tunnels. */
  revoke(): number {
    const revoked = [...this.tunnels()].filter((tunnel) =>
      this.#isRevoked(tunnel),
    );
    // All of them first: a visitor whose tunnel breaks may look for another one at once.
    for (const tunnel of revoked) this.take(tunnel);
    for (const tunnel of revoked) tunnel.revoke();
    for (const server of this.#servers.values()) {
      if (this.#standing.generationOf(server.id) !== undefined) continue;
      this.#turnAway(server, "server_offline");
    }
    return revoked.length;
  }

  /** From now on no tunnel comes in. */
  close(): void {
    this.#closed = true;
  }

  /** From now on nobody waits either, and no tunnel stays. */
  drain(): void {
    this.#closed = this.#draining = true;
    for (const server of this.#servers.values())
      this.#turnAway(server, "draining");
  }

  /** Whether another tunnel of its server can be claimed as well as this one. */
  hasOther(tunnel: Tunnel): boolean {
    const idle = this.#servers.get(tunnel.id)?.idle ?? [];
    return idle.some((other) => other !== tunnel);
  }

  /** Every tunnel that can be claimed now. */
  idle(): Tunnel[] {
    return [...this.#servers.values()].flatMap((server) => server.idle);
  }

  /** Every tunnel that is here. */
  *tunnels(): Generator<Tunnel> {
    for (const server of this.#servers.values()) yield* server.tunnels;
  }

  get counts(): LotCounts {
    const idle = this.idle().length;
    return {
      servers: this.#servers.size,
      tunnels: this.#tunnels,
      idle,
      waiting: this.#waiting,
    };
  }

  #give(server: Server, at: number, guest: Guest): Tunnel | undefined {
    const [tunnel] = server.idle.splice(at, 1);
    if (tunnel === undefined) return undefined;
    tunnel.guest = guest;
    server.shares.hold(guest);
    return tunnel;
  }

  #uncount(server: Server, tunnel: Tunnel): void {
    const { guest } = tunnel;
    if (guest === undefined) return;
    tunnel.guest = undefined;
    server.shares.release(guest);
  }

  /** Serves whoever can be served now. */
  #match(server: Server): void {
    const { idle, waiting } = server;
    while (idle.length > 0 && waiting.size > 0) {
      const fresh = idle.findLastIndex((tunnel) => !tunnel.used);
      const { waiter, wantsFresh } = this.#next(server, fresh >= 0);
      if (waiter === undefined) {
        // Whoever waits for a fresh one gets it when one that is not makes room for it.
        if (wantsFresh) idle[0]?.leave();
        return;
      }
      this.leave(server.id, waiter);
      const at = waiter.needsFresh ? fresh : idle.length - 1;
      if (server.privates > 0 && !waiter.enters()) continue;
      const tunnel = this.#give(server, at, waiter);
      if (tunnel !== undefined) waiter.serve(tunnel);
    }
  }

  /** Who is next: he whose network holds the fewest tunnels, so that a crowd from one does not go before all others; the first of those to come. */
  #next(
    server: Server,
    hasFresh: boolean,
  ): { waiter: Waiter | undefined; wantsFresh: boolean } {
    const { shares, waiting } = server;
    let waiter: Waiter | undefined;
    let wantsFresh = false;
    let fewest = shares.most;
    for (const one of waiting.keys()) {
      const held = shares.heldBy(one);
      if (held >= fewest) continue;
      if (one.needsFresh && !hasFresh) {
        wantsFresh = true;
        continue;
      }
      waiter = one;
      fewest = held;
      if (held === 0) break;
    }
    return { waiter, wantsFresh };
  }

  #isRevoked({ id, generation }: Tunnel): boolean {
    return this.#standing.generationOf(id) !== generation;
  }

  #turnAway(server: Server, code: FailureCode): void {
    for (const waiter of [...server.waiting.keys()]) {
      this.leave(server.id, waiter);
      waiter.refuse(code);
    }
  }

  #whyNot(server: Server): FailureCode {
    if (server.tunnels.size > 0) return "busy";
    return server.goneAt === undefined ? "unknown_server" : "server_offline";
  }

  #server(id: string): Server {
    let server = this.#servers.get(id);
    if (server === undefined) {
      const { ratePerServer, octetsPerSecondPerServer } = this.#options;
      server = {
        id,
        tunnels: new Set(),
        privates: 0,
        idle: [],
        waiting: new Map(),
        shares: new Shares(this.#options),
        visits:
          ratePerServer > 0
            ? new Bucket(ratePerServer, performance.now())
            : undefined,
        meter:
          octetsPerSecondPerServer > 0
            ? new Meter(octetsPerSecondPerServer)
            : undefined,
        goneAt: undefined,
      };
      this.#servers.set(id, server);
    }
    return server;
  }
}

/** The visitors of his network hold as many tunnels as they may. */
function hasNoShare({ shares }: Server, guest: Guest): boolean {
  return shares.heldBy(guest) >= shares.most;
}
