// Octets that nobody can guess who has not their key, so that an octet that is wrong, missing or somebody else's is noticed.
import { createCipheriv, createHash } from "node:crypto";

const IV = Buffer.alloc(16);

/** Gives the octets of the stream of this key, one piece after the other. */
export function marksOf(key: string): (octets: number) => Buffer {
  const secret = createHash("sha256").update(key).digest().subarray(0, 16);
  const cipher = createCipheriv("aes-128-ctr", secret, IV);
  return (octets) => cipher.update(Buffer.alloc(octets));
}

/** Takes octets as they come, and says whether they are those of the key so far. */
export class MarkReader {
  readonly #next: (octets: number) => Buffer;
  /** Octets that have come. */
  count = 0;
  isRight = true;

  constructor(key: string) {
    this.#next = marksOf(key);
  }

  read(octets: Buffer): void {
    this.count += octets.length;
    if (this.isRight) this.isRight = this.#next(octets.length).equals(octets);
  }
}
