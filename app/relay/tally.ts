// Counts by name. Names that have none are forgotten, many at a time: the next of the same name is often on his way.

/** So many names without any are kept in any case. */
const SPARE_NAMES = 64;

export class Tally {
  readonly #counts = new Map<string, { count: number }>();
  /** Names that have none now; #forget() takes them out. */
  #spare = 0;

  of(name: string): number {
    return this.#counts.get(name)?.count ?? 0;
  }

  add(name: string): void {
    const entry = this.#counts.get(name);
    if (entry === undefined) {
      this.#counts.set(name, { count: 1 });
      return;
    }
    if (entry.count === 0) this.#spare--;
    entry.count++;
  }

  /** Takes one away that was added. */
  take(name: string): void {
    const entry = this.#counts.get(name);
    if (entry === undefined || entry.count === 0) return;
    entry.count--;
    if (entry.count > 0) return;
    this.#spare++;
    if (this.#spare > SPARE_NAMES && this.#spare > this.#counts.size / 2)
      this.#forget();
  }

  /** Names that are remembered. */
  get size(): number {
    return this.#counts.size;
  }

  #forget(): void {
    for (const [name, { count }] of this.#counts)
      if (count === 0) this.#counts.delete(name);
    this.#spare = 0;
  }
}
