// A message body, followed to its end octet by octet without being changed (RFC 9112 6 and 7).
import { Malformed, checkTrailer, type Framing } from "./head.ts";

/** Octets of one chunk-size line with its extensions, and of a whole trailer section. */
const MAX_LINE_OCTETS = 4 * 1024;
const MAX_TRAILER_OCTETS = 16 * 1024;

// 13 hexadecimal digits are the most that a double holds exactly.
const SIZE_LINE =
  /^0*([0-9A-Fa-f]{1,13})(?:;[!#$%&'*+\-.^_`|~\w]+(?:=(?:[!#$%&'*+\-.^_`|~\w]+|"[\t\x20\x21\x23-\x5b\x5d-\x7e]*"))?)*$/;
// The beginning of a line goes on its way before its end has come: a CR in it would end it for some readers.
const PARTIAL_SIZE_LINE = /^[0-9A-Fa-f]*(?:;[\t\x20-\x7e]*)?\r?$/;
const PARTIAL_TRAILER = /^[\t\x20-\x7e\x80-\xff]*\r?$/;
const CR = 0x0d;
const LF = 0x0a;

/** Where in a chunked body the next octet stands. */
type Place = "size" | "data" | "data end" | "trailer";

/**
 * Finds the end of a body whose octets come in pieces. The data of a chunked body goes into `payload` too, without its chunks.
 */
export class BodyReader {
  readonly #framing: Framing;
  readonly #payload: Buffer[] | undefined;
  readonly #goesOn: ((name: string) => boolean) | undefined;
  #left: number;
  #place: Place = "size";
  /** A line that came in part; lines are short, so this is a rare path. */
  #line = "";
  #trailerOctets = 0;
  /** Where the trailer begins in what read() took last, -1 where none of it was there; and its lines that go on from there. */
  #trailerAt = -1;
  #trailer = "";

  /** `goesOn` says of a trailer field's name whether passed() has it; all are there without. */
  constructor(
    framing: Framing,
    payload?: Buffer[],
    goesOn?: (name: string) => boolean,
  ) {
    this.#framing = framing;
    this.#payload = payload;
    this.#goesOn = goesOn;
    this.#left = typeof framing === "number" ? framing : Infinity;
  }

  /** The last octet has been read. */
  get done(): boolean {
    return this.#left === 0;
  }

  /** The body may end where the stream ends. */
  get endsWithStream(): boolean {
    return this.#framing === "close" || this.done;
  }

  /**
   * Reads octets from index `from` on; gives the index just past the last one that belongs to this body.
   * @throws Malformed when the chunks cannot be read in exactly one way
   */
  read(octets: Buffer, from: number): number {
    if (this.#framing === "chunked") return this.#readChunks(octets, from);
    const end = Math.min(octets.length, from + this.#left);
    this.#left -= end - from;
    if (end > from) this.#payload?.push(octets.subarray(from, end));
    return end;
  }

  /** The same octets as they go on: without the trailer fields that do not, whose lines are kept back until they are whole. */
  passed(octets: Buffer, from: number, end: number): Buffer {
    const at = this.#trailerAt;
    if (at < 0 || this.#goesOn === undefined) return octets.subarray(from, end);
    const trailer = Buffer.from(this.#trailer, "latin1");
    return Buffer.concat([octets.subarray(from, at), trailer]);
  }

  #readChunks(octets: Buffer, from: number): number {
    let at = from;
    this.#trailer = "";
    this.#trailerAt = this.#place === "trailer" ? from : -1;
    // In a chunked body #left counts the octets of the chunk under way once there is one.
    while (at < octets.length && !this.done) {
      if (this.#place === "data") {
        const end = Math.min(octets.length, at + this.#left);
        this.#payload?.push(octets.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left > 0) return at;
        this.#left = Infinity;
        this.#place = "data end";
        continue;
      }
      const lineEnd = octets.indexOf(LF, at);
      const end = lineEnd < 0 ? octets.length : lineEnd + 1;
      if (this.#line.length + end - at > MAX_LINE_OCTETS)
        throw new Malformed("a line of a chunked body is too long");
      this.#line += octets.toString("latin1", at, end);
      at = end;
      if (lineEnd < 0) {
        this.#checkPartialLine();
        return at;
      }
      const line = this.#line;
      this.#line = "";
      this.#endLine(line, at);
    }
    return at;
  }

  #checkPartialLine(): void {
    const line = this.#line;
    if (this.#place === "data end" && !"\r\n".startsWith(line))
      throw new Malformed("a chunk is longer than its size");
    if (this.#place === "size" && !PARTIAL_SIZE_LINE.test(line))
      throw new Malformed("a chunk's size cannot be read");
    if (this.#place === "trailer" && !PARTIAL_TRAILER.test(line))
      throw new Malformed("the trailer has an octet that no field may have");
  }

  /** Reads a line that is whole; what follows it begins at index `next`. */
  #endLine(line: string, next: number): void {
    if (line.charCodeAt(line.length - 2) !== CR)
      throw new Malformed("a line of a chunked body ends without CR LF");
    if (this.#place === "data end") {
      if (line !== "\r\n")
        throw new Malformed("a chunk is longer than its size");
      this.#place = "size";
    } else if (this.#place === "size") {
      const size = SIZE_LINE.exec(line.slice(0, -2));
      if (size === null) throw new Malformed("a chunk's size cannot be read");
      const length = parseInt(size[1] ?? "", 16);
      this.#place = length === 0 ? "trailer" : "data";
      if (length > 0) this.#left = length;
      else this.#trailerAt = next;
    } else if (line === "\r\n") {
      this.#left = 0;
      this.#trailer += line;
    } else {
      this.#trailerOctets += line.length;
      if (this.#trailerOctets > MAX_TRAILER_OCTETS)
        throw new Malformed("the trailer is too long");
      const name = checkTrailer(line);
      if (this.#goesOn?.(name) === true) this.#trailer += line;
    }
  }
}
