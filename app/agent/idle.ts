// A parked tunnel at the agent's end: answers pings until something else comes.
import {
  CONNECT_TCP_PATH,
  PING_FIELD,
  PONG_FIELD,
  PROVE_FIELD,
} from "../protocol.ts";
import {
  MAX_HEAD_OCTETS,
  fieldOf,
  headEnd,
  readRequestHead,
} from "../wire/head.ts";
import type { Link, Receiver } from "../wire/link.ts";

/** What every ping, and every question for a TCP stream begins with; anything else is a visitor's request. */
const PING_START = Buffer.from("OPTIONS * HTTP/1.1\r\n");
const ASK_START = Buffer.from(`GET ${CONNECT_TCP_PATH}`);

export interface IdleEvents {
  /** The relay has pinged. The answer says whether the tunnel is to stay. */
  pinged(): boolean;
  /** A visitor's first octets have come; the tunnel is paused. */
  claimed(early: Buffer): void;
  /** The tunnel ended while nobody had claimed it. */
  lost(): void;
}

export class IdleTunnel implements Receiver {
  readonly link: Link;
  readonly #events: IdleEvents;
  #partial: Buffer | undefined;
  #over = false;
  /** Milliseconds of the monotonic clock when the relay was last heard. */
  heardAt = performance.now();
  /** The relay has pinged, and so can claim it. */
  proved = false;
  /** Something came before the first ping: whoever answered is no relay. */
  strange = false;
  /** What to do about a tunnel on a way that is not known yet; its second ping is answered by keep(). */
  readonly #prove: (() => void) | undefined;
  /** It has asked for the second ping. */
  #asked = false;
  /** The second ping, unanswered. */
  #held: string | undefined;

  /** With `prove` it is to show that its pongs arrive: prove() is called when they have. */
  constructor(link: Link, events: IdleEvents, prove?: () => void) {
    this.link = link;
    this.#prove = prove;
    this.#events = events;
    link.receiver = this;
  }

  data(octets: Buffer): void {
    this.heardAt = performance.now();
    const seen =
      this.#partial === undefined
        ? octets
        : Buffer.concat([this.#partial, octets]);
    this.#partial = undefined;
    if (beginsWith(seen, PING_START) || beginsWith(seen, ASK_START)) {
      const end = headEnd(seen, 0);
      if (end < 0 && seen.length < MAX_HEAD_OCTETS) {
        this.#partial = Buffer.from(seen);
        return;
      }
      const nonce = end === seen.length ? nonceOf(seen, end) : undefined;
      if (nonce !== undefined) {
        this.#pinged(nonce);
        return;
      }
    }
    if (!this.proved) {
      this.strange = true;
      this.link.destroy();
      this.#lose();
      return;
    }
    this.#over = true;
    this.link.pause();
    this.#events.claimed(Buffer.from(seen));
  }

  end(): void {
    this.link.end();
    this.#lose();
  }

  drain(): void {
    this.link.resume();
  }

  gone(): void {
    this.#lose();
  }

  /** Answers the second ping of a tunnel that has shown that its pongs arrive: it may be claimed from now on. */
  keep(): void {
    const nonce = this.#held;
    this.#held = undefined;
    if (nonce !== undefined) this.#pong(nonce);
  }

  #pinged(nonce: string): void {
    if (this.#prove === undefined || this.proved) this.#pong(nonce);
    else if (this.#asked) {
      this.proved = true;
      this.#held = nonce;
      this.#prove();
    } else {
      this.#asked = true;
      this.#answer(nonce, `${PROVE_FIELD}: 1\r\n`);
    }
  }

  #pong(nonce: string): void {
    this.proved = true;
    const stays = this.#events.pinged();
    // In this moment the relay cannot claim the tunnel: the one good moment to leave.
    this.#answer(nonce, stays ? "" : "Connection: close\r\n");
  }

  /** Whoever pings without reading the answers is not read either. */
  #answer(nonce: string, more: string): void {
    const flows = this.link.write(
      `HTTP/1.1 204 No Content\r\n${PONG_FIELD}: ${nonce}\r\n${more}\r\n`,
    );
    if (!flows) this.link.pause();
  }

  #lose(): void {
    if (this.#over) return;
    this.#over = true;
    this.#events.lost();
  }
}

/** Whether octets begin with `start`, as far as they go. */
function beginsWith(octets: Buffer, start: Buffer): boolean {
  const count = Math.min(octets.length, start.length);
  return start.compare(octets, 0, count, 0, count) === 0;
}

function nonceOf(octets: Buffer, end: number): string | undefined {
  try {
    return fieldOf(
      readRequestHead(octets, 0, end).fields,
      PING_FIELD.toLowerCase(),
    );
  } catch {
    return undefined;
  }
}
