// Streams whose every octet is known: whoever reads one sees at once when an octet is wrong, missing, or somebody else's.
import { randomBytes } from "node:crypto";
import type { Readable, Writable } from "node:stream";

/** Prime, so that no multiple of a buffer's size leads back to the same octets. */
const BLOCK_OCTETS = 1_000_003;
const MAX_PIECE_OCTETS = 256 * 1024;

const once = randomBytes(BLOCK_OCTETS);
const block = Buffer.concat([once, once.subarray(0, MAX_PIECE_OCTETS)]);

/** Octets of the stream number `seed`, from `at` on. They are never changed. */
export function pieceOf(seed: number, at: number, length: number): Buffer {
  const from = (seed * 15_485_863 + at) % BLOCK_OCTETS;
  return block.subarray(from, from + Math.min(length, MAX_PIECE_OCTETS));
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed;
  return function roll() {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Writes the first `total` octets of a stream in pieces of every size, no faster than they are taken, and ends. */
export async function sendPattern(
  stream: Writable,
  seed: number,
  total: number,
): Promise<void> {
  const roll = dice(seed);
  let wake = (): void => undefined;
  for (const event of ["drain", "close"])
    stream.on(event, () => {
      wake();
    });
  for (let at = 0; at < total;) {
    const most = roll() < 0.2 ? 100 : MAX_PIECE_OCTETS;
    const length = Math.min(1 + Math.floor(roll() * most), total - at);
    at += length;
    const octets = pieceOf(seed, at - length, length);
    if (!stream.write(octets) && !stream.destroyed)
      await new Promise<void>((resolve) => (wake = resolve));
    if (stream.destroyed) return;
  }
  stream.end();
}

/**
 * Reads a stream to its end, and gives the count of octets. `pauses` is the part of reads after which it stands still
 * for some turns of the event loop.
 */
export function checkPattern(
  stream: Readable,
  seed: number,
  pauses: number,
): Promise<number> {
  const roll = dice(seed + 1);
  let at = 0;
  return new Promise((resolve, reject) => {
    stream.on("data", (octets: Buffer) => {
      for (let from = 0; from < octets.length; from += MAX_PIECE_OCTETS) {
        const came = octets.subarray(from, from + MAX_PIECE_OCTETS);
        if (!came.equals(pieceOf(seed, at, came.length)))
          reject(new Error(`stream ${seed} is wrong after octet ${at}`));
        at += came.length;
      }
      if (roll() >= pauses) return;
      stream.pause();
      let turns = Math.floor(roll() * 60);
      setImmediate(function stand() {
        if (turns-- > 0) setImmediate(stand);
        else stream.resume();
      });
    });
    stream.on("end", () => {
      resolve(at);
    });
    stream.on("error", reject);
    stream.on("close", () => {
      reject(new Error(`stream ${seed} was cut after octet ${at}`));
    });
  });
}
