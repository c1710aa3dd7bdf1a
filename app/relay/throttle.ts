// Counts failures in a sliding window, so that guessing is slow.
import { createHmac, randomBytes } from "node:crypto";
import { copyOf } from "./copy.ts";

/** Keys remembered at most; the one that failed longest ago is forgotten first. */
const MAX_KEYS = 100_000;
const SALT_OCTETS = 16;

export class Throttle {
  readonly #failures: number;
  readonly #window: number;
  readonly #places: number | undefined;
  /** Nobody can foresee which keys share a place. */
  readonly #salt = randomBytes(SALT_OCTETS);
  /** When each key or place failed, oldest first. sweep() and fail() remove what is over. */
  readonly #times = new Map<string, number[]>();

  /**
   * So many failures within so many milliseconds are one too many.
   * Without `places` a key is forgotten when MAX_KEYS others have failed since. With them none ever is, for keys share so many places, and a failure of one counts for all in its place.
   */
  constructor(failures: number, window: number, places?: number) {
    this.#failures = failures;
    this.#window = window;
    this.#places = places;
  }

  get size(): number {
    return this.#times.size;
  }

  /** Whether this key has failed too often. `now` is of the monotonic clock. */
  blocks(key: string, now: number): boolean {
    const times = this.#times.get(this.#nameOf(key));
    const first = times?.at(-this.#failures);
    return first !== undefined && now - first < this.#window;
  }

  fail(key: string, now: number): void {
    const name = this.#nameOf(key);
    const times = this.#times.get(name);
    times?.push(now);
    if (times !== undefined && times.length > this.#failures) times.shift();
    this.#times.delete(name);
    // It is part of a request's head.
    this.#times.set(copyOf(name), times ?? [now]);
    const [oldest] = this.#times.keys();
    if (
      this.#places === undefined &&
      this.#times.size > MAX_KEYS &&
      oldest !== undefined
    )
      this.#times.delete(oldest);
  }

  /** Forgets keys whose last failure is over. */
  sweep(now: number): void {
    for (const [key, times] of this.#times) {
      if (now - (times.at(-1) ?? 0) < this.#window) break;
      this.#times.delete(key);
    }
  }

  #nameOf(key: string): string {
    if (this.#places === undefined) return key;
    const hash = createHmac("sha256", this.#salt).update(key).digest();
    return String(hash.readUInt32BE() % this.#places);
  }
}
