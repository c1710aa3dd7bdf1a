// Rates: a bucket of tokens that fills as time passes, one for each name.

/** Seconds that a full bucket lasts: who was quiet may come in a burst. */
const BURST_SECONDS = 2;
/** Names remembered at most; the one that came first is forgotten first, and would have a full bucket then. */
const MAX_NAMES = 100_000;

/** A full bucket gives BURST_SECONDS' worth of tokens at once; an empty one has the next after 1 / rate s, which is a second at most. */
export class Bucket {
  readonly #rate: number;
  #tokens: number;
  #at: number;

  /** `perSecond` tokens come each second; `now` is of the monotonic clock. */
  constructor(perSecond: number, now: number) {
    this.#rate = perSecond / 1000;
    this.#tokens = perSecond * BURST_SECONDS;
    this.#at = now;
  }

  /** Takes a token; false when there is none. */
  take(now: number): boolean {
    const tokens = Math.min(
      this.#tokens + (now - this.#at) * this.#rate,
      this.#rate * BURST_SECONDS * 1000,
    );
    this.#at = now;
    this.#tokens = tokens < 1 ? tokens : tokens - 1;
    return tokens >= 1;
  }

  /** It has been left alone for so long that it is full. */
  isFull(now: number): boolean {
    return now - this.#at >= BURST_SECONDS * 1000;
  }
}

/** A bucket for each name. */
export class Rate {
  readonly #perSecond: number;
  readonly #maxNames: number;
  /** sweep() takes out what is full, take() what is too many. */
  readonly #buckets = new Map<string, Bucket>();
  #sweptAt = 0;

  /** 0 is no limit. */
  constructor(perSecond: number, maxNames = MAX_NAMES) {
    this.#perSecond = perSecond;
    this.#maxNames = maxNames;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes a token of this name; false when it has none. `now` is of the monotonic clock. */
  take(name: string, now: number): boolean {
    if (this.#perSecond === 0) return true;
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      const [oldest] =
        this.#buckets.size >= this.#maxNames ? this.#buckets.keys() : [];
      if (oldest !== undefined) this.#buckets.delete(oldest);
      bucket = new Bucket(this.#perSecond, now);
      this.#buckets.set(name, bucket);
    }
    return bucket.take(now);
  }

  /** Forgets what need not be remembered. */
  sweep(now: number): void {
    if (now - this.#sweptAt < BURST_SECONDS * 1000) return;
    this.#sweptAt = now;
    for (const [name, bucket] of this.#buckets)
      if (bucket.isFull(now)) this.#buckets.delete(name);
  }
}
