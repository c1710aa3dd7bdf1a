// Bodies in every framing, however their octets are cut.
import { expect } from "chai";
import fc from "fast-check";
import { BodyReader } from "../../app/wire/body.ts";
import { Malformed, type Framing } from "../../app/wire/head.ts";

interface Outcome {
  /** Octets that belonged to the body, or why it cannot be read. */
  readonly end: number | string;
  readonly payload: string;
  readonly done: boolean;
}

/** Feeds `text` in pieces that begin at `cuts`. */
function feed(
  framing: Framing,
  text: string,
  cuts: readonly number[] = [],
): Outcome {
  const payload: Buffer[] = [];
  const reader = new BodyReader(framing, payload);
  const octets = Buffer.from(text, "latin1");
  const edges = [
    ...new Set([
      0,
      ...cuts.filter((cut) => cut < octets.length),
      octets.length,
    ]),
  ].sort((a, b) => a - b);
  let read = 0;
  let end: number | string | undefined;
  for (const [i, from] of edges.slice(0, -1).entries()) {
    const piece = octets.subarray(from, edges[i + 1]);
    try {
      const stop = reader.read(piece, 0);
      read += stop;
      if (stop < piece.length) break;
    } catch (problem) {
      if (!(problem instanceof Malformed)) throw problem;
      end = "malformed";
      break;
    }
  }
  return {
    end: end ?? read,
    payload: end === undefined ? Buffer.concat(payload).toString("latin1") : "",
    done: reader.done,
  };
}

const everyOctet = (text: string): number[] =>
  Array.from({ length: text.length }, (_, i) => i);

const long = "y".repeat(3000);
const WELL: readonly (readonly [
  title: string,
  framing: Framing,
  text: string,
  payload: string,
  rest: string,
])[] = [
  ["a length", 5, "hello", "hello", ""],
  ["a length, with more behind it", 5, "helloGET /", "hello", "GET /"],
  ["no octet", 0, "GET /", "", "GET /"],
  ["the stream's end", "close", "hello\r\n\r\n", "hello\r\n\r\n", ""],
  ["chunks", "chunked", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!", ""],
  [
    "chunks, with more behind them",
    "chunked",
    "1\r\na\r\n0\r\n\r\nGET /",
    "a",
    "GET /",
  ],
  ["no chunk but the last", "chunked", "0\r\n\r\n", "", ""],
  [
    "chunks with CR and LF in their data",
    "chunked",
    "4\r\n\r\n\r\n\r\n0\r\n\r\n",
    "\r\n\r\n",
    "",
  ],
  [
    "chunks with sizes in both cases and zeros before",
    "chunked",
    "00A\r\n0123456789\r\n00b\r\n0123456789a\r\n000\r\n\r\n",
    "01234567890123456789a",
    "",
  ],
  [
    "chunks with extensions",
    "chunked",
    `1;a=b;c="d;\te";f\r\nx\r\n0;${long}\r\n\r\n`,
    "x",
    "",
  ],
  [
    "chunks with a trailer",
    "chunked",
    "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\nmore",
    "x",
    "more",
  ],
];
const BADLY = [
  "g\r\n",
  "-1\r\n",
  "+1\r\n",
  "0x1\r\n",
  "1 \r\n",
  " 1\r\n",
  "\r\n",
  "1\n",
  "1\r\nxy\r\n",
  "1\r\nx\n",
  "1\r\nx0\r\n",
  "1\r\nx\r\r\n",
  "1;\r\n",
  "1;a=\r\n",
  "1; a\r\n",
  '1;a="\r\n',
  "1;a=\0\r\n",
  "fffffffffffffff\r\n",
  "0\r\nA\r\n\r\n",
  "0\r\n A: b\r\n",
  "0\r\nA : b\r\n",
  "0\r\nContent-Length: 1\r\n\r\n",
  "0\r\nA: b\n\r\n",
  "0\r\n\n",
  "0\r\rGET / HTTP/1.1\r",
  "0;a\rb",
  "0\r\nA: b\r\r",
  "0\r\nA: \0",
  "1 ",
  `1;${"y".repeat(5000)}`,
  `0\r\n${"A: b\r\n".repeat(3000)}`,
];

describe("a body", () => {
  for (const [title, framing, text, payload, rest] of WELL) {
    it(`that ends by ${title} is followed to its last octet, however it is cut`, () => {
      const whole = feed(framing, text);
      expect(whole).to.deep.equal({
        end: text.length - rest.length,
        payload,
        done: framing !== "close",
      });
      expect(feed(framing, text, everyOctet(text))).to.deep.equal(whole);
      fc.assert(
        fc.property(fc.array(fc.nat(text.length)), (cuts) => {
          expect(feed(framing, text, cuts)).to.deep.equal(whole);
        }),
      );
    });
  }

  for (const text of BADLY) {
    it(`that is ${JSON.stringify(text.slice(0, 30))} is refused, however it is cut`, () => {
      expect(feed("chunked", text).end).to.equal("malformed");
      expect(feed("chunked", text, everyOctet(text)).end).to.equal("malformed");
      fc.assert(
        fc.property(fc.array(fc.nat(text.length)), (cuts) => {
          expect(feed("chunked", text, cuts).end).to.equal("malformed");
        }),
        { numRuns: 20 },
      );
    });
  }

  it("of any octets in any chunks comes out as it went in", () => {
    const anyChunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), {
      maxLength: 8,
    });
    fc.assert(
      fc.property(anyChunks, fc.array(fc.nat(400)), (chunks, cuts) => {
        const datas = chunks.map((chunk) =>
          Buffer.from(chunk).toString("latin1"),
        );
        const text = [
          ...datas.map((data) => `${data.length.toString(16)}\r\n${data}\r\n`),
          "0\r\n\r\n",
        ].join("");
        expect(feed("chunked", `${text}next`, cuts)).to.deep.equal({
          end: text.length,
          payload: datas.join(""),
          done: true,
        });
      }),
    );
  });

  it("of any octets at all is read the same way however it is cut, or refused every time", () => {
    const nearlyChunks = fc.array(
      fc.constantFrom(
        "0",
        "1",
        "a",
        "\r\n",
        "\n",
        "\r",
        ";",
        "x",
        " ",
        "A: b",
        "=",
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(nearlyChunks, fc.array(fc.nat(30)), (parts, cuts) => {
        const text = parts.join("");
        const octetByOctet = feed("chunked", text, everyOctet(text));
        const cut = feed("chunked", text, cuts);
        expect(cut.end === "malformed").to.equal(
          octetByOctet.end === "malformed",
        );
        expect(cut).to.deep.equal(octetByOctet);
      }),
      { numRuns: 2000 },
    );
  });

  it("goes further without the trailer fields that may not, however it is cut", () => {
    const name = fc.constantFrom("X", "Keep", "drop", "DROP");
    const line = fc
      .tuple(name, fc.constantFrom("", " ", " y", "z".repeat(100)))
      .map(([one, value]) => `${one}:${value}\r\n`);
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 6 }),
        fc.array(fc.nat(400), { maxLength: 8 }),
        (lines, cuts) => {
          const data = "2;x\r\n\r\n\r\n0\r\n";
          const text = `${data}${lines.join("")}\r\n`;
          const kept = lines.filter((one) => !/^drop/i.test(one)).join("");
          const reader = new BodyReader(
            "chunked",
            undefined,
            (one) => one.toLowerCase() !== "drop",
          );
          const octets = Buffer.from(`${text}next`);
          const ends = [...cuts.sort((a, b) => a - b), octets.length];
          let passed = "";
          let at = 0;
          for (const end of ends) {
            const piece = octets.subarray(0, Math.min(end, octets.length));
            if (reader.done) break;
            const to = reader.read(piece, at);
            passed += reader.passed(piece, at, to).toString("latin1");
            at = to;
          }
          expect(passed).to.equal(`${data}${kept}\r\n`);
          expect(at).to.equal(text.length);
        },
      ),
    );
  });

  it("may end with its stream only where the stream ends it, or when it is complete", () => {
    const ends = (framing: Framing, text: string): boolean => {
      const reader = new BodyReader(framing);
      reader.read(Buffer.from(text), 0);
      return reader.endsWithStream;
    };
    expect(ends("close", "")).to.be.true;
    expect(ends("close", "abc")).to.be.true;
    expect(ends(3, "ab")).to.be.false;
    expect(ends(3, "abc")).to.be.true;
    expect(ends("chunked", "1\r\na\r\n0\r\n")).to.be.false;
    expect(ends("chunked", "1\r\na\r\n0\r\n\r\n")).to.be.true;
  });
});
