// The meter of a hidden server: octets a second on all its tunnels together. Who has had too much is held back, and nothing is lost.
import type { Link, Metering } from "../wire/link.ts";

/** Seconds that a full meter lasts. */
const BURST_SECONDS = 0.5;

export class Meter implements Metering {
  readonly #perSecond: number;
  /** Octets that may pass; below 0 they have passed already. */
  #octets: number;
  #at = performance.now();
  /** Links that wait until they may go on; sweep() takes them out. */
  readonly #held = new Set<Link>();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#octets = perSecond * BURST_SECONDS;
  }

  count(link: Link, octets: number): boolean {
    this.#octets -= octets;
    if (this.#octets >= 0) return true;
    this.#fill(performance.now());
    if (this.#octets >= 0) return true;
    this.#held.add(link);
    link.hold();
    return false;
  }

  /** Lets everybody go on when there is something again. `now` is of the monotonic clock. */
  sweep(now: number): void {
    this.#fill(now);
    if (this.#octets < 0 || this.#held.size === 0) return;
    const held = [...this.#held];
    this.#held.clear();
    for (const link of held) link.unhold();
  }

  #fill(now: number): void {
    this.#octets = Math.min(
      this.#octets + ((now - this.#at) / 1000) * this.#perSecond,
      this.#perSecond * BURST_SECONDS,
    );
    this.#at = now;
  }
}
