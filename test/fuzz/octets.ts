// Octets that go wrong: samples that are changed in small ways, and texts cut into pieces. One character is one octet.
import fc from "fast-check";

/** What readers stumble over. */
const STUMBLING_BLOCKS: readonly string[] = [
  ...Array.from(
    "\r\n\0\t :;,=\"'\\/%?&#@[]<>{}+-_0\x01\x08\x0b\x0c\x1b\x7f\x80\x85\xa0\xff",
  ),
  "\r\n",
  "\r\n\r\n",
  "\n\n",
  "\r\r\n",
  "\r\n ",
  "\r\n\t",
  "0x",
  "00",
  "+1",
  "-1",
  "1e1",
  "255",
  "2147483648",
  "4294967296",
  "9007199254740993",
  "18446744073709551616",
  "fffffffffffff",
  "10000000000000000",
  "chunked",
  "close",
  "keep-alive",
  "upgrade",
  "HTTP/1.1",
  "HTTP/1.0",
  "HTTP/2.0",
  "Transfer-Encoding: chunked\r\n",
  "Content-Length: 5\r\n",
  "Content-Length: 0\r\n",
  "Connection: close\r\n",
  "Connection: keep-alive\r\n",
  "Host: y\r\n",
  "\r\nX: y",
  "0\r\n\r\n",
  "%00",
  "%0d%0a",
  "%2f",
  "%",
  "__proto__",
  "constructor",
  "rendezvous",
  "rendezvous=",
  "pi",
  "PI",
  "a".repeat(70),
];

const AT_MOST = 0x10000;

/** One change: what is done, where, how much of it, and with which words. */
type Change = readonly [kind: number, at: number, count: number, block: string];

const change: fc.Arbitrary<Change> = fc.tuple(
  fc.nat(5),
  fc.nat(AT_MOST - 1),
  fc.nat(15),
  fc.constantFrom(...STUMBLING_BLOCKS),
);

/** The same sample with some changes, among them a jump into another sample. */
export function mutated(
  samples: fc.Arbitrary<string>,
  most = 4,
): fc.Arbitrary<string> {
  return fc
    .tuple(
      samples,
      samples,
      fc.array(change, { minLength: 1, maxLength: most, size: "max" }),
    )
    .map(([one, other, changes]) =>
      changes.reduce((text, made) => apply(text, other, made), one),
    );
}

/** Samples as they are, and as they are not. */
export function nearly(
  samples: fc.Arbitrary<string>,
  most?: number,
): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 1, arbitrary: samples },
    { weight: 3, arbitrary: mutated(samples, most) },
  );
}

function apply(
  text: string,
  other: string,
  [kind, place, count, block]: Change,
): string {
  const at = Math.floor((place / AT_MOST) * (text.length + 1));
  const [before, after] = [text.slice(0, at), text.slice(at)];
  switch (kind) {
    case 0: {
      const octet = after.charCodeAt(0);
      const bit = 1 << (count & 7);
      return Number.isNaN(octet)
        ? text
        : before + String.fromCharCode(octet ^ bit) + after.slice(1);
    }
    case 1:
      return before + after.slice(count + 1);
    case 2:
      return before + after.slice(0, 4 * count + 1) + after;
    case 3:
      return before + other.slice(Math.floor((place / AT_MOST) * other.length));
    case 4:
      return before + block + after.slice(count);
    default:
      return before + block + after;
  }
}

/** Any octets. */
export const anyOctets: fc.Arbitrary<string> = fc
  .uint8Array({ maxLength: 200 })
  .map((octets) => latin1(octets));

/** Where a text is cut: at these parts of its length. */
export const cuts: fc.Arbitrary<readonly number[]> = fc.oneof(
  fc.constant<number[]>([]),
  fc.array(fc.nat(AT_MOST - 1), { maxLength: 6 }),
);

/** The pieces of a text, none of them empty. */
export function piecesOf(text: string, at: readonly number[]): Buffer[] {
  const edges = at
    .map((place) => Math.floor((place / AT_MOST) * text.length))
    .concat(0, text.length)
    .sort((one, other) => one - other);
  const octets = Buffer.from(text, "latin1");
  return edges
    .slice(0, -1)
    .map((from, i) => Buffer.from(octets.subarray(from, edges[i + 1])))
    .filter((piece) => piece.length > 0);
}

export function latin1(octets: Uint8Array): string {
  return Buffer.from(octets).toString("latin1");
}
