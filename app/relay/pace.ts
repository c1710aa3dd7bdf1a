// The pace of somebody who is waited for: whether he brings, or takes, enough octets.

export interface PaceOptions {
  /** Octets a second that will do; 0 is any. */
  readonly minOctetsPerSecond: number;
}

/** Looks at what has moved, a window of time after the other. A moment in which nobody waited begins a new one. */
export class Pace {
  readonly #seconds: number;
  readonly #min: number;
  #moved = 0;
  #since: number | undefined;

  /** He may be slower than `minOctetsPerSecond` for `seconds`; 0 of either is for ever. */
  constructor(seconds: number, { minOctetsPerSecond }: PaceOptions) {
    this.#seconds = seconds;
    this.#min = minOctetsPerSecond;
  }

  /** Whether he has been too slow by now. `moved` is what he has brought or taken in all. */
  isSlow(awaited: boolean, moved: number, now: number): boolean {
    if (!awaited || this.#seconds === 0 || this.#min === 0) {
      this.#since = undefined;
      return false;
    }
    this.#since ??= this.#begin(moved, now);
    const seconds = (now - this.#since) / 1000;
    if (seconds < this.#seconds) return false;
    const slow = moved - this.#moved < this.#min * seconds;
    this.#since = this.#begin(moved, now);
    return slow;
  }

  #begin(moved: number, now: number): number {
    this.#moved = moved;
    return now;
  }
}
