// Requests whose success hands over their connection: CONNECT, an Upgrade, a WebSocket. One attempt each, within a time.
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { WebSocket } from "ws";
import {
  canGoPlainly,
  openRequest,
  outboundOptions,
  proxyName,
  type Address,
} from "./outbound.ts";
import {
  HandoverError,
  readRefusal,
  reasonOf,
  type Answerer,
} from "./refusal.ts";
import { MESSAGE_BOUNDS } from "./websocket.ts";

/** How long whoever has closed a WebSocket may leave its connection open, in milliseconds. @types/ws does not know it yet. */
const CLOSING = { closeTimeout: 2 * 1000 };

const NOTHING: Buffer = Buffer.alloc(0);

export interface HandoverRequest {
  /** CONNECT to an authority, or GET with an upgrade token. */
  readonly method: "CONNECT" | "GET";
  /** The request target. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** How long an attempt may take, and who may call it off. */
export interface Patience {
  readonly milliseconds: number;
  readonly signal: AbortSignal | undefined;
}

/** A connection that was handed over. */
export interface Handover {
  readonly stream: Duplex;
  /** Octets that came with the answer. */
  readonly early: Buffer;
  /** The answer's fields, their names in lower case. */
  readonly fields: Readonly<IncomingMessage["headers"]>;
}

/**
 * Sends one request, and gives the connection when it is granted: 200 for CONNECT, 101 for GET.
 * @throws HandoverError
 */
export async function requestHandover(
  address: Address,
  request: HandoverRequest,
  patience: Patience,
): Promise<Handover> {
  const attempt = (plainly: boolean): Promise<Handover> =>
    tellProblem(address, () => askOnce(address, request, patience, plainly));
  return orPlainly(address, request.method === "GET", attempt);
}

/**
 * Opens a WebSocket with one subprotocol. Messages that come before somebody listens are kept: it is paused.
 * @throws HandoverError
 */
export async function openWebSocket(
  address: Address,
  request: Omit<HandoverRequest, "method"> & { readonly protocol: string },
  patience: Patience,
): Promise<{ socket: WebSocket; fields: Handover["fields"] }> {
  return orPlainly(address, true, (plainly) =>
    tellProblem(address, () => openOnce(address, request, patience, plainly)),
  );
}

/** A forward proxy that allows no CONNECT to a port may still pass an Upgrade on. */
async function orPlainly<T>(
  address: Address,
  isUpgrade: boolean,
  attempt: (plainly: boolean) => Promise<T>,
): Promise<T> {
  try {
    return await attempt(false);
  } catch (error) {
    const refused =
      error instanceof HandoverError && error.refusal?.byProxy === true;
    if (!refused || !isUpgrade || !canGoPlainly(address)) throw error;
    return attempt(true);
  }
}

/** What cannot even be begun has failed like any other attempt. */
async function tellProblem<T>(
  { url }: Address,
  attempt: () => Promise<T>,
): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    throw unreachable(url.host, error);
  }
}

function unreachable(who: string, error: unknown): HandoverError {
  if (error instanceof HandoverError) return error;
  return new HandoverError(`${who} cannot be reached: ${reasonOf(error)}`);
}

function askOnce(
  address: Address,
  outbound: HandoverRequest,
  { milliseconds, signal }: Patience,
  plainly: boolean,
): Promise<Handover> {
  const { host } = address.url;
  const wanted = outbound.method === "CONNECT" ? 200 : 101;
  return new Promise((resolve, reject) => {
    const request = openRequest(address, outbound, plainly);
    const answerer = answererTo(request, host);
    const next = nextTo(request, address);
    // What is to be broken off: the request, and then the reason for a refusal.
    let underway: { destroy(): unknown } = request;
    const settle = untilAborted(signal, () => underway.destroy());
    const deadline = setTimeout(() => {
      request.destroy(late(next(), milliseconds));
    }, milliseconds);
    const refused = (
      answer: IncomingMessage,
      body: Readable,
      early: Buffer,
    ): void => {
      clearTimeout(deadline);
      underway = body;
      void readRefusal(answerer(), answer, body, early).then((refusal) => {
        settle();
        body.destroy();
        reject(refusal);
      });
    };
    const handed = (
      answer: IncomingMessage,
      stream: Duplex,
      early: Buffer,
    ): void => {
      // It has no owner until the caller takes it.
      stream.on("error", () => undefined);
      if (answer.statusCode !== wanted) {
        refused(answer, stream, early);
        return;
      }
      clearTimeout(deadline);
      settle();
      // Node would end this side with the other one, and lose what is still to be sent.
      stream.allowHalfOpen = true;
      resolve({ stream, early, fields: answer.headers });
    };
    request.on("connect", handed).on("upgrade", handed);
    request.on("response", (answer) => {
      refused(answer, answer, NOTHING);
    });
    request.on("error", (error) => {
      clearTimeout(deadline);
      settle();
      reject(unreachable(next(), error));
    });
    request.end();
  });
}

function openOnce(
  address: Address,
  { path, headers, protocol }: Parameters<typeof openWebSocket>[1],
  { milliseconds, signal }: Patience,
  plainly: boolean,
): Promise<{ socket: WebSocket; fields: Handover["fields"] }> {
  const { url: relay } = address;
  const url = new URL(path, relay);
  url.protocol = relay.protocol === "https:" ? "wss:" : "ws:";
  url.username = url.password = "";
  let answerer = (): Answerer => ({ who: relay.host, byProxy: false });
  let next = (): string => relay.host;
  const socket = new WebSocket(url, protocol, {
    ...outboundOptions(address, plainly),
    headers,
    perMessageDeflate: false,
    ...MESSAGE_BOUNDS,
    ...CLOSING,
    finishRequest: (request) => {
      answerer = answererTo(request, relay.host);
      next = nextTo(request, address);
      request.end();
    },
  });
  return new Promise((resolve, reject) => {
    let fields: Handover["fields"] = {};
    const forget = untilAborted(signal, () => {
      socket.terminate();
    });
    const deadline = setTimeout(() => {
      reject(late(next(), milliseconds));
      socket.terminate();
    }, milliseconds);
    const settle = (): void => {
      clearTimeout(deadline);
      forget();
    };
    socket.on("error", (error) => {
      settle();
      reject(unreachable(next(), error));
    });
    socket.on("upgrade", ({ headers: given }) => {
      fields = given;
    });
    socket.on("unexpected-response", (_request, answer) => {
      clearTimeout(deadline);
      void readRefusal(answerer(), answer, answer).then((refusal) => {
        settle();
        reject(refusal);
        socket.terminate();
      });
    });
    socket.on("open", () => {
      settle();
      socket.pause();
      resolve({ socket, fields });
    });
  });
}

function late(who: string, milliseconds: number): HandoverError {
  return new HandoverError(
    `${who} did not answer within ${String(milliseconds / 1000)} s`,
  );
}

/** Gives up what is under way when the signal says so. Gives the function to call when there is nothing left to give up. */
function untilAborted(
  signal: AbortSignal | undefined,
  giveUp: () => void,
): () => void {
  if (signal?.aborted === true) giveUp();
  signal?.addEventListener("abort", giveUp);
  return () => signal?.removeEventListener("abort", giveUp);
}

/** Who it is that answers: what comes through a proxy that has said no is the proxy's own. */
function answererTo(request: ClientRequest, host: string): () => Answerer {
  let answerer: Answerer = { who: host, byProxy: false };
  request.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
    if (statusCode !== 200)
      answerer = { who: `the proxy on the way to ${host}`, byProxy: true };
  });
  return () => answerer;
}

/** Who is to blame while nothing comes: the proxy, where there is one, until it has let this request through. */
function nextTo(request: ClientRequest, address: Address): () => string {
  const { host } = address.url;
  const proxy = proxyName(address);
  let isThrough = proxy === undefined;
  request.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
    isThrough = statusCode === 200;
  });
  return () =>
    proxy === undefined || isThrough
      ? host
      : `the proxy ${proxy} on the way to ${host}`;
}
