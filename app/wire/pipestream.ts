// A pipe as a Node stream, for whoever wants one: an http.Server, ws, a user of the library.
import { Duplex } from "node:stream";
import type { Pipe } from "./pipe.ts";

/** Whatever is not read at once stops the pipe: a stream counts octets, and very many small pieces take far more than they have. */
const READ_AHEAD_OCTETS = 1;

/** Makes a Duplex of a pipe. The pipe has no other receiver from then on. */
export class PipeStream extends Duplex {
  readonly #pipe: Pipe;
  #written: ((error?: Error | null) => void) | undefined;

  constructor(pipe: Pipe) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD_OCTETS });
    this.#pipe = pipe;
    pipe.receiver = {
      data: (octets) => {
        // They are ours during the call only, and a stream keeps what nobody reads.
        if (!this.push(Buffer.from(octets))) pipe.pause();
      },
      end: () => {
        this.push(null);
      },
      drain: () => {
        this.#taken();
      },
      gone: (clean) => {
        this.#taken();
        if (clean) this.push(null);
        else this.destroy(new Error("the connection was cut"));
      },
    };
    if (pipe.over) pipe.receiver.gone(false);
    else pipe.resume();
  }

  // http.Server and ws expect a socket.
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }

  override _read(): void {
    this.#pipe.resume();
  }

  override _write(
    octets: Buffer,
    _encoding: BufferEncoding,
    callback: (error?: Error | null) => void,
  ): void {
    if (this.#pipe.write(octets)) callback();
    else this.#written = callback;
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#pipe.end();
    callback();
  }

  override _destroy(
    error: Error | null,
    callback: (error?: Error | null) => void,
  ): void {
    if (
      !this.#pipe.over &&
      (error !== null || !this.writableFinished || !this.readableEnded)
    )
      this.#pipe.reset();
    callback(error);
  }

  #taken(): void {
    const written = this.#written;
    this.#written = undefined;
    written?.();
  }
}
