// One end of a connection and its single owner: from the first moment a stream has an 'error' listener and somebody who takes its octets.
import { Socket, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { adopt, canAdopt, keep, readNoFurther, written } from "./adopt.ts";

/** Who takes what comes out of a link. Handing a link on is assigning another receiver. */
export interface Receiver {
  /** Octets have come. They are the receiver's during the call only: what is kept longer is copied or written. */
  data(octets: Buffer): void;
  /** The other side has ended its direction (FIN). */
  end(): void;
  /** A write() that returned false has been taken. */
  drain(): void;
  /** The stream is closed, once, and nothing more will come. `clean` is false after a reset or another error. */
  gone(clean: boolean): void;
}

/** Counts what passes through links, and holds them where that is too much. */
export interface Metering {
  /** False when the link is held now; unhold() follows. */
  count(link: Link, octets: number): boolean;
}

/** Up to here one copy is cheaper than a write of two pieces. */
const MAX_JOINED_OCTETS = 16 * 1024;

/** How long what was written may take to leave before a connection is reset. */
const RESETTING_MILLISECONDS = 1000;

/** Each write that has to wait takes some hundred octets of its own, so that very many small ones would take far more than what they carry. */
const MAX_WAITING_WRITES = 64;

const NOTHING = Buffer.alloc(0);

/** Receives for nobody: for a link between two owners, or one that is being closed. */
export const UNOWNED: Receiver = { data() {}, end() {}, drain() {}, gone() {} };

const LINK = Symbol("link");
interface Linked extends Duplex {
  [LINK]?: Link | undefined;
}

/** A stream with one receiver at a time. The listeners are shared by all links, so that a parked one costs no closures. */
export class Link {
  readonly stream: Duplex;
  receiver: Receiver;
  /** Octets that came out, and that were put in. */
  received = 0;
  sent = 0;
  /** gone() has been told, or will never be. */
  over = false;
  /** Counts both directions, where that is limited. */
  meter: Metering | undefined;
  /** The meter lets nothing pass. */
  #held = false;
  /** The owner has paused it, whatever the meter says. */
  #paused = false;
  /** The owner waits for drain() because the meter wanted so. */
  #owesDrain = false;
  /** Writes in a row that found others waiting, and whether they are too many: the owner waits for drain() then. */
  #waiting = 0;
  #crowded = false;
  #failed = false;
  #address: string | undefined;
  /** A socket without TLS: what it writes is on its way once it is no longer counted in writableLength. */
  readonly #isPlain: boolean;

  constructor(stream: Duplex, receiver: Receiver) {
    this.stream = stream;
    this.#isPlain = stream instanceof Socket && !("encrypted" in stream);
    this.receiver = receiver;
    const linked: Linked = stream;
    linked[LINK] = this;
    readNoFurther(stream);
    stream.on("error", onError);
    stream.on("end", onEnd);
    stream.on("drain", onDrain);
    stream.on("close", onClose);
    stream.on("data", onData);
  }

  /** The address of the other side, as the kernel tells it; empty for a stream that is no socket. IPv4 looks like IPv4 on an IPv6 socket too. */
  get address(): string {
    this.#address ??=
      this.stream instanceof Socket
        ? plainIpv4(this.stream.remoteAddress ?? "")
        : "";
    return this.#address;
  }

  /** Octets that were written and have not left yet. */
  get backlog(): number {
    return this.stream.writableLength;
  }

  get needsDrain(): boolean {
    return this.stream.writableNeedDrain || (this.#crowded && !this.ended);
  }

  /** Nothing can be written any more: the link is closed, or its own direction has been ended. */
  get ended(): boolean {
    return this.stream.writableEnded || this.stream.destroyed;
  }

  get closed(): boolean {
    return this.stream.destroyed;
  }

  /**
   * Writes octets, or a head in latin1. False means: pause the link that the octets came from, and wait for drain().
   * Nothing happens on a link that has ended.
   */
  write(octets: Buffer | string): boolean {
    const { stream } = this;
    if (this.ended) return true;
    this.sent += octets.length;
    if (typeof octets === "string")
      return this.#goesOn(stream.write(octets, "latin1"), octets.length);
    const kept = keep(octets, this.#isPlain ? stream : undefined);
    const flows = this.#put(kept);
    if (kept === octets) written(octets, stream);
    return this.#goesOn(flows, octets.length);
  }

  #put(octets: Buffer): boolean {
    const { stream } = this;
    this.#waiting = stream.writableLength === 0 ? 0 : this.#waiting + 1;
    const crowds = this.#waiting >= MAX_WAITING_WRITES && !this.#crowded;
    if (crowds) this.#crowded = true;
    const flows = crowds
      ? stream.write(octets, () => {
          this.#uncrowd();
        })
      : stream.write(octets);
    // What the kernel has taken already need not be waited for.
    return !this.#crowded && (flows || stream.writableLength === 0);
  }

  #uncrowd(): void {
    this.#crowded = false;
    this.#waiting = 0;
    if (!this.over && !this.ended && !this.needsDrain) this.drained();
  }

  #goesOn(flows: boolean, octets: number): boolean {
    if (this.meter === undefined || this.meter.count(this, octets))
      return flows;
    this.#owesDrain = true;
    return false;
  }

  /** Writes a head and what follows it so that they leave together. The same as write() otherwise. */
  writeJoined(head: string, octets: Buffer): boolean {
    const { stream } = this;
    if (octets.length === 0 || this.ended) return this.write(head);
    const length = head.length + octets.length;
    this.sent += length;
    if (octets.length <= MAX_JOINED_OCTETS) {
      const joined = Buffer.allocUnsafe(length);
      joined.write(head, 0, "latin1");
      octets.copy(joined, head.length);
      return this.#goesOn(this.#put(joined), length);
    }
    const kept = keep(octets, this.#isPlain ? stream : undefined);
    stream.cork();
    stream.write(head, "latin1");
    const flows = stream.write(kept);
    stream.uncork();
    if (kept === octets) written(octets, stream);
    return this.#goesOn(flows || stream.writableLength === 0, length);
  }

  get paused(): boolean {
    return this.stream.isPaused();
  }

  pause(): void {
    this.#paused = true;
    this.stream.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#held) this.stream.resume();
  }

  /** For the meter: nothing is read until unhold(), whatever the owner wants. */
  hold(): void {
    this.#held = true;
    this.stream.pause();
  }

  /** For the meter: the owner decides again. */
  unhold(): void {
    this.#held = false;
    if (this.over) return;
    if (!this.#paused) this.stream.resume();
    if (this.#owesDrain && !this.needsDrain) this.drained();
  }

  /** Ends this side's direction (FIN) after all that was written. */
  end(): void {
    if (!this.ended) this.stream.end();
  }

  destroy(): void {
    this.stream.destroy();
  }

  /**
   * Breaks the connection so that the other side sees that the stream was cut and did not end: RST where the system permits.
   * What was written may still leave, for a moment.
   */
  reset(): void {
    const { stream } = this;
    const socket = this.#isPlain ? stream : socketUnder(stream);
    if (!(socket instanceof Socket) || socket.destroyed) {
      stream.destroy();
      return;
    }
    const cut = (): void => {
      socket.resetAndDestroy();
      if (!this.#isPlain) stream.destroy();
    };
    // While a FIN is on its way libuv resets nothing, and Node would lose the socket and leave it open.
    if (isEnding(stream)) stream.once("finish", cut).pause();
    else cut();
    // It waits for what was written; whoever takes nothing would keep it for ever.
    if (!stream.destroyed)
      setTimeout(() => stream.destroy(), RESETTING_MILLISECONDS).unref();
  }

  /** Gives the stream back to whoever wants to use it as a plain stream; no receiver hears of it again. Octets unshifted by the caller come first. */
  release(): Duplex {
    const linked: Linked = this.stream;
    this.stream.pause();
    this.stream
      .off("end", onEnd)
      .off("drain", onDrain)
      .off("close", onClose)
      .off("data", onData);
    linked[LINK] = undefined;
    this.over = true;
    return this.stream;
  }

  /** Finds out about a RST on a link that nobody reads: a paused one, or one whose other side has ended its direction. */
  probe(): void {
    const isRead = !this.paused && !this.stream.readableEnded;
    if (!isRead && this.backlog === 0) this.#knock();
  }

  /** A write of nothing fails on a connection that was reset. */
  #knock(): void {
    const { stream } = this;
    if (this.#isPlain && !this.ended && !isConnecting(stream))
      stream.write(NOTHING);
  }

  /** For the shared listeners. */
  finish(): void {
    // libuv takes a RST right behind the last octets for an end.
    this.#knock();
    if (!this.stream.errored) this.receiver.end();
  }

  /** For the shared listeners. */
  drained(): void {
    if (this.#crowded) return;
    this.#owesDrain = this.#held;
    if (!this.#held) this.receiver.drain();
  }

  /** For the shared listeners. */
  fail(): void {
    this.#failed = true;
  }

  /** For the shared listeners. */
  close(): void {
    this.over = true;
    this.receiver.gone(!this.#failed && !this.stream.errored);
  }
}

/** A link on a socket that `server` has accepted, which must have been made with pauseOnConnect. */
export function acceptLink(
  socket: Socket,
  server: Server,
  receiver: Receiver,
): Link {
  if (canAdopt(socket))
    return new Link(adopt(socket, server, onData), receiver);
  socket.resume();
  return new Link(socket, receiver);
}

/** Its last octet is out, and its FIN is not yet. */
function isEnding(stream: Duplex): boolean {
  const { writableEnded, writableFinished, writableLength } = stream;
  return writableEnded && !writableFinished && writableLength === 0;
}

/** An address of IPv4 as such, where a socket of IPv6 has mapped it (RFC 4291 2.5.5.2). */
export function plainIpv4(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}

function isConnecting(stream: Duplex): boolean {
  return stream instanceof Socket && stream.connecting;
}

/** The socket that carries a stream of TLS, as far as this Node shows it: only a socket can be reset. */
export function socketUnder(stream: Duplex): Socket | undefined {
  const under = "_parent" in stream ? stream._parent : undefined;
  // Under TLS within TLS, or on a stream that is no socket, stands another kind of Socket, which throws.
  return under instanceof Socket && under.constructor === Socket
    ? under
    : undefined;
}

function onData(this: Linked, octets: Buffer): void {
  const link = this[LINK];
  if (link === undefined) return;
  link.received += octets.length;
  link.meter?.count(link, octets.length);
  try {
    link.receiver.data(octets);
  } catch (bug) {
    // One connection goes, with the bug as its error for whoever logs it; the others stay.
    link.stream.destroy(bug instanceof Error ? bug : new Error(String(bug)));
  }
}

function onEnd(this: Linked): void {
  this[LINK]?.finish();
}

function onDrain(this: Linked): void {
  this[LINK]?.drained();
}

function onError(this: Linked): void {
  this[LINK]?.fail();
}

function onClose(this: Linked): void {
  this[LINK]?.close();
}
