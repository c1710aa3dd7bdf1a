// Counts failures in a sliding window, so that guessing is slow.

/** Keys remembered at most; the one that failed longest ago is forgotten first. */
const MAX_KEYS = 100_000;

export class Throttle {
  readonly #failures: number;
  readonly #window: number;
  /** When each key failed, oldest first. sweep() and fail() remove what is over. */
  readonly #times = new Map<string, number[]>();

  /** So many failures within so many milliseconds are one too many. */
  constructor(failures: number, window: number) {
    this.#failures = failures;
    this.#window = window;
  }

  /** Whether this key has failed too often. `now` is of the monotonic clock. */
  blocks(key: string, now: number): boolean {
    const times = this.#times.get(key);
    const first = times?.at(-this.#failures);
    return first !== undefined && now - first < this.#window;
  }

  fail(key: string, now: number): void {
    const times = this.#times.get(key) ?? [];
    times.push(now);
    if (times.length > this.#failures) times.shift();
    this.#times.delete(key);
    this.#times.set(key, times);
    const [oldest] = this.#times.keys();
    if (this.#times.size > MAX_KEYS && oldest !== undefined)
      this.#times.delete(oldest);
  }

  /** Forgets keys whose last failure is over. */
  sweep(now: number): void {
    for (const [key, times] of this.#times) {
      if (now - (times.at(-1) ?? 0) < this.#window) break;
      this.#times.delete(key);
    }
  }
}
