// Gives back what it gets: how agents, dial and doctor find out whether a way carries octets in both directions.
import type { Receiver } from "../wire/link.ts";
import type { Pipe } from "../wire/pipe.ts";

/** More than any test needs, and too little to be worth a misuse. */
const MAX_OCTETS = 1024 * 1024;
/** Longer than the longest silence that a router is asked to bear. */
const MAX_MILLISECONDS = 15 * 60 * 1000;
const MAX_ECHOES = 256;

/** Every echo under way. */
export class Echoes {
  /** The oldest first. An echo's own end takes it out. */
  readonly #echoes = new Set<Echo>();

  /** Where there is no room the oldest goes: a test of a way lasts a moment, and whoever wants to take all places keeps none. */
  begin(pipe: Pipe): void {
    for (const oldest of this.#echoes) {
      if (this.#echoes.size < MAX_ECHOES) break;
      this.#echoes.delete(oldest);
      oldest.cut();
    }
    const echo = new Echo(pipe, () => this.#echoes.delete(echo));
    this.#echoes.add(echo);
    pipe.receiver = echo;
    if (pipe.over) echo.gone();
    else pipe.resume();
  }

  /** Ends what has lasted too long. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const echo of this.#echoes) echo.sweep(now);
  }

  get count(): number {
    return this.#echoes.size;
  }
}

class Echo implements Receiver {
  readonly #pipe: Pipe;
  readonly #over: () => void;
  readonly #since = performance.now();

  constructor(pipe: Pipe, over: () => void) {
    this.#pipe = pipe;
    this.#over = over;
  }

  data(octets: Buffer): void {
    if (this.#pipe.received > MAX_OCTETS) this.#pipe.reset();
    else if (!this.#pipe.write(octets)) this.#pipe.pause();
  }

  end(): void {
    this.#pipe.end();
  }

  drain(): void {
    this.#pipe.resume();
  }

  gone(): void {
    this.#over();
  }

  sweep(now: number): void {
    if (now - this.#since > MAX_MILLISECONDS) this.cut();
  }

  cut(): void {
    this.#pipe.reset();
  }
}
