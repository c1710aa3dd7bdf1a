// The three ways through a relay to a port of a hidden server. One attempt each; which one to take is for others to say.
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { WebSocket } from "ws";
import {
  CONNECT_TCP,
  HEARTBEAT_FIELD,
  connectTcpPath,
  type Way,
} from "../protocol.ts";
import { CapsulePipe } from "../wire/capsulepipe.ts";
import { UNOWNED, Link } from "../wire/link.ts";
import {
  openRequest,
  outboundOptions,
  type Address,
  type Outbound,
} from "../wire/outbound.ts";
import type { Pipe } from "../wire/pipe.ts";
import { WebSocketPipe } from "../wire/websocket.ts";

/** How long one way may take to be granted or refused: the relay waits for the service as long. */
const WAY_MILLISECONDS = 45 * 1000;
const MAX_PROBLEM_OCTETS = 16 * 1024;
/** How long the reason for a refusal may take, after its head. */
const PROBLEM_MILLISECONDS = 2 * 1000;

export interface Destination {
  readonly relay: Address;
  readonly id: string;
  readonly port: number;
}

/** A way did not lead there. With a `code` the relay itself has said no, and no other way will do better. */
export class DialError extends Error {
  override readonly name = "DialError";
  readonly status: number | undefined;
  readonly code: string | undefined;

  constructor(message: string, status?: number, code?: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A stream that leads there. */
export interface Reached {
  /** Paused until somebody takes its octets. */
  readonly pipe: Pipe;
  /** How often the relay beats and wants to hear from this side, where it says so. */
  readonly heartbeatSeconds?: number | undefined;
}

/**
 * Goes one way, unless the signal calls back.
 * @throws DialError, after the signal too
 */
export async function goBy(
  way: Way,
  to: Destination,
  signal?: AbortSignal,
): Promise<Reached> {
  try {
    if (way === "websocket") return { pipe: await byWebSocket(to, signal) };
    return await (way === "connect"
      ? byConnect(to, signal)
      : byUpgrade(to, signal));
  } catch (error) {
    if (error instanceof DialError) throw error;
    throw new DialError(error instanceof Error ? error.message : String(error));
  }
}

async function byConnect(
  to: Destination,
  signal: AbortSignal | undefined,
): Promise<Reached> {
  const target = `${to.id}:${String(to.port)}`;
  const { link, early } = await ask(
    to,
    { method: "CONNECT", path: target, headers: { Host: target } },
    "connect",
    200,
    signal,
  );
  return { pipe: primed(link, link, early) };
}

async function byUpgrade(
  to: Destination,
  signal: AbortSignal | undefined,
): Promise<Reached> {
  const headers = {
    Connection: "Upgrade",
    Upgrade: CONNECT_TCP,
    "Capsule-Protocol": "?1",
  };
  const { answer, link, early } = await ask(
    to,
    { method: "GET", path: connectTcpPath(to.id, to.port), headers },
    "upgrade",
    101,
    signal,
  );
  const told = Number(answer.headers[HEARTBEAT_FIELD.toLowerCase()]);
  const heartbeatSeconds = told > 0 ? told : undefined;
  const pipe = new CapsulePipe(link, UNOWNED, heartbeatSeconds !== undefined);
  return { pipe: primed(pipe, link, early), heartbeatSeconds };
}

function byWebSocket(
  { relay, id, port }: Destination,
  signal: AbortSignal | undefined,
): Promise<Pipe> {
  const url = new URL(connectTcpPath(id, port), relay.url);
  url.protocol = relay.url.protocol === "https:" ? "wss:" : "ws:";
  url.username = url.password = "";
  let answerer = (): string => relay.url.host;
  const socket = new WebSocket(url, CONNECT_TCP, {
    ...outboundOptions(relay),
    perMessageDeflate: false,
    handshakeTimeout: WAY_MILLISECONDS,
    finishRequest: (request) => {
      answerer = answererTo(request, relay.url);
      request.end();
    },
  });
  const settle = onAbort(signal, () => {
    socket.terminate();
  });
  return new Promise((resolve, reject) => {
    socket.on("error", (error) => {
      settle();
      reject(
        new DialError(`${relay.url.host} cannot be reached: ${error.message}`),
      );
    });
    socket.on("unexpected-response", (_request, answer) => {
      void readProblem(answerer(), answer, answer).then((problem) => {
        settle();
        socket.terminate();
        reject(problem);
      });
    });
    socket.on("open", () => {
      settle();
      const pipe = new WebSocketPipe(socket, UNOWNED, Infinity);
      pipe.pause();
      resolve(pipe);
    });
  });
}

/** One request whose success hands over the connection. */
function ask(
  to: Destination,
  outbound: Outbound,
  granted: "connect" | "upgrade",
  status: number,
  signal: AbortSignal | undefined,
): Promise<{ answer: IncomingMessage; link: Link; early: Buffer }> {
  const { host } = to.relay.url;
  return new Promise((resolve, reject) => {
    const request = openRequest(to.relay, outbound);
    const answerer = answererTo(request, to.relay.url);
    // What is to be broken off: the request, and then the reason for a refusal.
    let underway: { destroy(): unknown } = request;
    const settle = onAbort(signal, () => underway.destroy());
    const deadline = setTimeout(() => {
      request.destroy(
        new DialError(
          `${host} did not answer within ${String(WAY_MILLISECONDS / 1000)} s`,
        ),
      );
    }, WAY_MILLISECONDS);
    const refused = (
      answer: IncomingMessage,
      body: Readable,
      early: Buffer,
    ): void => {
      clearTimeout(deadline);
      underway = body;
      void readProblem(answerer(), answer, body, early).then((problem) => {
        settle();
        body.destroy();
        reject(problem);
      });
    };
    request.on(
      granted,
      (answer: IncomingMessage, stream: Duplex, early: Buffer) => {
        stream.on("error", () => undefined);
        if (answer.statusCode !== status) {
          refused(answer, stream, early);
          return;
        }
        clearTimeout(deadline);
        settle();
        // Node would end this side with the other one, and lose what is still to be sent.
        stream.allowHalfOpen = true;
        const link = new Link(stream, UNOWNED);
        link.pause();
        resolve({ answer, link, early });
      },
    );
    request.on("response", (answer) => {
      refused(answer, answer, NOTHING);
    });
    request.on("error", (error) => {
      clearTimeout(deadline);
      settle();
      reject(
        error instanceof DialError
          ? error
          : new DialError(`${host} cannot be reached: ${error.message}`),
      );
    });
    request.end();
  });
}

/** Gives up what is under way when the signal says so. Gives the function to call when there is nothing left to give up. */
function onAbort(
  signal: AbortSignal | undefined,
  giveUp: () => void,
): () => void {
  signal?.addEventListener("abort", giveUp);
  return () => signal?.removeEventListener("abort", giveUp);
}

/** Octets that came with the answer are given to whoever takes the pipe, before all others. */
function primed(pipe: Pipe, link: Link, early: Buffer): Pipe {
  link.pause();
  if (early.length > 0) link.stream.unshift(early);
  return pipe;
}

/** Who it is that answers: what comes through a proxy that has said no is the proxy's own. */
function answererTo(request: ClientRequest, relay: URL): () => string {
  let who = relay.host;
  request.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
    if (statusCode !== 200) who = `the proxy on the way to ${relay.host}`;
  });
  return () => who;
}

/** Why the relay, or whoever answered in its place, said no. */
async function readProblem(
  answerer: string,
  answer: IncomingMessage,
  body: Readable,
  early = NOTHING,
): Promise<DialError> {
  const status = answer.statusCode ?? 0;
  // After a CONNECT Node gives the connection instead of a body; it may stay open.
  const length = Number(answer.headers["content-length"] ?? Infinity);
  const most = Math.min(length, MAX_PROBLEM_OCTETS);
  const pieces = [early];
  let count = early.length;
  const timer = setTimeout(() => body.destroy(), PROBLEM_MILLISECONDS);
  try {
    const came: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
    while (count < most) {
      const next = await came.next();
      if (next.done === true) break;
      pieces.push(next.value);
      count += next.value.length;
    }
  } catch {
    // What has come is enough.
  }
  clearTimeout(timer);
  const text = Buffer.concat(pieces).toString();
  try {
    const problem = JSON.parse(text) as { detail?: unknown; code?: unknown };
    if (typeof problem.detail === "string" && typeof problem.code === "string")
      return new DialError(problem.detail, status, problem.code);
  } catch {
    // Not the relay's.
  }
  return new DialError(
    `${answerer} answered ${String(status)}, and does not look like a rendezvous relay`,
    status,
  );
}

const NOTHING: Buffer = Buffer.alloc(0);
