// One end of a connection in memory: what is written to it stands there at once, and what comes out of it is given by hand.
import { Duplex } from "node:stream";
import { Link, UNOWNED, type Receiver } from "../../app/wire/link.ts";
import { latin1 } from "./octets.ts";

/** No case writes so much. */
const ROOM = 64 * 1024 * 1024;

class Memory extends Duplex {
  text = "";

  constructor() {
    super({ highWaterMark: ROOM });
  }

  override _read(): void {
    // What comes is given to the link itself.
  }

  override _write(octets: Buffer, _coding: string, done: () => void): void {
    this.text += latin1(octets);
    done();
  }
}

export class End {
  readonly link: Link;
  readonly #stream = new Memory();

  constructor(receiver: Receiver = UNOWNED) {
    this.link = new Link(this.#stream, receiver);
  }

  /** All that was written to it. */
  get text(): string {
    return this.#stream.text;
  }

  /** Its owner has ended his direction in good order. */
  get ended(): boolean {
    return this.#stream.writableEnded && !this.cut;
  }

  /** Its owner has broken it. */
  get cut(): boolean {
    return this.#stream.destroyed && !this.#stream.writableFinished;
  }

  get closed(): boolean {
    return this.link.closed;
  }

  /** Octets come, as long as there is a connection. */
  come(...pieces: readonly Buffer[]): this {
    for (const piece of pieces)
      if (!this.link.closed) this.link.receiver.data(Buffer.from(piece));
    return this;
  }

  /** The same as a stream would give them, to whoever reads it by then. */
  async flow(...pieces: readonly Buffer[]): Promise<this> {
    for (const piece of pieces) {
      if (this.#stream.destroyed) break;
      this.#stream.push(Buffer.from(piece));
      await settled();
    }
    return this;
  }

  /** The other side ends its direction. */
  end(): void {
    if (!this.link.closed) this.link.receiver.end();
  }

  /** The other side is gone. */
  destroy(): void {
    this.#stream.destroy();
  }
}

/** What streams do behind the scenes is done. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
