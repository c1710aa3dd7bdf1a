// TCP visits and upgraded connections: kept alive by heartbeats, and ended when nothing moves for too long.
import { tendPipe, type BeatingPipe, type Pipe } from "../wire/pipe.ts";
import { splice, type Spliced } from "../wire/splice.ts";

export interface StreamOptions {
  readonly heartbeatSeconds: number;
  /** A splice on which nothing moves for so long is ended; 0 is never. */
  readonly idleSeconds: number;
  /** The same for one with octets under way that nobody takes. */
  readonly stallSeconds: number;
}

/** Every one under way. */
export class Streams {
  readonly #options: StreamOptions;
  /** join() takes a stream out when both its pipes are done. */
  readonly #streams = new Set<Stream>();
  /** Streams that end with a grant, and when: milliseconds since 1970. sweep() takes out what is over. */
  readonly #limited = new Map<readonly Pipe[], number>();

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  /** Splices two pipes, and looks after them until both are done. */
  join(visitor: Pipe, hidden: Pipe, done: (octets: Spliced) => void): void {
    const stream = new Stream(visitor, hidden);
    this.#streams.add(stream);
    splice(visitor, hidden, (octets) => {
      this.#streams.delete(stream);
      done(octets);
    });
  }

  /** Breaks both pipes at a time, if they are not over by then: milliseconds since 1970; undefined is never. */
  limit(visitor: Pipe, hidden: Pipe, until: number | undefined): void {
    if (until !== undefined) this.#limited.set([visitor, hidden], until);
  }

  /** Beats, and ends what is silent. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const stream of this.#streams) stream.sweep(now, this.#options);
    for (const [pipes, until] of this.#limited) {
      const isDue = Date.now() >= until;
      if (isDue) for (const pipe of pipes) pipe.reset();
      if (isDue || pipes.every((pipe) => pipe.over))
        this.#limited.delete(pipes);
    }
  }
}

/** Two pipes that are spliced. */
class Stream {
  readonly #pipes: readonly [Pipe, Pipe];
  #moved = 0;
  #movedAt = performance.now();

  constructor(visitor: Pipe, hidden: Pipe) {
    this.#pipes = [visitor, hidden];
  }

  sweep(now: number, options: StreamOptions): void {
    const { heartbeatSeconds, idleSeconds, stallSeconds } = options;
    for (const pipe of this.#pipes) {
      if (isBeating(pipe)) tendPipe(pipe, now, heartbeatSeconds * 1000);
    }
    const [visitor, hidden] = this.#pipes;
    const moved = visitor.received + hidden.received;
    const still = (now - this.#movedAt) / 1000;
    const stalled = visitor.paused || hidden.paused;
    if (moved !== this.#moved) {
      this.#moved = moved;
      this.#movedAt = now;
    } else if (
      (idleSeconds > 0 && still > idleSeconds) ||
      (stalled && stallSeconds > 0 && still > stallSeconds)
    ) {
      visitor.reset();
      hidden.reset();
    }
  }
}

function isBeating(pipe: Pipe): pipe is BeatingPipe {
  return "beat" in pipe;
}
