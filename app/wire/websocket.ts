// A TCP stream in the binary messages of a WebSocket (RFC 6455). An empty message is the end of a direction, for a close frame ends both.
import { IncomingMessage } from "node:http";
import { Writable } from "node:stream";
import { WebSocket, WebSocketServer, type ServerOptions } from "ws";
import { fieldOf } from "./head.ts";
import type { Link, Receiver } from "./link.ts";
import type { BeatingPipe } from "./pipe.ts";
import { PipeStream } from "./pipestream.ts";

/** No message is longer: some routers take no more than a part of a megabyte. */
const MAX_MESSAGE_OCTETS = 64 * 1024;
/** What is kept of a message until it is whole: of one twice as long as ours, in a few fragments, that comes in small segments. */
export const MESSAGE_BOUNDS = {
  maxPayload: 2 * MAX_MESSAGE_OCTETS,
  maxFragments: 16,
  maxBufferedChunks: 512,
};
/** ws is given no more at a time, for the smallest fragment keeps all that it came with. */
const MAX_READ_OCTETS = 4 * 1024;
/** Above this the writer waits. */
const MAX_BACKLOG_OCTETS = 256 * 1024;
/** And above this, however short they are: each takes some hundred octets of its own. */
const MAX_UNSENT_MESSAGES = 64;
/** How long the other side may go on after this side's end, when it does not know the empty message. */
const CLOSING_MILLISECONDS = 2 * 1000;

const CLEAN = 1000;
/** What a close without a code is told as: a browser's plain close(). */
const NO_CODE = 1005;
const UNSUPPORTED = 1003;
/** Our own: the stream was cut (4000 to 4999 are for applications, RFC 6455 7.4.2). */
const CUT = 4000;

export class WebSocketPipe implements BeatingPipe {
  receiver: Receiver;
  received = 0;
  sent = 0;
  heardAt = performance.now();
  sentAt = performance.now();
  over = false;
  readonly #socket: WebSocket;
  readonly #patience: number;
  #waiting = false;
  #unsent = 0;
  /** Payloads of a read that are told in one: most of a very short message is what it takes to keep it. */
  #gathered: Buffer[] = [];
  /** How the octets of a read come is known, and so when to tell them. */
  readonly #gathers: boolean;
  /** We have closed it for a reason that is no end, whatever the other side says to that. */
  #broken = false;
  #ended = false;
  #endTold = false;
  #closing: NodeJS.Timeout | undefined;

  /** `patience`: milliseconds of silence after this side's end that end the other direction too; none for one that knows the empty message. */
  constructor(
    socket: WebSocket,
    receiver: Receiver,
    patience = CLOSING_MILLISECONDS,
  ) {
    this.#socket = socket;
    this.receiver = receiver;
    this.#patience = patience;
    this.#gathers = tameReceiver(socket, () => {
      this.#tell();
    });
    const heard = (): void => {
      this.heardAt = performance.now();
    };
    // A frame that is none; ws has sent its close then.
    socket.on("error", () => {
      this.#fail();
    });
    socket.on("ping", heard).on("pong", heard);
    socket.on("message", (octets: Buffer, isBinary) => {
      heard();
      this.#take(octets, isBinary);
    });
    socket.on("close", (code) => {
      clearTimeout(this.#closing);
      if (this.over) return;
      this.#tell();
      this.over = true;
      const clean = (code === CLEAN || code === NO_CODE) && !this.#broken;
      if (clean) this.#tellEnd();
      this.receiver.gone(clean);
    });
  }

  /** Every WebSocket answers pings; but who is not read cannot be heard. */
  get expectsBeats(): boolean {
    return !this.#socket.isPaused;
  }

  get paused(): boolean {
    return this.#socket.isPaused;
  }

  write(octets: Buffer): boolean {
    if (this.#ended || octets.length === 0) return true;
    this.sent += octets.length;
    this.sentAt = performance.now();
    for (let at = 0; at < octets.length; at += MAX_MESSAGE_OCTETS) {
      // ws may keep what it is given, and masks it in place.
      const message = Buffer.from(octets.subarray(at, at + MAX_MESSAGE_OCTETS));
      this.#unsent++;
      this.#socket.send(message, { binary: true, compress: false }, this.#sent);
    }
    this.#waiting = this.#isBehind(MAX_BACKLOG_OCTETS, MAX_UNSENT_MESSAGES);
    return !this.#waiting;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.send(
      Buffer.alloc(0),
      { binary: true, compress: false },
      () => undefined,
    );
    if (this.#endTold) this.#socket.close(CLEAN);
    else if (Number.isFinite(this.#patience))
      this.#closing = setTimeout(() => {
        this.#socket.close(CLEAN);
      }, this.#patience);
  }

  reset(): void {
    this.#broken = true;
    if (this.#socket.readyState !== WebSocket.OPEN) {
      this.#socket.terminate();
      return;
    }
    this.#socket.close(CUT, "the stream was cut");
    clearTimeout(this.#closing);
    this.#closing = setTimeout(() => {
      this.#socket.terminate();
    }, CLOSING_MILLISECONDS);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    if (this.#socket.isPaused) this.heardAt = performance.now();
    this.#socket.resume();
  }

  beat(): void {
    this.sentAt = performance.now();
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
  }

  readonly #sent = (): void => {
    this.#unsent--;
    const isBehind = this.#isBehind(
      MAX_BACKLOG_OCTETS / 2,
      MAX_UNSENT_MESSAGES / 2,
    );
    if (!this.#waiting || isBehind) return;
    this.#waiting = false;
    this.receiver.drain();
  };

  #isBehind(octets: number, messages: number): boolean {
    return this.#socket.bufferedAmount > octets || this.#unsent > messages;
  }

  #take(octets: Buffer, isBinary: boolean): void {
    if (this.#broken) return;
    if (!isBinary) {
      this.#socket.close(UNSUPPORTED, "binary messages only");
      this.#fail();
      return;
    }
    if (this.#closing !== undefined) this.#closing.refresh();
    if (octets.length === 0) this.#tellEnd();
    else if (!this.#endTold) {
      this.received += octets.length;
      this.#gathered.push(octets);
      if (!this.#gathers) this.#tell();
    }
    if (this.#endTold && this.#ended) this.#socket.close(CLEAN);
  }

  /** Tells what has been gathered. */
  #tell(): void {
    const gathered = this.#gathered;
    if (gathered.length === 0) return;
    this.#gathered = [];
    if (!this.#broken) this.receiver.data(joined(gathered));
  }

  /** It is of no use any more, though the other side may take its time to close. */
  #fail(): void {
    if (this.over) return;
    this.#tell();
    this.over = true;
    this.#broken = true;
    clearTimeout(this.#closing);
    this.#closing = setTimeout(() => {
      this.#socket.terminate();
    }, CLOSING_MILLISECONDS);
    this.receiver.gone(false);
  }

  #tellEnd(): void {
    if (this.#endTold) return;
    this.#tell();
    this.#endTold = true;
    this.receiver.end();
  }
}

/** One piece with nothing around it: a part that somebody keeps keeps the whole that it was cut out of. */
function joined(parts: readonly Buffer[]): Buffer {
  const [first] = parts;
  if (
    parts.length === 1 &&
    first !== undefined &&
    2 * first.length >= first.buffer.byteLength
  )
    return first;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const whole = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for (const part of parts) at += part.copy(whole, at);
  return whole;
}

/**
 * ws 8.23 reads on in what has come behind a broken frame, and throws where nobody can catch it: the process would end.
 * Its receiver is a Writable, which knows at once that it has failed.
 * What it keeps of an unfinished message are views of what it was given: it is given small copies.
 * `wasRead` is called after each; false means that it never will be.
 */
function tameReceiver(socket: WebSocket, wasRead: () => void): boolean {
  const receiver = "_receiver" in socket ? socket._receiver : undefined;
  if (!(receiver instanceof Writable)) return false;
  const write = receiver._write.bind(receiver);
  receiver._write = (octets: Buffer, coding, taken) => {
    let at = 0;
    const next = (error?: Error | null): void => {
      wasRead();
      if ((error ?? receiver.errored) !== null || at === octets.length) {
        taken(error);
        return;
      }
      const from = at;
      at = Math.min(at + MAX_READ_OCTETS, octets.length);
      const piece = Buffer.allocUnsafeSlow(at - from);
      octets.copy(piece, 0, from, at);
      write(piece, coding, next);
    };
    next(null);
  };
  return true;
}

const VERSION = "13";
/** 16 octets in base64. */
const KEY = /^[+/0-9A-Za-z]{22}==$/;

/** What the handshake needs to know of a request. */
export interface Handshake {
  readonly target: string;
  readonly fields: readonly string[];
}

/** How a handshake is to be answered. */
export interface Acceptance {
  readonly handshake: Handshake;
  /** The one subprotocol that is meant here. */
  readonly protocol: string;
  /** Field lines for the 101. */
  readonly fields?: readonly string[];
}

/** Field lines that belong into the answer to a request. */
const more = new WeakMap<IncomingMessage, readonly string[]>();

/** @types/ws does not know closeTimeout yet. */
const serverOptions: ServerOptions & { closeTimeout: number } = {
  noServer: true,
  perMessageDeflate: false,
  ...MESSAGE_BOUNDS,
  // One message a turn: whoever sends very many small ones delays only himself.
  allowSynchronousEvents: false,
  // How long whoever has closed may leave the connection open.
  closeTimeout: CLOSING_MILLISECONDS,
  handleProtocols: (offered) => offered.values().next().value ?? false,
};
const server = new WebSocketServer(serverOptions).on(
  "headers",
  (lines, request) => {
    lines.push(...(more.get(request) ?? []));
  },
);

/** Whether the fields of a request for `Upgrade: websocket` are a handshake that can be accepted (RFC 6455 4.2.1). */
export function isHandshake(fields: readonly string[]): boolean {
  const version = fieldOf(fields, "sec-websocket-version");
  const key = fieldOf(fields, "sec-websocket-key") ?? "";
  return version === VERSION && KEY.test(key);
}

/**
 * Answers a WebSocket handshake on a link, and gives the WebSocket. A bad one is answered by ws itself, and closed.
 * `early` are the octets that came after the request.
 * The handshake is over within this call; false means that it has failed and the link is being closed.
 */
export function acceptWebSocket(
  link: Link,
  { handshake, protocol, fields = [] }: Acceptance,
  early: Buffer,
  accepted: (socket: WebSocket) => void,
): boolean {
  const stream = new PipeStream(link);
  const request = new IncomingMessage(stream as never);
  request.method = "GET";
  request.url = handshake.target;
  for (let i = 0; i < handshake.fields.length; i += 2) {
    const name = (handshake.fields[i] ?? "").toLowerCase();
    request.headers[name] ??= handshake.fields[i + 1];
  }
  // Of what was offered only this one is meant here.
  request.headers["sec-websocket-protocol"] = protocol;
  delete request.headers["sec-websocket-extensions"];
  more.set(request, fields);
  let done = false;
  server.handleUpgrade(request, stream, early, (socket) => {
    done = true;
    accepted(socket);
  });
  return done;
}
