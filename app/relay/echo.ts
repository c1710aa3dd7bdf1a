// Gives back what it gets: how agents, dial and doctor find out whether a way carries octets in both directions.
import type { Receiver } from "../wire/link.ts";
import type { Pipe } from "../wire/pipe.ts";

/** More than any test needs, and too little to be worth a misuse. */
const MAX_OCTETS = 1024 * 1024;
/** Longer than the longest silence that a router is asked to bear. */
const MAX_MILLISECONDS = 15 * 60 * 1000;
const MAX_ECHOES = 256;
/** Of one address: nobody is to push the others out. */
const MAX_ECHOES_PER_ADDRESS = 32;

/** Every echo under way. */
export class Echoes {
  /** The oldest first. An echo's own end takes it out. */
  readonly #echoes = new Set<Echo>();

  /** Where there is no room the oldest goes: a test of a way lasts a moment, and whoever wants to take all places keeps none. */
  begin(pipe: Pipe, address: string): void {
    const own = [...this.#echoes].filter((echo) => echo.address === address);
    if (own.length >= MAX_ECHOES_PER_ADDRESS) this.#end(own[0]);
    const [oldest] = this.#echoes;
    if (this.#echoes.size >= MAX_ECHOES) this.#end(oldest);
    const echo = new Echo(pipe, address, () => this.#echoes.delete(echo));
    this.#echoes.add(echo);
    pipe.receiver = echo;
    if (pipe.over) echo.gone();
    else pipe.resume();
  }

  #end(echo: Echo | undefined): void {
    if (echo === undefined) return;
    this.#echoes.delete(echo);
    echo.cut();
  }

  /** Ends all of them. */
  close(): void {
    for (const echo of [...this.#echoes]) this.#end(echo);
  }

  /** Ends what has lasted too long. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const echo of this.#echoes) echo.sweep(now);
  }
}

class Echo implements Receiver {
  readonly address: string;
  readonly #pipe: Pipe;
  readonly #over: () => void;
  readonly #since = performance.now();

  constructor(pipe: Pipe, address: string, over: () => void) {
    this.address = address;
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
