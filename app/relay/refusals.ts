// Refusals: what is refused before anybody looks at it, and so often that a line of the log for each would be one more harm.
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";

/** At most one line in so long. */
const QUIET_MILLISECONDS = 10 * 1000;

export class Refusals {
  readonly #log: Logger;
  /** How many since the last line; sweep() empties it. */
  readonly #counts = new Map<FailureCode, number>();
  #loggedAt = -Infinity;

  constructor(log: Logger) {
    this.#log = log;
  }

  count(code: FailureCode): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1);
  }

  /** Tells the log. `now` is of the monotonic clock. */
  sweep(now: number): void {
    if (this.#counts.size === 0) return;
    if (now - this.#loggedAt < QUIET_MILLISECONDS) return;
    this.#loggedAt = now;
    this.#log.warn(Object.fromEntries(this.#counts), "refused, by limits");
    this.#counts.clear();
  }
}
