// Places of the generic protocol: each `host:port` that look-ups have handed out, and to which networks.

/** How long a place is remembered that nobody is told again. */
const IDLE_MILLISECONDS = 60 * 60 * 1000;
const MAX_PLACES = 1024;
/** Whoever is told more loses his own first. */
const MAX_PLACES_PER_NETWORK = 64;
/** A host name has 253 octets at most, and a port 5. */
const MAX_PLACE_LENGTH = 253 + 1 + 5;

export class Places {
  /** By network, what it was told and when it last was; oldest first in both. sweep() removes what is idle. */
  readonly #told = new Map<string, Map<string, number>>();

  /** Whether anybody, or somebody of this network, was told this place. */
  has(place: string, network: string | undefined): boolean {
    if (network !== undefined)
      return this.#told.get(network)?.has(place) === true;
    for (const told of this.#told.values()) if (told.has(place)) return true;
    return false;
  }

  add(place: string, network: string): void {
    if (place.length > MAX_PLACE_LENGTH) return;
    const told = this.#told.get(network) ?? new Map<string, number>();
    this.#told.delete(network);
    this.#told.set(network, told);
    told.delete(place);
    told.set(place, performance.now());
    if (told.size > MAX_PLACES_PER_NETWORK) forgetFirst(told);
    this.#makeRoom();
  }

  /** Forgets what nobody was told for long. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const [network, told] of this.#told) {
      for (const [place, at] of told)
        if (now - at > IDLE_MILLISECONDS) told.delete(place);
      if (told.size === 0) this.#told.delete(network);
    }
  }

  /** Beyond MAX_PLACES who has most loses one: a few who ask for many push nobody else out. */
  #makeRoom(): void {
    let count = 0;
    let [most, owner] = [new Map<string, number>(), ""];
    for (const [network, told] of this.#told) {
      count += told.size;
      if (told.size > most.size) [most, owner] = [told, network];
    }
    if (count <= MAX_PLACES) return;
    forgetFirst(most);
    if (most.size === 0) this.#told.delete(owner);
  }
}

function forgetFirst(kept: Map<string, unknown>): void {
  for (const first of kept.keys()) {
    kept.delete(first);
    break;
  }
}
