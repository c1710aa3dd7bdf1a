// Two pipes joined: octets both ways until both are done. The one place where streams are joined.
import type { Receiver } from "./link.ts";
import type { Pipe } from "./pipe.ts";

/** How long a side may stay open when the other one has closed in good order. */
const LINGER_MILLISECONDS = 10 * 1000;

/** What became of a splice: octets from the first pipe to the second, and back. */
export interface Spliced {
  readonly there: number;
  readonly back: number;
}

/** Sees what passes, and changes nothing. */
export interface Tap {
  there(octets: Buffer): void;
  back(octets: Buffer): void;
}

/** Joins two pipes. A half-close is passed on as a half-close, a cut as a cut; a slow reader slows its writer down. */
export function splice(
  one: Pipe,
  other: Pipe,
  done: (spliced: Spliced) => void,
  tap?: Tap,
): void {
  let open = 2;
  const from = { there: one.received, back: other.received };
  const closed = (): void => {
    open--;
    if (open > 0) return;
    done({
      there: one.received - from.there,
      back: other.received - from.back,
    });
  };
  const seen = { there: tap?.there.bind(tap), back: tap?.back.bind(tap) };
  const [there, back] = [
    new Side(one, other, closed, seen.there),
    new Side(other, one, closed, seen.back),
  ];
  one.receiver = there;
  other.receiver = back;
  if (one.over) there.gone(false);
  if (other.over) back.gone(false);
  one.resume();
  other.resume();
}

class Side implements Receiver {
  readonly #own: Pipe;
  readonly #other: Pipe;
  readonly #closed: () => void;
  readonly #tap: ((octets: Buffer) => void) | undefined;
  #ended = false;

  constructor(
    own: Pipe,
    other: Pipe,
    closed: () => void,
    tap: ((octets: Buffer) => void) | undefined,
  ) {
    this.#own = own;
    this.#other = other;
    this.#closed = closed;
    this.#tap = tap;
  }

  data(octets: Buffer): void {
    this.#tap?.(octets);
    // Nobody will ever take them, as a closed socket would say.
    if (this.#other.over) this.#own.reset();
    else if (!this.#other.write(octets)) this.#own.pause();
  }

  end(): void {
    this.#ended = true;
    this.#other.end();
  }

  drain(): void {
    this.#other.resume();
  }

  gone(clean: boolean): void {
    this.#closed();
    // A stream that closed without an end was cut, even when no error says so.
    if (!clean || !this.#ended) {
      this.#other.reset();
      return;
    }
    this.#other.end();
    if (this.#other.over) return;
    // Who has gone can be told nothing more, and says nothing more either.
    const other = this.#other;
    setTimeout(() => {
      other.reset();
    }, LINGER_MILLISECONDS).unref();
  }
}
