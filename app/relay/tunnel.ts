// A tunnel: a connection from a hidden server on which the relay is the HTTP client. It receives for itself while nobody has claimed it.
import { randomBytes } from "node:crypto";
import { PING_FIELD, PONG_FIELD, PROVE_FIELD } from "../protocol.ts";
import {
  fieldOf,
  headEnd,
  readAnswerHead,
  type AnswerHead,
} from "../wire/head.ts";
import type { Link, Receiver } from "../wire/link.ts";
import { tendPipe, type BeatingPipe } from "../wire/pipe.ts";
import type { Lot } from "./lot.ts";
import type { Guest } from "./shares.ts";

/** How long a tunnel that has carried an exchange stays; the service behind it closes idle connections too (Node after 5 s). */
const USED_IDLE_MILLISECONDS = 4 * 1000;
/** How long the other side has to close after we have. */
const LEAVING_MILLISECONDS = 5 * 1000;
const MAX_PONG_OCTETS = 4 * 1024;
/** What a responder may say before it is met. */
const MAX_EARLY_OCTETS = 16 * 1024;

// Nonces need not be secret: they tie an answer to its ping.
const noncePrefix = randomBytes(6).toString("hex");
let nonceCount = 0;

/** proving: a ping is under way. idle: in the lot. claimed: somebody else receives. leaving: ended by us, not yet closed. */
type State = "proving" | "idle" | "claimed" | "leaving";

export interface TunnelOptions {
  readonly heartbeatSeconds: number;
}

/** How a tunnel differs from one that was parked by CONNECT. */
export interface TunnelPeculiarities {
  /** A responder of the generic protocol is greeted when it is claimed, and may have spoken before. */
  readonly greeting?: string;
  readonly early?: Buffer;
  /** A WebSocket, which has pings of its own. */
  readonly carrier?: BeatingPipe | undefined;
  /** Only visitors with a grant may have it. */
  readonly isPrivate?: boolean;
  /** Tunnels that its hidden server opens in all, where it says so. */
  readonly max?: number | undefined;
}

/** Whose a tunnel is, and the generation of the secret that it was parked with. */
export interface Owner {
  readonly id: string;
  readonly generation: number;
}

export class Tunnel implements Receiver {
  readonly id: string;
  readonly generation: number;
  readonly link: Link;
  /** What carries the link, where that must be kept alive by itself. */
  readonly carrier: BeatingPipe | undefined;
  /** Our agent is at the other end: it answers pings, and takes many exchanges. A legacy hidden server gets one. */
  readonly agent: boolean;
  /** Only visitors with a grant may have it. */
  readonly isPrivate: boolean;
  /** Tunnels that its hidden server opens in all; undefined where it does not say. */
  readonly max: number | undefined;
  /** It has carried an exchange: a service is joined to it, which may close it when idle. */
  used = false;
  /** Milliseconds of the monotonic clock when it became what it is now. */
  idleSince = performance.now();
  /** Who has claimed it, and holds a share of the server for it. The lot alone sets it. */
  guest: Guest | undefined;
  readonly #lot: Lot;
  readonly #heartbeat: number;
  #state: State = "claimed";
  #nonce = "";
  /** The first pong has come. */
  #proved = false;
  #greeting: string | undefined;
  #early: Buffer | undefined;
  /** The beginning of a pong. */
  #partial: Buffer | undefined;

  constructor(
    link: Link,
    { id, generation }: Owner,
    agent: boolean,
    lot: Lot,
    options: TunnelOptions,
    peculiarities: TunnelPeculiarities = {},
  ) {
    this.id = id;
    this.generation = generation;
    this.link = link;
    this.agent = agent;
    this.#lot = lot;
    this.#heartbeat = options.heartbeatSeconds * 1000;
    const { greeting, early, carrier, isPrivate, max } = peculiarities;
    this.carrier = carrier;
    this.isPrivate = isPrivate === true;
    this.max = max;
    this.#greeting = greeting;
    if (early !== undefined && early.length > 0)
      this.#early = Buffer.from(early);
    link.receiver = this;
  }

  get oneShot(): boolean {
    return !this.agent;
  }

  /** Lets the tunnel be claimed: an agent's once it has answered a ping, a legacy one at once. */
  open(): void {
    if (this.agent) this.#ping();
    else this.release();
  }

  /** Another receives from now on, until release() or the end. */
  claim(): void {
    this.#become("claimed");
    this.used = true;
    if (this.#greeting !== undefined) this.link.write(this.#greeting);
    this.#greeting = undefined;
  }

  /** What the hidden server said before it was claimed, once. */
  takeEarly(): Buffer | undefined {
    const early = this.#early;
    this.#early = undefined;
    return early;
  }

  /** Back into the lot. */
  release(): void {
    this.link.receiver = this;
    this.#become("idle");
    this.link.resume();
    this.#lot.park(this);
  }

  /** Ends the tunnel in good order. */
  leave(): void {
    this.#lot.take(this);
    this.link.receiver = this;
    this.#become("leaving");
    this.link.resume();
    this.link.end();
    this.#lot.free(this);
  }

  /** Breaks the tunnel, whoever has it now. */
  revoke(): void {
    this.#lot.take(this);
    // One that leaves carries nothing more, and may have a last word on its way.
    if (this.#state !== "leaving") this.link.reset();
  }

  /** Pings, ends and gives up what is due. `now` is of the monotonic clock. */
  sweep(now: number): void {
    const since = now - this.idleSince;
    if (this.carrier !== undefined)
      tendPipe(this.carrier, now, this.#heartbeat);
    if (this.#state === "proving" && since > this.#heartbeat)
      this.link.destroy();
    else if (this.#state === "leaving" && since > LEAVING_MILLISECONDS)
      this.link.destroy();
    else if (this.#state !== "idle") return;
    else if (this.used && since > USED_IDLE_MILLISECONDS) this.leave();
    else if (
      this.agent &&
      !this.used &&
      since > this.#heartbeat &&
      this.#lot.take(this)
    )
      this.#ping();
  }

  data(octets: Buffer): void {
    if (this.#state === "proving") this.#readPong(octets);
    else if (this.#state === "idle") this.#keep(octets);
  }

  /** Nothing may come on an idle tunnel, for it would be taken for the answer to the next request; but a responder may speak first. */
  #keep(octets: Buffer): void {
    const early = this.#early ?? Buffer.alloc(0);
    if (
      this.#greeting === undefined ||
      early.length + octets.length > MAX_EARLY_OCTETS
    )
      this.link.destroy();
    else this.#early = Buffer.concat([early, octets]);
  }

  end(): void {
    this.#lot.take(this);
    if (this.#state === "leaving") return;
    this.leave();
  }

  drain(): void {
    // What is written here is too short to wait for.
  }

  gone(): void {
    this.#lot.remove(this);
  }

  #become(state: State): void {
    this.#state = state;
    this.idleSince = performance.now();
  }

  #ping(): void {
    this.#become("proving");
    this.#nonce = `${noncePrefix}-${String(++nonceCount)}`;
    this.link.write(
      `OPTIONS * HTTP/1.1\r\nHost: ${this.id}\r\n${PING_FIELD}: ${this.#nonce}\r\n\r\n`,
    );
  }

  #readPong(octets: Buffer): void {
    const seen =
      this.#partial === undefined
        ? octets
        : Buffer.concat([this.#partial, octets]);
    const end = headEnd(seen, 0);
    if (end < 0 && seen.length <= MAX_PONG_OCTETS) {
      this.#partial = Buffer.from(seen);
      return;
    }
    this.#partial = undefined;
    const answer = end === seen.length ? this.#pongOf(seen) : undefined;
    if (answer === undefined) this.link.destroy();
    // The agent has more tunnels than it wants. Nobody can have claimed this one since the ping.
    else if (!answer.persistent) this.leave();
    else if (this.#wantsProof(answer)) this.#ping();
    else this.release();
  }

  /** The agent cannot know that its pong has arrived, unless something follows. It may ask so once. */
  #wantsProof({ fields }: AnswerHead): boolean {
    const wanted =
      !this.#proved && fieldOf(fields, PROVE_FIELD.toLowerCase()) !== undefined;
    this.#proved = true;
    return wanted;
  }

  /** The answer to the ping, if that is what these octets are. */
  #pongOf(octets: Buffer): AnswerHead | undefined {
    try {
      const answer = readAnswerHead(octets, octets.length, "OPTIONS");
      const nonce = fieldOf(answer.fields, PONG_FIELD.toLowerCase());
      return answer.status === 204 && nonce === this.#nonce
        ? answer
        : undefined;
    } catch {
      return undefined;
    }
  }
}
