// Reads an accepted socket into large buffers that are used again. The one place that touches what Node does not document:
// net.Server hands out sockets without `onread`, so that the handle of an accepted one is put into a socket that has it.
import { Socket, type Server } from "node:net";
import type { Duplex } from "node:stream";

/** The size of a read. Fewer, larger system calls are what bulk data gains by. */
const READ_OCTETS = 256 * 1024;
/** libuv reads on, up to 32 times a turn, while reads come back full; after so many the others have their turn. */
const FULL_READS = 2;
/** Buffers that one socket has for itself while it is busy; the others share one, whose octets are copied. 16 MiB in all. */
const MAX_OWN = 64;
/** A read worth a buffer of its own, and how many lesser ones in a row give it back. */
const BUSY_OCTETS = 32 * 1024;
const LESSER_READS = 16;
/** To copy fewer octets is cheaper than to lend their buffer; a longer write always reports when it has left. */
const COPIED_OCTETS = 16 * 1024;

/** What a handle must have for this. */
interface Handle {
  useUserBuffer(buffer: Uint8Array): void;
}
interface AcceptedSocket {
  _handle: unknown;
  _server: unknown;
}
interface OnRead {
  /** Where the next read goes to. */
  buffer(): Buffer;
  /** False stops reading. */
  callback(this: Socket, count: number): boolean;
}

const shared = Buffer.allocUnsafeSlow(READ_OCTETS);
/** Own buffers that nobody uses now. */
const spare: Buffer[] = [];
/** Own buffers from which a write has not left yet, and who writes it. */
const lent: { readonly buffer: Buffer; readonly borrower: Borrower }[] = [];
let ownCount = 0;
/** What the socket whose read is being delivered reads into next. */
let next: Buffer = shared;
/** The intake whose octets are being delivered. */
let delivering: Intake | undefined;

/** Somebody who writes octets out of a buffer that is not his. */
export interface Borrower {
  readonly writableLength: number;
  readonly destroyed: boolean;
}

const INTAKE = Symbol("intake");
interface AdoptedSocket extends Socket {
  [INTAKE]?: Intake;
}

/** Who takes the octets: `octets` are good during the call only. */
export type Sink = (this: Socket, octets: Buffer) => void;

/** How one socket reads. */
class Intake {
  readonly sink: Sink;
  buffer: Buffer = shared;
  lesser = 0;
  /** Full reads since it last let the others go first. */
  full = 0;
  /** A write out of `buffer` has not left yet. */
  borrower: Borrower | undefined;

  constructor(sink: Sink) {
    this.sink = sink;
  }

  /** The buffer for the next read, after one of `count` octets. */
  after(count: number): Buffer {
    if (this.borrower !== undefined) {
      lent.push({ buffer: this.buffer, borrower: this.borrower });
      this.borrower = undefined;
      this.buffer = takeOwn() ?? shared;
    } else if (count >= BUSY_OCTETS) {
      this.lesser = 0;
      if (this.buffer === shared) this.buffer = takeOwn() ?? shared;
    } else if (this.buffer !== shared && ++this.lesser > LESSER_READS)
      this.giveBack();
    return this.buffer;
  }

  giveBack(): void {
    // A socket that was destroyed while it delivered has not come to after().
    if (this.borrower !== undefined)
      lent.push({ buffer: this.buffer, borrower: this.borrower });
    else if (this.buffer !== shared) spare.push(this.buffer);
    this.borrower = undefined;
    this.buffer = shared;
    this.lesser = 0;
  }
}

/** What tryOut() has found, once a process. */
let worked: boolean | undefined;

/** Whether this Node lets its sockets be used so. Where it does not, they are read through the public API, which is slower. */
export function adopts(): boolean {
  return (worked ??= tryOut());
}

/** Whether an accepted socket can be adopted: not every stream that comes to a server is one of Node's own. */
export function canAdopt(socket: Socket): boolean {
  return (
    adopts() &&
    "_handle" in socket &&
    "_server" in socket &&
    isHandle(socket._handle)
  );
}

/** Puts the handle of one socket into another, as adopt() does. Neither ever connects, so that nothing is sent. */
function tryOut(): boolean {
  const old = new Socket();
  let adopted: Socket | undefined;
  let asked = false;
  try {
    // It has a handle from here on, and would connect in the next turn.
    old.connect({ port: 1, host: "127.0.0.1" });
    if (!("_handle" in old) || !isHandle(old._handle)) return false;
    const handle = old._handle;
    old._handle = null;
    const buffer = (): Buffer => {
      asked = true;
      return shared;
    };
    adopted = socketWith(handle, { buffer, callback: () => false });
    // Node asks for a buffer only where it has taken both the handle and `onread`.
    return asked;
  } catch {
    return false;
  } finally {
    // The new one reads at once, and fails because it is not connected.
    adopted?.on("error", () => undefined).destroy();
    old.destroy();
  }
}

/**
 * Puts an accepted, paused socket's connection into a socket that reads into our buffers and gives what it reads to `sink`.
 * The old one is an empty shell afterwards. Only where canAdopt() says so.
 */
export function adopt(old: Socket, server: Server, sink: Sink): Socket {
  const shell = old as unknown as AcceptedSocket;
  const handle = shell._handle;
  shell._handle = null;
  next = shared;
  const socket: AdoptedSocket = socketWith(handle, {
    buffer: () => next,
    callback: deliver,
  });
  socket[INTAKE] = new Intake(sink);
  // The server counts its connections by this.
  (socket as unknown as AcceptedSocket)._server = server;
  return socket.once("close", forget);
}

/**
 * Octets that may be written by `borrower` and will stay as they are until they have left.
 * They are copied unless they are many, in a buffer that can be spared until then, and `borrower` is known to tell when.
 */
export function keep(octets: Buffer, borrower: Borrower | undefined): Buffer {
  const intake = delivering;
  if (intake?.buffer.buffer !== octets.buffer) return octets;
  const lendable =
    intake.buffer !== shared &&
    intake.borrower === undefined &&
    octets.length >= COPIED_OCTETS &&
    borrower?.writableLength === 0;
  return lendable ? octets : Buffer.from(octets);
}

/** Tells that `octets` were written by `borrower`, and have perhaps not left yet. */
export function written(octets: Buffer, borrower: Borrower): void {
  if (
    borrower.writableLength > 0 &&
    delivering?.buffer.buffer === octets.buffer
  )
    delivering.borrower = borrower;
}

/**
 * Lets a stream that is not adopted, as those of TLS, read no more after a read of which nobody takes the first piece.
 * It would count octets, and very many small pieces, each a record of TLS, take far more than they have.
 */
export function readNoFurther(stream: Duplex): void {
  const state: unknown =
    "_readableState" in stream ? stream._readableState : undefined;
  if (typeof state === "object" && state !== null && "highWaterMark" in state)
    state.highWaterMark = 1;
}

function socketWith(handle: unknown, onread: OnRead): Socket {
  const options = { handle, allowHalfOpen: true, onread };
  return new Socket(options);
}

function deliver(this: AdoptedSocket, count: number): boolean {
  const intake = this[INTAKE];
  if (intake === undefined) return false;
  delivering = intake;
  intake.sink.call(this, intake.buffer.subarray(0, count));
  delivering = undefined;
  next = this.destroyed ? shared : intake.after(count);
  if (count < READ_OCTETS || ++intake.full < FULL_READS) return true;
  intake.full = 0;
  setImmediate(goOn, this);
  return false;
}

/** The next turn of a socket that has let the others go first. */
function goOn(socket: AdoptedSocket): void {
  if (!socket.destroyed && !socket.isPaused()) socket.resume();
}

function forget(this: AdoptedSocket): void {
  this[INTAKE]?.giveBack();
}

function takeOwn(): Buffer | undefined {
  const back = lent.findIndex(
    ({ borrower }) => borrower.writableLength === 0 || borrower.destroyed,
  );
  if (spare.length > 0) return spare.pop();
  if (back >= 0) return lent.splice(back, 1)[0]?.buffer;
  if (ownCount >= MAX_OWN) return undefined;
  ownCount++;
  return Buffer.allocUnsafeSlow(READ_OCTETS);
}

function isHandle(handle: unknown): handle is Handle {
  return (
    typeof handle === "object" &&
    handle !== null &&
    "useUserBuffer" in handle &&
    typeof handle.useUserBuffer === "function"
  );
}
