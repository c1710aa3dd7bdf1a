// The lot: parked tunnels and waiting visitors, per hidden server. The only mutable state that requests share.
import type { FailureCode } from "../errors.ts";
import type { Tunnel } from "./tunnel.ts";

/** How long an id stays known after its last tunnel has gone. */
const REMEMBER_MILLISECONDS = 24 * 60 * 60 * 1000;
/** A tunnel used so recently is not about to be closed by the service behind it (Node and Apache do so after 5 s, gunicorn after 2 s). */
const WARM_MILLISECONDS = 1000;

export interface LotOptions {
  readonly maxTunnels: number;
  readonly maxTunnelsPerServer: number;
  /** Visitors that may wait for all servers together, and for each one. */
  readonly maxWaiting: number;
  readonly maxWaitingPerServer: number;
  readonly holdSeconds: number;
}

/** A visitor without a tunnel. Exactly one of the two is called, once, unless he leaves before. */
export interface Waiter {
  /** Only a tunnel that has carried nothing yet will do. */
  readonly needsFresh: boolean;
  serve(tunnel: Tunnel): void;
  refuse(code: FailureCode): void;
}

interface Server {
  readonly id: string;
  /** Every tunnel that has been let in and is not gone: idle, being proved, or claimed. remove() takes it out. */
  readonly tunnels: Set<Tunnel>;
  /** Tunnels to claim, the one that was used last at the end. claim() and remove() take them out. */
  readonly idle: Tunnel[];
  /** Visitors in the order they came, with the end of their patience. park(), leave() and sweep() take them out. */
  readonly waiting: Map<Waiter, number>;
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

export class Lot {
  readonly #options: LotOptions;
  readonly #servers = new Map<string, Server>();
  readonly #startedAt = performance.now();
  #tunnels = 0;
  #waiting = 0;
  #draining = false;

  constructor(options: LotOptions) {
    this.#options = options;
  }

  /** Whether one more tunnel of this id may come in. Undefined is yes. */
  refuses(id: string): FailureCode | undefined {
    if (this.#draining) return "draining";
    if (this.#tunnels >= this.#options.maxTunnels) return "too_many_tunnels";
    const tunnels = this.#servers.get(id)?.tunnels.size ?? 0;
    return tunnels >= this.#options.maxTunnelsPerServer
      ? "too_many_tunnels"
      : undefined;
  }

  /** Whether a hidden server of this id is here now. */
  has(id: string): boolean {
    return (this.#servers.get(id)?.tunnels.size ?? 0) > 0;
  }

  /** Whether one is here, or was not long ago. */
  knows(id: string): boolean {
    return this.has(id) || this.#servers.get(id)?.goneAt !== undefined;
  }

  /** Counts a tunnel in. It can be claimed only after park(). */
  admit(tunnel: Tunnel): void {
    this.#server(tunnel.id).tunnels.add(tunnel);
    this.#tunnels++;
  }

  /** Puts a tunnel where it can be claimed, or gives it to the visitor who has waited longest. */
  park(tunnel: Tunnel): void {
    if (this.#draining) {
      tunnel.leave();
      return;
    }
    const server = this.#server(tunnel.id);
    let passedOver = false;
    for (const waiter of server.waiting.keys()) {
      if (waiter.needsFresh && tunnel.used) {
        passedOver = true;
        continue;
      }
      this.leave(tunnel.id, waiter);
      waiter.serve(tunnel);
      return;
    }
    // Whoever waits for a fresh one gets it when this one makes room for it.
    if (passedOver) tunnel.leave();
    else server.idle.push(tunnel);
  }

  /**
   * Takes a tunnel out of the lot: the one used last, for it is the likeliest to be alive.
   * A request that could not be sent twice gets one that cannot have been closed for idleness, where there is one.
   */
  claim(id: string, repeatable: boolean): Tunnel | undefined {
    const idle = this.#servers.get(id)?.idle;
    const last = idle?.at(-1);
    if (idle === undefined || last === undefined) return undefined;
    if (
      repeatable ||
      !last.used ||
      performance.now() - last.idleSince < WARM_MILLISECONDS
    )
      return idle.pop();
    const fresh = idle.findIndex((tunnel) => !tunnel.used);
    return fresh < 0 ? idle.pop() : idle.splice(fresh, 1)[0];
  }

  /**
   * Takes a tunnel for a stream out of the lot: one that no service is joined to yet. Where there are only others,
   * one of them is ended, so that the agent may park a new one.
   */
  claimFresh(id: string): Tunnel | undefined {
    const idle = this.#servers.get(id)?.idle ?? [];
    const fresh = idle.findLastIndex((tunnel) => !tunnel.used);
    if (fresh >= 0) return idle.splice(fresh, 1)[0];
    idle[0]?.leave();
    return undefined;
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
    this.#tunnels--;
    this.take(tunnel);
    if (server.tunnels.size === 0) server.goneAt = performance.now();
  }

  /** Lets a visitor wait for a tunnel; says why when there is no place, or nothing to wait for. */
  wait(id: string, waiter: Waiter): FailureCode | undefined {
    if (this.#draining) return "draining";
    const known = this.#servers.get(id);
    const deadline = performance.now() + this.#options.holdSeconds * 1000;
    if (
      !this.knows(id) &&
      performance.now() - this.#startedAt >= this.#options.holdSeconds * 1000
    )
      return "unknown_server";
    if (
      this.#waiting >= this.#options.maxWaiting ||
      (known?.waiting.size ?? 0) >= this.#options.maxWaitingPerServer
    )
      return "busy";
    this.#server(id).waiting.set(waiter, deadline);
    this.#waiting++;
    return undefined;
  }

  /** A visitor does not wait any more. */
  leave(id: string, waiter: Waiter): void {
    if (this.#servers.get(id)?.waiting.delete(waiter) === true) this.#waiting--;
  }

  /** Ends the waits that have lasted too long, and forgets servers that have been gone too long. */
  sweep(now: number): void {
    for (const server of this.#servers.values()) {
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

  /** From now on nobody comes in and nobody waits. */
  drain(): void {
    this.#draining = true;
    for (const server of this.#servers.values()) {
      for (const waiter of [...server.waiting.keys()]) {
        this.leave(server.id, waiter);
        waiter.refuse("draining");
      }
    }
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

  #whyNot(server: Server): FailureCode {
    if (server.tunnels.size > 0) return "busy";
    return server.goneAt === undefined ? "unknown_server" : "server_offline";
  }

  #server(id: string): Server {
    let server = this.#servers.get(id);
    if (server === undefined) {
      server = {
        id,
        tunnels: new Set(),
        idle: [],
        waiting: new Map(),
        goneAt: undefined,
      };
      this.#servers.set(id, server);
    }
    return server;
  }
}
