// How the agent reaches its relay: one attempt to park a tunnel there, by one way.
//   agent -> (proxy) -> (router) -> CONNECT, Upgrade: ptth, or a WebSocket -> relay
import type { Duplex } from "node:stream";
import { BAD_TOKEN, plainly } from "../cures.ts";
import {
  AGENT_FIELD,
  ALPN_FIELD,
  ALPN_HTTP,
  HEARTBEAT_FIELD,
  MAX_FIELD,
  PARK_PATH,
  PARK_SCHEME,
  PRIVATE,
  PRIVATE_FIELD,
  PTTH,
  VISIT_FIELD,
  isVerdict,
  makeToken,
  readHeartbeat,
  type Way,
} from "../protocol.ts";
import {
  openWebSocket,
  requestHandover,
  type Handover,
  type Patience,
} from "../wire/handover.ts";
import { HandoverError, briefly } from "../wire/refusal.ts";
import { Link, UNOWNED } from "../wire/link.ts";
import type { Address } from "../wire/outbound.ts";
import type { BeatingPipe } from "../wire/pipe.ts";
import { PipeStream } from "../wire/pipestream.ts";
import { WebSocketPipe } from "../wire/websocket.ts";
import { troubleOf, type Trouble } from "./backoff.ts";

/** How long reaching the relay and its answer may take together. */
const PARK_MILLISECONDS = 15 * 1000;
const DEFAULT_HEARTBEAT_SECONDS = 20;

export interface Identity {
  readonly id: string;
  readonly key: Uint8Array;
  /** Only visitors with a grant are to come in. */
  readonly isPrivate: boolean;
  /** Tunnels that it opens in all; left out by who only tries, and serves nobody. */
  readonly max?: number;
}

/** A tunnel that the relay has taken. */
export interface ParkedTunnel {
  readonly link: Link;
  /** What carries the link, where that must be kept alive by itself. */
  readonly carrier?: BeatingPipe;
  /** Octets that came with the answer. */
  readonly early: Buffer;
  readonly heartbeatSeconds: number;
  /** Where visitors come in. */
  readonly visit: URL;
}

/** Parking failed. `isFinal` says that the answer was the relay's own, and that no other way does better. */
export class ParkError extends Error {
  override readonly name = "ParkError";
  readonly isFinal: boolean;
  /** Where a redirect leads. */
  readonly location: string | undefined;
  /** The same in a few words, for where it is one of several. */
  readonly brief: string;
  /** What it means for the next attempt. */
  readonly trouble: Trouble;

  constructor(message: string, cause?: HandoverError) {
    super(message, { cause });
    this.brief = briefly(cause?.refusal) ?? message;
    this.location = cause?.refusal?.location;
    this.isFinal = isVerdict(cause?.refusal?.code);
    this.trouble = troubleOf(cause?.refusal);
  }
}

/**
 * Parks one tunnel.
 * @throws ParkError with a sentence that says what stood in the way
 */
export async function parkOnce(
  way: Way,
  relay: Address,
  { id, key, isPrivate, max }: Identity,
  version: string,
  signal: AbortSignal,
): Promise<ParkedTunnel> {
  const token = await makeToken(id, key);
  const headers = {
    Authorization: `Bearer ${token}`,
    [AGENT_FIELD]: version,
    ...(isPrivate ? { [PRIVATE_FIELD]: PRIVATE } : {}),
    ...(max === undefined ? {} : { [MAX_FIELD]: String(max) }),
  };
  const patience = { milliseconds: PARK_MILLISECONDS, signal };
  try {
    const { fields, ...parked } = await go(way, relay, id, headers, patience);
    if (isPrivate && fields[PRIVATE_FIELD.toLowerCase()] !== PRIVATE) {
      parked.link.destroy();
      throw new ParkError(
        "the relay knows no private servers, and would let everybody in",
      );
    }
    return { ...parked, ...readWelcome(fields, relay.url, id) };
  } catch (error) {
    if (signal.aborted) throw new ParkError("parking was stopped");
    if (!(error instanceof HandoverError)) throw error;
    throw new ParkError(sentenceOf(error), error);
  }
}

async function go(
  way: Way,
  relay: Address,
  id: string,
  headers: Readonly<Record<string, string>>,
  patience: Patience,
): Promise<
  Pick<ParkedTunnel, "link" | "carrier" | "early"> & Pick<Handover, "fields">
> {
  const path = `${PARK_PATH}${id}`;
  if (way === "websocket") {
    const request = { path, headers, protocol: PTTH };
    const { socket, fields } = await openWebSocket(relay, request, patience);
    const carrier = new WebSocketPipe(socket, UNOWNED, Infinity);
    const link = paused(new PipeStream(carrier));
    return { link, carrier, early: Buffer.alloc(0), fields };
  }
  const request =
    way === "connect"
      ? { method: "CONNECT" as const, path: `${PARK_SCHEME}${id}`, headers }
      : {
          method: "GET" as const,
          path,
          headers: {
            ...headers,
            Connection: "Upgrade",
            Upgrade: PTTH,
            [ALPN_FIELD]: ALPN_HTTP,
          },
        };
  const { stream, early, fields } = await requestHandover(
    relay,
    request,
    patience,
  );
  return { link: paused(stream), early, fields };
}

/** A link of which nothing is lost until somebody receives. */
function paused(stream: Duplex): Link {
  const link = new Link(stream, UNOWNED);
  link.pause();
  return link;
}

function sentenceOf({ message, refusal }: HandoverError): string {
  if (refusal === undefined) return plainly(message);
  const { status, byProxy, code } = refusal;
  const who = byProxy || code === undefined ? refusal.who : "the relay";
  // The relay's own words are for whoever makes tokens by hand.
  const detail =
    code === "bad_token"
      ? `${BAD_TOKEN}; ask the relay's owner for the secret that holds now`
      : refusal.detail;
  return `${who} refused (${String(status)})${detail === undefined ? "" : `: ${detail}`}`;
}

function readWelcome(
  fields: Handover["fields"],
  relay: URL,
  id: string,
): { heartbeatSeconds: number; visit: URL } {
  const heartbeat = readHeartbeat(fields[HEARTBEAT_FIELD.toLowerCase()]);
  const reference = fields[VISIT_FIELD.toLowerCase()];
  const base = new URL(relay);
  base.username = base.password = "";
  return {
    heartbeatSeconds: heartbeat ?? DEFAULT_HEARTBEAT_SECONDS,
    visit:
      typeof reference === "string" && URL.canParse(reference, base.href)
        ? new URL(reference, base)
        : new URL(`/?rendezvous=${id}`, base),
  };
}
