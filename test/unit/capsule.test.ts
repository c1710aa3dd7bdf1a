// Capsules: variable-length integers of every size, pieces cut anywhere, and streams that break the rules.
import { expect } from "chai";
import fc from "fast-check";
import {
  CapsuleReader,
  DATA,
  FINAL_DATA,
  MalformedCapsule,
  capsuleHeader,
  finalCapsule,
  heartbeat,
  varint,
} from "../../app/wire/capsule.ts";

interface Read {
  readonly text: string;
  readonly reader: CapsuleReader;
}

/** Reads pieces, and gives the payload. */
function read(...pieces: readonly Buffer[]): Read {
  let text = "";
  const reader = new CapsuleReader((octets) => {
    text += octets.toString("latin1");
  });
  // The reader may change what it is given.
  for (const piece of pieces) reader.read(Buffer.from(piece));
  return { text, reader };
}

const capsule = (type: number, payload: string): Buffer =>
  Buffer.concat([
    capsuleHeader(type, payload.length),
    Buffer.from(payload, "latin1"),
  ]);

/** The same number in `size` octets, though it would need fewer (RFC 9000 16 allows it here). */
function varintOf(size: 1 | 2 | 4 | 8, value: bigint): Buffer {
  const octets = Buffer.alloc(8);
  octets.writeBigUInt64BE(value);
  const cut = octets.subarray(8 - size);
  cut.writeUInt8((cut.readUInt8() & 0x3f) | (Math.log2(size) << 6));
  return cut;
}

describe("a variable-length integer", () => {
  for (const [value, octets] of [
    [0, "00"],
    [37, "25"],
    [63, "3f"],
    [64, "4040"],
    [15_293, "7bbd"],
    [16_383, "7fff"],
    [16_384, "80004000"],
    [494_878_333, "9d7f3e7d"],
    [2 ** 30 - 1, "bfffffff"],
    [2 ** 30, "c000000040000000"],
    [2 ** 32 - 1, "c0000000ffffffff"],
    [2 ** 32, "c000000100000000"],
    [Number.MAX_SAFE_INTEGER, "c01fffffffffffff"],
    [DATA, "a028d7f2"],
    [FINAL_DATA, "a028d7f3"],
  ] as const) {
    it(`of ${value} is ${octets}`, () => {
      expect(varint(value).toString("hex")).to.equal(octets);
    });
  }

  for (const size of [1, 2, 4, 8] as const) {
    it(`may stand in ${size} octets for a length, and in more than it needs`, () => {
      const head = Buffer.concat([varint(DATA), varintOf(size, 5n)]);
      const { text, reader } = read(
        Buffer.concat([head, Buffer.from("hello"), finalCapsule()]),
      );
      expect([text, reader.ended, reader.midway]).to.deep.equal([
        "hello",
        true,
        false,
      ]);
    });
  }

  it("may stand in eight octets for a type", () => {
    const head = Buffer.concat([varintOf(8, BigInt(DATA)), varint(2)]);
    expect(read(head, Buffer.from("hi")).text).to.equal("hi");
  });

  it("that is cut is waited for, octet by octet", () => {
    const head = Buffer.concat([varintOf(8, BigInt(DATA)), varintOf(8, 1n)]);
    for (let cut = 1; cut < head.length; cut++) {
      const { text, reader } = read(head.subarray(0, cut));
      expect([text, reader.midway]).to.deep.equal(["", true]);
      reader.read(head.subarray(cut));
      expect(reader.midway).to.be.true;
      reader.read(Buffer.from("x"));
      expect(reader.midway).to.be.false;
    }
  });
});

describe("a capsule stream", () => {
  const stream = Buffer.concat([
    capsule(DATA, "one"),
    heartbeat(),
    capsule(0x05, "skip this"),
    capsule(0x29 * 1e9 + 0x17, "and this"),
    capsule(DATA, "two"),
    capsule(FINAL_DATA, "end"),
    capsule(0x05, "after the end"),
  ]);

  it("gives the same cut into two pieces anywhere", () => {
    for (let cut = 0; cut <= stream.length; cut++) {
      const { text, reader } = read(
        stream.subarray(0, cut),
        stream.subarray(cut),
      );
      expect(text).to.equal("onetwoend");
      expect([reader.ended, reader.beaten, reader.midway]).to.deep.equal([
        true,
        true,
        false,
      ]);
    }
  });

  it("gives the same octet by octet", () => {
    const { text, reader } = read(
      ...[...stream].map((octet) => Buffer.from([octet])),
    );
    expect([text, reader.ended]).to.deep.equal(["onetwoend", true]);
  });

  it("gives what many small capsules carry in one piece, for each piece costs a write", () => {
    const told: string[] = [];
    const reader = new CapsuleReader((octets) => told.push(octets.toString()));
    const small = Array.from("many small ones", (text) => capsule(DATA, text));
    reader.read(Buffer.concat(small));
    reader.read(Buffer.concat([capsule(DATA, "and"), capsule(DATA, " more")]));
    expect(told).to.deep.equal(["many small ones", "and more"]);
  });

  it("gives a payload as it comes, without waiting for its end", () => {
    const { text, reader } = read(
      capsuleHeader(DATA, 1000),
      Buffer.from("begin"),
    );
    expect([text, reader.midway]).to.deep.equal(["begin", true]);
  });

  it("skips a type that it does not know, however long it is, and keeps nothing of it", () => {
    const megabyte = Buffer.alloc(1024 * 1024);
    const { text, reader } = read(capsuleHeader(0x1234, 64 * 1024 * 1024));
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 64; i++) reader.read(megabyte);
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(
      megabyte.length,
    );
    expect([text, reader.midway]).to.deep.equal(["", false]);
  });

  for (const type of [DATA, FINAL_DATA, 0x1234]) {
    it(`may announce 2^62-1 octets of type ${type}, and is read on`, () => {
      const header = Buffer.concat([
        varint(type),
        Buffer.from("ffffffffffffffff", "hex"),
      ]);
      const { reader } = read(header, Buffer.alloc(1024 * 1024));
      expect([reader.midway, reader.ended]).to.deep.equal([true, false]);
      reader.read(finalCapsule());
      expect(reader.ended).to.be.false;
    });
  }

  for (const after of [capsule(DATA, "x"), heartbeat(), finalCapsule()]) {
    it(`is refused with ${after.toString("hex")} after FINAL_DATA`, () => {
      for (const final of [finalCapsule(), capsule(FINAL_DATA, "end")]) {
        const { reader } = read(final);
        expect(() => {
          reader.read(after);
        }).to.throw(MalformedCapsule);
      }
    });
  }

  it("is not ended by FINAL_DATA that has come in part", () => {
    const final = capsule(FINAL_DATA, "end");
    const { reader } = read(final.subarray(0, -1));
    expect([reader.ended, reader.midway]).to.deep.equal([false, true]);
  });

  it("gives all that went in, whatever the capsules and the pieces", () => {
    const capsules = fc.array(
      fc.record({
        type: fc.oneof(
          fc.constant(DATA),
          fc.nat(0xffff),
          fc.maxSafeNat().filter((type) => type !== FINAL_DATA),
        ),
        payload: fc.uint8Array({ maxLength: 300 }),
      }),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(
        capsules,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        (sent, sizes) => {
          const octets = Buffer.concat([
            ...sent.flatMap(({ type, payload }) => [
              capsuleHeader(type, payload.length),
              payload,
            ]),
            finalCapsule(),
          ]);
          const pieces: Buffer[] = [];
          for (let at = 0, i = 0; at < octets.length; i++) {
            const size = sizes[i % sizes.length] ?? 1;
            pieces.push(octets.subarray(at, at + size));
            at += size;
          }
          const wanted = Buffer.concat(
            sent
              .filter(({ type }) => type === DATA)
              .map(({ payload }) => payload),
          );
          const { text, reader } = read(...pieces);
          expect(text).to.equal(wanted.toString("latin1"));
          expect([reader.ended, reader.midway]).to.deep.equal([true, false]);
        },
      ),
    );
  });
});
