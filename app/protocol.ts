// What the programs must agree on: ids, secrets, tokens, and the names of header fields. PROTOCOL.md is the same in words.
import { createHmac, randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { ScureBase32Plugin } from "otplib";

const base32 = new ScureBase32Plugin();

/** Sent by our agent when it parks: it answers pings in the tunnel. The value is its version. */
export const AGENT_FIELD = "Rendezvous-Agent";
/** Asks the agent in the tunnel whether it is there; answered by PONG_FIELD with the same value. */
export const PING_FIELD = "Rendezvous-Ping";
export const PONG_FIELD = "Rendezvous-Pong";
/** In the 200 to an agent: the URL at which visitors reach its hidden server. */
export const VISIT_FIELD = "Rendezvous-Visit";
/** In the 200 to an agent: seconds between two pings on an idle tunnel. In the 101 to a connect-tcp visitor: between two heartbeats, either way. */
export const HEARTBEAT_FIELD = "Rendezvous-Heartbeat";

/** A day: no relay may be set to more. */
const MAX_HEARTBEAT_SECONDS = 24 * 60 * 60;

/** Seconds between two heartbeats, as HEARTBEAT_FIELD tells them; undefined for what no relay says. */
export function readHeartbeat(value: unknown): number | undefined {
  const seconds = Number(value);
  return seconds > 0 && seconds <= MAX_HEARTBEAT_SECONDS ? seconds : undefined;
}

/** Marks the relay's own request for a TCP stream in a tunnel; a visitor's is taken away. */
export const DIAL_FIELD = "Rendezvous-Dial";
/** Sent by who parks: only visitors with a grant may have this tunnel. A relay that understands says so in its answer. */
export const PRIVATE_FIELD = "Rendezvous-Private";
export const PRIVATE = "?1";
/** Sent by who parks: how many tunnels it opens in all. */
export const MAX_FIELD = "Rendezvous-Max";

/** How many tunnels a hidden server opens, as MAX_FIELD tells it; undefined for what says nothing. */
export function readMax(text: string | undefined): number | undefined {
  if (text === undefined || !/^[1-9]\d{0,4}$/.test(text)) return undefined;
  const max = Number(text);
  return max <= 10_000 ? max : undefined;
}

/** In an agent's refusal: the code of the failure. */
export const FAILURE_FIELD = "Rendezvous-Failure";

/** The registered default template of connect-tcp (draft-ietf-httpbis-connect-tcp). */
export const CONNECT_TCP_PATH = "/.well-known/masque/tcp/";
/** The upgrade token, and the WebSocket subprotocol for plain octets. */
export const CONNECT_TCP = "connect-tcp" as const;

/** The host and port at which a relay gives back what it gets, by every way: what shows that a way carries octets in both directions. */
export const ECHO_HOST = "rendezvous.internal";
export const ECHO_PORT = 7;

/** The ways through what stands before a relay, the best first for who parks. */
export const WAYS = ["connect", "upgrade", "websocket"] as const;
export type Way = (typeof WAYS)[number];
/** The same for who dials, where CONNECT comes last: it has no heartbeats, so that routers cut an idle session. */
export const DIAL_WAYS = ["upgrade", "websocket", "connect"] as const;

/** The way of that name, or undefined; connect-tcp is the Upgrade of dial. */
export function readWay(name: unknown): Way | undefined {
  const wanted = name === CONNECT_TCP ? "upgrade" : name;
  return WAYS.find((way) => way === wanted);
}

/** Codes with which a relay says that it does not know a way, not that there is no such place. */
const OTHER_WAY_CODES: ReadonlySet<string> = new Set([
  "wrong_scheme",
  "upgrade_wanted",
  "not_found",
  "bad_request",
  "not_implemented",
]);

/** Whether a code is the relay's last word, so that no other way does better. */
export function isVerdict(code: string | undefined): boolean {
  return code !== undefined && !OTHER_WAY_CODES.has(code);
}

/** Where hidden servers park by Upgrade or WebSocket: an id follows. */
export const PARK_PATH = "/-/park/";
/** The upgrade token, and the WebSocket subprotocol, for parking (draft-kazuho-ptth-ptth). */
export const PTTH = "ptth";
/** In both directions of an Upgrade that parks: what is spoken in the tunnel (RFC 7639). */
export const ALPN_FIELD = "ALPN";
export const ALPN_HTTP = "http%2F1.1";
/** In a pong: the agent wants to be pinged once more at once, for only then it knows that its octets arrive. */
export const PROVE_FIELD = "Rendezvous-Prove";

/** The scheme of a CONNECT that parks. */
export const PARK_SCHEME = "uuid:";

export const DEFAULT_PARAMETER = "rendezvous";

/** Seconds that a parking token made here is good for; the relay takes at most MAX_TOKEN_SECONDS. */
const TOKEN_SECONDS = 45;
export const MAX_TOKEN_SECONDS = 60;

/** Heartbeats of silence after which the other side is taken for dead. */
export const SILENT_HEARTBEATS = 2;

const ID = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether text is an id: one DNS label in lower case. */
export function isId(text: string): boolean {
  return ID.test(text);
}

/** The secret of an id, 32 octets: the JWT key and the TOTP key (generation 1 is the first). */
export function deriveKey(
  relaySecret: string,
  id: string,
  generation: number,
): Buffer {
  const suffix = generation === 1 ? "" : `@${String(generation)}`;
  return createHmac("sha256", relaySecret)
    .update(`rendezvous/v1/${id}${suffix}`)
    .digest();
}

/** The key of an id's grants, so that neither they nor parking tokens can stand for the other. */
export function deriveGrantKey(key: Uint8Array): Buffer {
  return createHmac("sha256", key).update("rendezvous/v1/grant").digest();
}

/** The form in which a secret is handed out: base32 (RFC 4648) without padding. */
export function encodeSecret(key: Uint8Array): string {
  return base32.encode(key, { padding: false });
}

/**
 * The key that a secret stands for; spaces, case and padding do not matter.
 * @throws RangeError in a sentence for the user
 */
export function decodeSecret(secret: string): Uint8Array {
  const text = secret.replaceAll(/[\s=]/g, "").toUpperCase();
  if (/^[A-Z2-7]{16,}$/.test(text)) {
    try {
      return base32.decode(text);
    } catch {
      // Bits are left over: a character is missing, or was mistyped.
    }
  }
  throw new RangeError(
    "The secret is not base32 text as `npx rendezvous issue` prints it. Copy all of it.",
  );
}

/** Makes a one-time token that parks one tunnel: a JWT (RFC 7519), HS256. */
export async function makeToken(id: string, key: Uint8Array): Promise<string> {
  return new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(id)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime(`${String(TOKEN_SECONDS)}s`)
    .sign(key);
}

/** Which ids and generations may not park any more. */
export class Revocations {
  readonly #entries: ReadonlySet<string>;

  constructor(entries: Iterable<string>) {
    this.#entries = new Set([...entries].map((entry) => entry.toLowerCase()));
  }

  /** The generation of an id that is valid: the lowest one not revoked; undefined when the id is revoked as a whole. */
  generationOf(id: string): number | undefined {
    if (this.#entries.has(id)) return undefined;
    let generation = 1;
    while (this.#entries.has(`${id}@${String(generation)}`)) generation++;
    return generation;
  }
}

/** Whether text is an entry of a list of revocations. */
export function isRevocation(text: string): boolean {
  const [id = "", generation, ...rest] = text.toLowerCase().split("@");
  return (
    isId(id) &&
    rest.length === 0 &&
    (generation === undefined || /^[1-9]\d{0,3}$/.test(generation))
  );
}

/** The path at which a TCP stream to a port of a host is asked for. */
export function connectTcpPath(host: string, port: number): string {
  return `${CONNECT_TCP_PATH}${encodeURIComponent(host)}/${String(port)}/`;
}

/** Host and port that such a path names, undefined for any other path. */
export function readConnectTcpPath(
  target: string,
): { host: string; port: number } | undefined {
  const match =
    /^\/\.well-known\/masque\/tcp\/([^/?]+)\/([^/?]+)\/(?:\?.*)?$/.exec(target);
  try {
    const host = decodeURIComponent(match?.[1] ?? "");
    const port = readPort(decodeURIComponent(match?.[2] ?? ""));
    return port === undefined ? undefined : { host, port };
  } catch {
    // A % that stands for nothing.
    return undefined;
  }
}

/** A port number from 1 to 65535 without leading zeros, undefined for any other text. */
export function readPort(text: string): number | undefined {
  if (!/^[1-9]\d{0,4}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

/** The URL at which a visitor reaches a hidden server on a relay. */
export function visitUrl(
  relay: URL,
  id: string,
  naming: {
    readonly parameter: string;
    readonly baseDomain?: string | undefined;
  },
): string {
  const url = new URL(relay);
  url.username = url.password = url.search = url.hash = "";
  url.pathname = "/";
  if (naming.baseDomain === undefined)
    url.searchParams.set(naming.parameter, id);
  else url.hostname = `${id}.${naming.baseDomain}`;
  return url.href;
}

/** The relay behind a URL where visitors of an id come in: below BASE_DOMAIN every request is the hidden server's. */
export function relayOf(visit: URL, id: string): URL {
  const relay = new URL(visit.origin);
  const isName = /[a-z][^.]*$/.test(relay.hostname);
  if (isName && relay.hostname.startsWith(`${id.toLowerCase()}.`))
    relay.hostname = relay.hostname.slice(id.length + 1);
  return relay;
}
