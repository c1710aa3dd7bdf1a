// Tokens that were used: each is remembered until it could not be taken any more, so that it is good once.
import { createHash } from "node:crypto";
import { copyOf } from "./copy.ts";

/** Tokens remembered at most, of 70 octets each, and 140 where each is another id's. Half of them are 1248 a second, each for the 105 s of an agent's token. */
const MAX_TOKENS = 2 ** 18;
/** Of a token's hash: enough that no two are ever alike. */
const NAME_OCTETS = 16;

/** What a token is worth: one that is good is used from now on. A bad one was used before; one for which no place is left is not used up. */
export type Verdict = "good" | "bad" | "full";

interface Owner {
  readonly id: string;
  tokens: number;
}

/** Remembers used tokens. Its methods take an id, and a text that is one token's of that id. */
export class Used {
  readonly #max: number;
  /** Whose each token is, by its hash: what was sent may be long, and part of what is longer. sweep() removes what is over. */
  readonly #tokens = new Map<string, Owner>();
  /** By id; those who have a token here. sweep() removes the others. */
  readonly #owners = new Map<string, Owner>();
  /** The hashes by the second since 1970 at which they are over, so that a sweep looks at no others. */
  readonly #due = new Map<number, string[]>();

  constructor(max = MAX_TOKENS) {
    this.#max = max;
  }

  get size(): number {
    return this.#tokens.size;
  }

  has(id: string, token: string): boolean {
    return this.#tokens.has(nameOf(id, token));
  }

  /**
   * Uses a token, which nobody takes any more `until` so many seconds since 1970.
   * An id may have as many as there are places left, so that one that takes what it can leaves half of them, and two leave a third.
   */
  use(id: string, token: string, until: number): Verdict {
    const name = nameOf(id, token);
    if (this.#tokens.has(name)) return "bad";
    const owner = this.#owners.get(id) ?? { id: copyOf(id), tokens: 0 };
    if (owner.tokens >= this.#max - this.#tokens.size) return "full";
    owner.tokens++;
    this.#owners.set(owner.id, owner);
    this.#tokens.set(name, owner);
    // Never too early: a moment too late costs nothing.
    const second = Math.ceil(until);
    const due = this.#due.get(second) ?? [];
    this.#due.set(second, due);
    due.push(name);
    return "good";
  }

  /** Forgets the tokens that are over; `now` is milliseconds since 1970. */
  sweep(now: number): void {
    for (const [second, names] of this.#due) {
      if (second * 1000 > now) continue;
      this.#due.delete(second);
      for (const name of names) this.#forget(name);
    }
  }

  #forget(name: string): void {
    const owner = this.#tokens.get(name);
    if (owner === undefined) return;
    this.#tokens.delete(name);
    if (--owner.tokens === 0) this.#owners.delete(owner.id);
  }
}

function nameOf(id: string, token: string): string {
  return createHash("sha256")
    .update(`${id} ${token}`)
    .digest()
    .toString("latin1", 0, NAME_OCTETS);
}
