// The agent: keeps tunnels parked on a relay and joins each claimed one to the local service.
//   visitor -> relay ==tunnel==> agent -> hidden server
import { EventEmitter, setMaxListeners } from "node:events";
import { SILENT_HEARTBEATS, type Way } from "../protocol.ts";
import type { Link } from "../wire/link.ts";
import { LadderError, climb, type Tried } from "../wire/ladder.ts";
import { securedBy, type Address } from "../wire/outbound.ts";
import { tendPipe, type BeatingPipe } from "../wire/pipe.ts";
import { VERSION } from "../version.ts";
import { Backoff, mildest, type Trouble } from "./backoff.ts";
import { IdleTunnel, type IdleEvents } from "./idle.ts";
import { checkOptions, type ParkOptions, type Target } from "./options.ts";
import {
  ParkError,
  parkOnce,
  type Identity,
  type ParkedTunnel,
} from "./reach.ts";
import { joinOffer, type Join, type ServiceAddress } from "./target.ts";

/** Tunnels that went one by one come back within this time. */
const SPREAD_MILLISECONDS = 1000;
/** Every so many failures all ways are tried again, and not only the one that led there. */
const SEARCH_EVERY = 4;
/** How long a better way is waited for when a lesser one has carried octets in both directions. */
const PROOF_MILLISECONDS = 3 * 1000;
/** How long a tunnel may take to carry octets in both directions, after it was granted. */
const GRANTED_MILLISECONDS = 15 * 1000;
/** Short beside the shortest heartbeat, a second. */
const SWEEP_MILLISECONDS = 250;
/** How long more spare tunnels are kept than asked for, after they were all taken at once. */
const GROWN_MILLISECONDS = 10 * 1000;

interface AgentEvents {
  /** The first tunnel stands (again). */
  up: [visit: URL];
  /** The way that was found to get through, and why not each other one. */
  way: [way: Way, tried: Tried<Way>];
  /** Nothing is parked, or not for long; the next attempt comes by itself, after so many seconds. */
  trouble: [reason: string, seconds: number];
  /** A visitor has come, and the service takes no connection. */
  down: [service: ServiceAddress, reason: string];
}

/**
 * Serves a hidden server through a relay, until close().
 * @throws RangeError for an id, a secret or numbers that cannot be
 */
export function park(target: Target, options: ParkOptions): Agent {
  return new Agent(target, options);
}

export class Agent extends EventEmitter<AgentEvents> {
  readonly #join: Join;
  /** Changed once, by a redirect from http to https. */
  #relay: Address;
  readonly #ways: readonly Way[];
  /** The way that gets through; undefined until one has, and after it has stopped to. */
  #way: Way | undefined;
  /** The way that led there last; undefined when something else has answered there since. */
  #known: Way | undefined;
  readonly #identity: Identity;
  readonly #spare: number;
  readonly #max: number;
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  /** Attempts under way. */
  #opening = 0;
  /** Tunnels the relay has, or is about to have, in its lot. */
  readonly #idle = new Set<IdleTunnel>();
  /** Tunnels of which the relay was told to let go; taken out when they have closed. */
  readonly #leaving = new Set<IdleTunnel>();
  /** Links of claimed tunnels; taken out when all is closed. */
  readonly #joined = new Set<Link>();
  /** Streams to keep alive; sweep() removes those that are over. */
  readonly #streams = new Set<BeatingPipe>();
  /** Links that may be paused, to the relay and to services; sweep() removes those that are over. */
  readonly #links = new Set<Link>();
  /** Idle tunnels wanted now: #spare, or more after a rush. */
  #wanted: number;
  #rushedAt = -Infinity;
  readonly #backoff = new Backoff();
  #retry: NodeJS.Timeout | undefined;
  /** Where visitors come in; undefined while nothing is parked. */
  #visit: URL | undefined;
  #heartbeat = 20 * 1000;
  #closed: (() => void) | undefined;

  constructor(target: Target, options: ParkOptions) {
    super();
    setMaxListeners(0, this.#abort.signal);
    const { http, tcp, tap, relay, identity, ways, spare, max } = checkOptions(
      target,
      options,
    );
    this.#join = joinOffer({
      http,
      tcp,
      tap,
      tend: (pipe) => this.#streams.add(pipe),
      watch: (link) => this.#links.add(link),
      missed: (service, reason) => {
        this.emit("down", service, reason);
      },
    });
    this.#relay = relay;
    this.#identity = identity;
    this.#ways = ways;
    this.#spare = spare;
    this.#max = max;
    this.#wanted = Math.min(this.#spare, this.#max);
    this.#timer = setInterval(() => {
      this.#sweep();
    }, SWEEP_MILLISECONDS);
    this.#fill();
  }

  /** Resolves with the URL for visitors once the first tunnel stands. */
  async ready(): Promise<URL> {
    if (this.#visit !== undefined) return this.#visit;
    return new Promise((resolve, reject) => {
      this.once("up", resolve);
      this.#abort.signal.addEventListener("abort", () => {
        reject(new Error("the agent was closed before it was up"));
      });
    });
  }

  get counts(): {
    readonly opening: number;
    readonly idle: number;
    readonly joined: number;
  } {
    return {
      opening: this.#opening,
      idle: this.#idle.size,
      joined: this.#joined.size,
    };
  }

  /** Parks no more, lets what is under way finish within `seconds`, then closes all. */
  async close(seconds = 0): Promise<void> {
    this.#abort.abort();
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    for (const { link } of [...this.#idle, ...this.#leaving]) link.destroy();
    if (seconds > 0 && this.#joined.size > 0) {
      const deadline = setTimeout(() => this.#closed?.(), seconds * 1000);
      await new Promise<void>((resolve) => (this.#closed = resolve));
      clearTimeout(deadline);
    }
    for (const link of this.#joined) link.destroy();
  }

  /** Begins as many attempts as are wanted. After a failure one alone tries whether things are better. */
  #fill(): void {
    if (this.#abort.signal.aborted || this.#retry !== undefined) return;
    const missing =
      Math.min(
        this.#wanted - this.#idle.size,
        this.#max - this.#idle.size - this.#leaving.size - this.#joined.size,
      ) - this.#opening;
    const unproved = [...this.#idle].filter((tunnel) => !tunnel.proved).length;
    const allowed =
      this.#backoff.failures > 0 ? 1 - this.#opening - unproved : missing;
    const way = this.#way;
    if (way === undefined) {
      if (missing > 0 && this.#opening === 0) void this.#findWay();
      return;
    }
    for (let i = Math.min(missing, allowed); i > 0; i--)
      void this.#keepOne(way);
  }

  /** Goes all ways at once, or the one that led there last; the first tunnel comes of it. */
  async #findWay(): Promise<void> {
    this.#opening++;
    // A relay that comes back is asked by all its agents: each asks once.
    const known =
      this.#backoff.failures % SEARCH_EVERY === 0 ? undefined : this.#known;
    try {
      const { way, proved, tried } = await climb({
        ways: known === undefined ? this.#ways : [known],
        attempt: (one, signal) => this.#proveOne(one, signal),
        discard: ({ link }) => {
          link.destroy();
        },
        isFinal: (error) => error instanceof ParkError && error.isFinal,
        milliseconds: PROOF_MILLISECONDS,
        signal: this.#abort.signal,
      });
      this.#opening--;
      this.#way = this.#known = way;
      this.emit("way", way, tried);
      this.#idle.add(proved);
      proved.keep();
    } catch (error) {
      this.#opening--;
      if (this.#abort.signal.aborted) return;
      if (this.#redirect(error)) this.#fill();
      else if (error instanceof LadderError) {
        const trouble = mildest([...error.failures.values()].map(troubleIn));
        if (trouble !== "away") this.#known = undefined;
        // Something else stands where the relay was; another way may still lead to it.
        this.#fail(error.message, known === undefined ? trouble : "away");
      } else if (error instanceof ParkError)
        this.#fail(error.message, error.trouble);
      else throw error;
    }
  }

  /** Follows a redirect from http to https on the same host, once and for good. */
  #redirect(error: unknown): boolean {
    const failures: unknown[] =
      error instanceof LadderError ? [...error.failures.values()] : [error];
    for (const failure of failures) {
      const location =
        failure instanceof ParkError ? failure.location : undefined;
      const secure = securedBy(location, this.#relay);
      if (secure === undefined) continue;
      this.#relay = secure;
      return true;
    }
    return false;
  }

  /** Parks one tunnel by a way of which nothing is known, and waits until it has carried octets in both directions. */
  async #proveOne(way: Way, signal: AbortSignal): Promise<IdleTunnel> {
    const parked = await parkOnce(
      way,
      this.#relay,
      this.#identity,
      VERSION,
      signal,
    );
    return new Promise((resolve, reject) => {
      const tunnel = this.#receive(parked, {
        proved: () => {
          clearTimeout(deadline);
          resolve(tunnel);
        },
        lost: () => {
          clearTimeout(deadline);
          reject(
            new ParkError(
              tunnel.strange
                ? "what was granted is no tunnel"
                : "it carried octets in one direction only",
            ),
          );
        },
      });
      const giveUp = (): void => {
        tunnel.link.destroy();
      };
      const deadline = setTimeout(giveUp, GRANTED_MILLISECONDS);
      signal.addEventListener("abort", giveUp);
      if (signal.aborted) giveUp();
    });
  }

  async #keepOne(way: Way): Promise<void> {
    this.#opening++;
    try {
      const parked = await parkOnce(
        way,
        this.#relay,
        this.#identity,
        VERSION,
        this.#abort.signal,
      );
      this.#opening--;
      this.#idle.add(this.#receive(parked));
    } catch (error) {
      this.#opening--;
      if (!(error instanceof ParkError)) throw error;
      this.#fail(error.message, error.trouble);
    }
  }

  /** Receives on a parked tunnel. With `proof` it is one that is not in use yet. */
  #receive(
    { link, carrier, early, heartbeatSeconds, visit }: ParkedTunnel,
    proof?: { readonly proved: () => void; readonly lost: () => void },
  ): IdleTunnel {
    this.#heartbeat = heartbeatSeconds * 1000;
    if (this.#abort.signal.aborted) link.destroy();
    this.#links.add(link);
    if (carrier !== undefined) this.#streams.add(carrier);
    const events: IdleEvents = {
      pinged: () => {
        this.#proved(visit);
        if (this.#idle.size <= this.#wanted) return true;
        // The relay pings many in one moment: those that leave do not count for the next.
        this.#idle.delete(tunnel);
        this.#leaving.add(tunnel);
        return false;
      },
      claimed: (octets) => {
        this.#claimed(tunnel, octets);
      },
      lost: () => {
        if (proof !== undefined && !this.#idle.has(tunnel)) proof.lost();
        else this.#lost(tunnel);
      },
    };
    const tunnel = new IdleTunnel(link, events, proof?.proved);
    // It is in its place before anything happens to it.
    queueMicrotask(() => {
      if (link.over) tunnel.gone();
      else if (early.length > 0) tunnel.data(early);
      link.resume();
    });
    return tunnel;
  }

  #proved(visit: URL): void {
    this.#backoff.succeeded();
    if (this.#visit === undefined) {
      this.#visit = visit;
      this.emit("up", visit);
    }
    this.#fill();
  }

  #claimed(tunnel: IdleTunnel, early: Buffer): void {
    this.#idle.delete(tunnel);
    this.#leaving.delete(tunnel);
    this.#joined.add(tunnel.link);
    if (this.#idle.size === 0) {
      this.#wanted = Math.min(this.#wanted * 2, this.#max);
      this.#rushedAt = performance.now();
    }
    this.#join(tunnel.link, early, () => {
      this.#joined.delete(tunnel.link);
      if (this.#joined.size === 0) this.#closed?.();
      this.#fill();
    });
    this.#fill();
  }

  #lost(tunnel: IdleTunnel): void {
    this.#idle.delete(tunnel);
    if (this.#leaving.delete(tunnel) || this.#abort.signal.aborted) return;
    if (!tunnel.proved)
      this.#fail("the relay let a tunnel go before it had pinged it", "away");
    // The relay restarts, or does not want so many; agents must not all come back in the same moment.
    else if (this.#idle.size === 0 && this.#visit !== undefined) {
      // What put the next attempt off does not hold any more.
      clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#fail("the relay has gone", "away");
    } else this.#later(Math.random() * SPREAD_MILLISECONDS);
  }

  #fail(reason: string, trouble: Trouble): void {
    // Attempts that fail together count once.
    if (this.#abort.signal.aborted || this.#retry !== undefined) return;
    const delay = this.#backoff.failed(trouble, performance.now());
    this.#later(delay);
    // One tunnel less than there could be.
    if ([...this.#idle].some(({ proved }) => proved)) return;
    // Whatever stands before the relay may have changed.
    if (isOpen(trouble) && this.#idle.size === 0) this.#way = undefined;
    this.#visit = undefined;
    this.emit("trouble", reason, delay / 1000);
  }

  #later(delay: number): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#fill();
    }, delay);
  }

  /** A relay that has not been heard for two heartbeats is gone, whatever the socket says. */
  #sweep(): void {
    const now = performance.now();
    if (now - this.#rushedAt > GROWN_MILLISECONDS)
      this.#wanted = Math.min(this.#spare, this.#max);
    for (const { link, heardAt } of [...this.#idle, ...this.#leaving]) {
      if (now - heardAt > SILENT_HEARTBEATS * this.#heartbeat) link.destroy();
    }
    for (const pipe of this.#streams) {
      if (pipe.over) this.#streams.delete(pipe);
      else tendPipe(pipe, now, this.#heartbeat);
    }
    for (const link of this.#links) {
      if (link.over) this.#links.delete(link);
      else link.probe();
    }
    this.#fill();
  }
}

/** The relay has not said no. */
function isOpen(trouble: Trouble): boolean {
  return trouble === "away" || trouble === "unfit";
}

function troubleIn(error: Error): Trouble {
  return error instanceof ParkError ? error.trouble : "away";
}
