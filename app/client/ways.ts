// The three ways through a relay to a port of a hidden server. One attempt each; which one to take is for others to say.
import { plainly } from "../cures.ts";
import {
  CONNECT_TCP,
  HEARTBEAT_FIELD,
  connectTcpPath,
  readHeartbeat,
  type Way,
} from "../protocol.ts";
import { CapsulePipe } from "../wire/capsulepipe.ts";
import {
  openWebSocket,
  requestHandover,
  type HandoverRequest,
  type Patience,
} from "../wire/handover.ts";
import { HandoverError, briefly, type Refusal } from "../wire/refusal.ts";
import { UNOWNED, Link } from "../wire/link.ts";
import type { Address } from "../wire/outbound.ts";
import type { Pipe } from "../wire/pipe.ts";
import { WebSocketPipe } from "../wire/websocket.ts";

/** How long one way may take to be granted or refused: the relay waits for the service as long. */
export const WAY_MILLISECONDS = 45 * 1000;

export interface Destination {
  readonly relay: Address;
  /** An id, or the name of the relay's echo. */
  readonly host: string;
  readonly port: number;
  /** What lets its sender in where the server is private. */
  readonly grant?: string | undefined;
}

/** A way did not lead there. With a `code` the relay itself has said no. */
export class DialError extends Error {
  override readonly name = "DialError";
  readonly status: number | undefined;
  readonly code: string | undefined;
  /** Where a redirect leads. */
  readonly location: string | undefined;
  /** The same in a few words, for where it is one of several. */
  readonly brief: string;

  constructor(
    message: string,
    refusal?: Partial<Pick<Refusal, "status" | "code" | "location">>,
    cause?: HandoverError,
  ) {
    super(message, { cause });
    this.status = refusal?.status;
    this.code = refusal?.code;
    this.location = refusal?.location;
    this.brief = briefly(cause?.refusal) ?? message;
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
  milliseconds = WAY_MILLISECONDS,
): Promise<Reached> {
  const patience = { milliseconds, signal };
  try {
    if (way === "websocket") return await byWebSocket(to, patience);
    return await (way === "connect"
      ? byConnect(to, patience)
      : byUpgrade(to, patience));
  } catch (error) {
    if (!(error instanceof HandoverError)) throw error;
    const { message, refusal } = error;
    const words =
      refusal === undefined
        ? plainly(message)
        : refusal.code === undefined
          ? `${message}, and does not look like a rendezvous relay`
          : message;
    throw new DialError(words, refusal, error);
  }
}

async function byConnect(
  { relay, host, port, grant }: Destination,
  patience: Patience,
): Promise<Reached> {
  const path = `${host}:${String(port)}`;
  const headers = { Host: path, ...loginWith(grant) };
  const request = { method: "CONNECT", path, headers } as const;
  const { link, early } = await ask(relay, request, patience);
  return { pipe: primed(link, link, early) };
}

async function byUpgrade(
  { relay, host, port, grant }: Destination,
  patience: Patience,
): Promise<Reached> {
  const headers = {
    ...loginWith(grant),
    Connection: "Upgrade",
    Upgrade: CONNECT_TCP,
    "Capsule-Protocol": "?1",
  };
  const path = connectTcpPath(host, port);
  const request = { method: "GET", path, headers } as const;
  const { fields, link, early } = await ask(relay, request, patience);
  const heartbeatSeconds = readHeartbeat(fields[HEARTBEAT_FIELD.toLowerCase()]);
  const pipe = new CapsulePipe(link, UNOWNED, heartbeatSeconds !== undefined);
  return { pipe: primed(pipe, link, early), heartbeatSeconds };
}

async function byWebSocket(
  { relay, host, port, grant }: Destination,
  patience: Patience,
): Promise<Reached> {
  const path = connectTcpPath(host, port);
  const headers = loginWith(grant);
  const request = { path, headers, protocol: CONNECT_TCP };
  const { socket } = await openWebSocket(relay, request, patience);
  const pipe = new WebSocketPipe(socket, UNOWNED, Infinity);
  pipe.pause();
  return { pipe };
}

/** Routers delete Proxy-Authorization, and a proxy on the way would take it for its own. */
function loginWith(grant: string | undefined): Record<string, string> {
  return grant === undefined ? {} : { Authorization: `Bearer ${grant}` };
}

async function ask(
  relay: Address,
  request: HandoverRequest,
  patience: Patience,
) {
  const { stream, early, fields } = await requestHandover(
    relay,
    request,
    patience,
  );
  const link = new Link(stream, UNOWNED);
  link.pause();
  return { link, early, fields };
}

/** Octets that came with the answer are given to whoever takes the pipe, before all others. */
function primed(pipe: Pipe, link: Link, early: Buffer): Pipe {
  link.pause();
  if (early.length > 0) link.stream.unshift(early);
  return pipe;
}
