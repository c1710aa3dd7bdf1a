// Capsules (RFC 9297 3.2) as connect-tcp uses them: DATA carries octets, FINAL_DATA is the end of a direction, an empty DATA is a heartbeat.

/** Provisional numbers of draft-ietf-httpbis-connect-tcp; the RFC will have its own. */
export const DATA = 0x2028d7f2;
export const FINAL_DATA = 0x2028d7f3;

/** A capsule stream that breaks the rules: octets after the end of a direction. */
export class MalformedCapsule extends Error {
  override readonly name = "MalformedCapsule";
}

const EMPTY_DATA = capsuleHeader(DATA, 0);
const EMPTY_FINAL = capsuleHeader(FINAL_DATA, 0);

/** An empty DATA capsule: says that the sender is there. */
export const heartbeat = (): Buffer => EMPTY_DATA;
/** An empty FINAL_DATA capsule: says that the sender has sent everything. */
export const finalCapsule = (): Buffer => EMPTY_FINAL;

/** Type and length of a capsule, as variable-length integers (RFC 9000 16). */
export function capsuleHeader(type: number, length: number): Buffer {
  return Buffer.concat([varint(type), varint(length)]);
}

/** The octets of a variable-length integer (RFC 9000 16); the value is a safe integer. */
export function varint(value: number): Buffer {
  if (value < 0x40) return Buffer.from([value]);
  if (value < 0x4000) return Buffer.from([0x40 | (value >> 8), value & 0xff]);
  const octets = Buffer.allocUnsafe(value < 0x4000_0000 ? 4 : 8);
  if (octets.length === 4) octets.writeUInt32BE(value + 0x8000_0000);
  else {
    octets.writeUInt32BE(Math.floor(value / 0x1_0000_0000) + 0xc000_0000);
    octets.writeUInt32BE(value % 0x1_0000_0000, 4);
  }
  return octets;
}

/** Reads a capsule stream that comes in pieces. */
export class CapsuleReader {
  readonly #data: (octets: Buffer) => void;
  /** Octets of a header that came in part; there are 16 at most. */
  #partial: Buffer | undefined;
  #type = 0;
  /** Octets of the capsule under way that are still to come. A length beyond 2^53 is as good as endless. */
  #left = 0;
  /** FINAL_DATA has come whole. */
  ended = false;
  /** An empty DATA capsule has come: the sender beats. */
  beaten = false;

  /** `data` gets the payload of DATA and FINAL_DATA piece by piece, not capsule by capsule. */
  constructor(data: (octets: Buffer) => void) {
    this.#data = data;
  }

  /** In the middle of a capsule, so that the stream must not end here. */
  get midway(): boolean {
    return this.#left > 0 || this.#partial !== undefined;
  }

  /**
   * Reads a piece, which may be changed: what many small capsules carry is moved together and told at once,
   * or each would cost its receiver a write.
   * @throws MalformedCapsule for a DATA or FINAL_DATA after the end
   */
  read(octets: Buffer): void {
    const whole =
      this.#partial === undefined
        ? octets
        : Buffer.concat([this.#partial, octets]);
    this.#partial = undefined;
    const told = { from: 0, to: 0 };
    try {
      this.#readAll(whole, told);
    } finally {
      if (told.to > told.from) this.#data(whole.subarray(told.from, told.to));
    }
  }

  /** Moves the payload into `told`. */
  #readAll(octets: Buffer, told: { from: number; to: number }): void {
    let at = 0;
    while (at < octets.length) {
      if (this.#left > 0) {
        const end = Math.min(octets.length, at + this.#left);
        if (this.#takePayload(end - at)) {
          if (told.to === 0) told.from = told.to = at;
          if (told.to < at) octets.copyWithin(told.to, at, end);
          told.to += end - at;
        }
        at = end;
        continue;
      }
      const header = readHeader(octets, at);
      if (header === undefined) {
        this.#partial = Buffer.from(octets.subarray(at));
        return;
      }
      at += header.size;
      this.#begin(header.type, header.length);
    }
  }

  #begin(type: number, length: number): void {
    this.#type = type;
    this.#left = length;
    if (type !== DATA && type !== FINAL_DATA) return;
    if (this.ended)
      throw new MalformedCapsule("a capsule with data came after the end");
    if (length > 0) return;
    if (type === FINAL_DATA) this.ended = true;
    else this.beaten = true;
  }

  /** Counts octets of the capsule under way; whether they are the stream's. */
  #takePayload(count: number): boolean {
    this.#left -= count;
    if (this.#type === FINAL_DATA && this.#left === 0) this.ended = true;
    return this.#type === DATA || this.#type === FINAL_DATA;
  }
}

function readHeader(
  octets: Buffer,
  at: number,
): { type: number; length: number; size: number } | undefined {
  const type = readVarint(octets, at);
  const length =
    type === undefined ? undefined : readVarint(octets, at + type.size);
  if (type === undefined || length === undefined) return undefined;
  return {
    type: type.value,
    length: length.value,
    size: type.size + length.size,
  };
}

function readVarint(
  octets: Buffer,
  at: number,
): { value: number; size: number } | undefined {
  const first = octets[at];
  if (first === undefined) return undefined;
  const size = 1 << (first >> 6);
  if (octets.length - at < size) return undefined;
  if (size === 1) return { value: first & 0x3f, size };
  if (size === 2) return { value: octets.readUInt16BE(at) & 0x3fff, size };
  const high = octets.readUInt32BE(at) & 0x3fff_ffff;
  if (size === 4) return { value: high, size };
  return { value: high * 0x1_0000_0000 + octets.readUInt32BE(at + 4), size };
}
