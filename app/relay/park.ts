// The park door: a hidden server leaves a tunnel here, after it has shown who it is.
//   hidden server -> CONNECT uuid:ID?response=TOKEN -> 200 -> the lot
//   hidden server -> GET /-/park/ID, Upgrade: ptth or websocket -> 101 -> the lot
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
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
  isId,
  readMax,
  visitUrl,
} from "../protocol.ts";
import {
  fieldOf,
  readList,
  upgradeOf,
  type RequestHead,
} from "../wire/head.ts";
import { Link, UNOWNED } from "../wire/link.ts";
import type { BeatingPipe } from "../wire/pipe.ts";
import { PipeStream } from "../wire/pipestream.ts";
import {
  WebSocketPipe,
  acceptWebSocket,
  isHandshake,
} from "../wire/websocket.ts";
import type { Auth } from "./auth.ts";
import { NO_SERVER, type Connection } from "./connection.ts";
import { copyOf } from "./copy.ts";
import { clientOf, requestIdOf, type TrustOptions } from "./client.ts";
import type { Lot } from "./lot.ts";
import { Tunnel } from "./tunnel.ts";

export interface ParkOptions extends TrustOptions {
  readonly heartbeatSeconds: number;
  readonly parameter: string;
}

/** How a hidden server asks, and is answered. */
type Form = "connect" | typeof PTTH | "websocket";

interface Claim {
  readonly form: Form;
  readonly id: string;
  readonly token: string;
}

export interface Park {
  /** A CONNECT whose target is no host and port. */
  connect(connection: Connection, request: RequestHead): Promise<void>;
  /** A request below PARK_PATH; `target` is what the relay reads of its target. */
  upgrade(
    connection: Connection,
    request: RequestHead,
    target: string,
  ): Promise<void>;
}

/** Makes the door. */
export function createPark(
  lot: Lot,
  auth: Auth,
  options: ParkOptions,
  log: Logger,
): Park {
  async function park(
    connection: Connection,
    request: RequestHead,
    claim: Claim | FailureCode,
  ): Promise<void> {
    const client = clientOf(request, connection.link, options);
    const { address } = client;
    const requestId = requestIdOf(request, options.trustProxy);
    const refuse = (code: FailureCode, id?: string): void => {
      log.info({ id, code, requestId, client: address }, "parking was refused");
      const fields = code === "upgrade_wanted" ? UPGRADES : [];
      const detail = DETAILS.get(code);
      // Whatever follows was not meant as a request.
      connection.hold(NO_SERVER);
      connection.finishSoon();
      connection.refuse(code, { requestId, detail, fields });
    };

    if (typeof claim === "string") {
      refuse(claim);
      return;
    }
    const { form, id, token } = claim;
    if (connection.early > 0) {
      refuse("early_data", id);
      return;
    }
    connection.hold(NO_SERVER);
    const generation = auth.generationOf(id);
    const denied = (await auth.refuse(id, token, address)) ?? lot.refuses(id);
    if (connection.link.ended) return;
    if (denied !== undefined || generation === undefined) {
      refuse(denied ?? "revoked", id);
      return;
    }
    if (connection.early > 0) {
      refuse("early_data", id);
      return;
    }

    const agent = fieldOf(request.fields, AGENT_FIELD.toLowerCase());
    const isPrivate = wantsPrivacy(request);
    const max = readMax(fieldOf(request.fields, MAX_FIELD.toLowerCase()));
    const fields = [
      ...(agent === undefined ? [] : welcome(id, client.host, options)),
      ...(isPrivate ? [`${PRIVATE_FIELD}: ${PRIVATE}`] : []),
    ];
    const { link } = connection.take();
    accept(form, link, request, fields, (parked, carrier) => {
      const tunnel = new Tunnel(
        parked,
        { id, generation },
        agent !== undefined,
        lot,
        options,
        { carrier, isPrivate, max },
      );
      if (!lot.admit(tunnel)) return;
      tunnel.open();
      log.debug({ id, agent, form, client: address }, "a tunnel is parked");
    });
  }

  return {
    connect: (connection, request) =>
      park(connection, request, readConnect(request)),
    upgrade: (connection, request, target) =>
      park(connection, request, readUpgrade(request, target)),
  };
}

/** Instead of the upgrades that this failure names elsewhere. */
const UPGRADES = ["Upgrade", `${PTTH}, websocket`];
/** What holds for parking, and not wherever else the same failure is answered. */
const DETAILS: ReadonlyMap<FailureCode, string> = new Map([
  [
    "upgrade_wanted",
    `to park, send Upgrade: ${PTTH}, or a WebSocket handshake with the subprotocol ${PTTH}`,
  ],
  [
    "bad_request",
    `a GET that parks has no body, and its ALPN, where there is one, lists ${ALPN_HTTP}`,
  ],
  ["missing_token", "or send it as Authorization: Bearer TOKEN"],
  ["too_many_requests", "more tokens than the relay remembers of one id"],
]);

/** The answer that makes a connection a tunnel. */
function accept(
  form: Form,
  link: Link,
  request: RequestHead,
  fields: readonly string[],
  parked: (link: Link, carrier?: BeatingPipe) => void,
): void {
  if (form === "websocket") {
    const acceptance = { handshake: request, protocol: PTTH, fields };
    acceptWebSocket(link, acceptance, Buffer.alloc(0), (socket) => {
      const pipe = new WebSocketPipe(socket, UNOWNED);
      parked(new Link(new PipeStream(pipe), UNOWNED), pipe);
    });
    return;
  }
  const lines = [
    ...(form === PTTH
      ? [
          "HTTP/1.1 101 Switching Protocols",
          "Connection: Upgrade",
          `Upgrade: ${PTTH}`,
          `${ALPN_FIELD}: ${ALPN_HTTP}`,
        ]
      : ["HTTP/1.1 200 OK"]),
    ...fields,
  ];
  link.write(`${lines.join("\r\n")}\r\n\r\n`);
  parked(link);
}

/** CONNECT uuid:ID, as the original has it. */
function readConnect(request: RequestHead): Claim | FailureCode {
  if (!request.target.startsWith(PARK_SCHEME)) return "wrong_scheme";
  const claim = readClaim(request, request.target.slice(PARK_SCHEME.length));
  return typeof claim === "string" ? claim : { form: "connect", ...claim };
}

/** GET /-/park/ID with Upgrade: ptth (draft-kazuho-ptth-ptth), or as a WebSocket. */
function readUpgrade(
  request: RequestHead,
  target: string,
): Claim | FailureCode {
  const form = upgradeOf(request, [PTTH, "websocket"]);
  if (form === undefined) return "upgrade_wanted";
  if (request.framing !== 0) return "bad_request";
  const { fields } = request;
  const spoken = readList(fieldOf(fields, ALPN_FIELD.toLowerCase()) ?? "");
  // What is not named is taken for HTTP/1.1, which is all that there is here.
  if (
    spoken.length > 0 &&
    !spoken.some((id) => id.toLowerCase() === ALPN_HTTP.toLowerCase())
  )
    return "bad_request";
  const offered = readList(fieldOf(fields, "sec-websocket-protocol") ?? "");
  if (form === "websocket" && !offered.includes(PTTH)) return "upgrade_wanted";
  if (form === "websocket" && !isHandshake(fields)) return "bad_request";
  const claim = readClaim(request, target.slice(PARK_PATH.length));
  // 407 is for proxies, which only CONNECT asks for (RFC 9110 15.5.8).
  if (claim === "missing_token") return "token_wanted";
  return typeof claim === "string" ? claim : { form, ...claim };
}

/** The id and the token of a request to park. Wherever the token stands, it is looked for in one order and only one is used. */
function readClaim(
  request: RequestHead,
  place: string,
): Omit<Claim, "form"> | FailureCode {
  const [name = "", query = ""] = place.split("?", 2);
  const id = copyOf(name.toLowerCase());
  if (!isId(id)) return "bad_id";
  const response = new URLSearchParams(query).get("response");
  if (response !== null && response !== "") return { id, token: response };
  for (const field of ["authorization", "proxy-authorization"]) {
    const credentials = fieldOf(request.fields, field);
    if (credentials === undefined) continue;
    const bearer = /^bearer +([\w.~+/=-]+)$/i.exec(credentials)?.[1];
    if (bearer !== undefined) return { id, token: bearer };
    const basic = /^basic +([A-Za-z0-9+/=]+)$/i.exec(credentials)?.[1];
    const login = Buffer.from(basic ?? "", "base64").toString();
    const colon = login.indexOf(":");
    // Whoever logs in as somebody else is not who he says he is.
    if (colon < 0 || login.slice(0, colon).toLowerCase() !== id)
      return "bad_token";
    return { id, token: login.slice(colon + 1) };
  }
  return "missing_token";
}

/** Whether only visitors with a grant are to have the tunnel: what cannot be understood is no leave for all others (RFC 8941 3.3.6). */
function wantsPrivacy({ fields }: RequestHead): boolean {
  const wish = fieldOf(fields, PRIVATE_FIELD.toLowerCase());
  return wish !== undefined && wish !== "?0";
}

/** What an agent is told: how often to expect a ping, and where its visitors come in (a reference against its own URL of the relay). */
function welcome(
  id: string,
  host: string | undefined,
  options: ParkOptions,
): string[] {
  return [
    `${HEARTBEAT_FIELD}: ${String(options.heartbeatSeconds)}`,
    `${VISIT_FIELD}: ${visitReference(id, host, options)}`,
  ];
}

function visitReference(
  id: string,
  host: string | undefined,
  options: ParkOptions,
): string {
  if (options.publicUrl !== undefined)
    return visitUrl(new URL(options.publicUrl), id, options);
  const origin = `http://${host ?? ""}`;
  const base = new URL(URL.canParse(origin) ? origin : "http://relay");
  const { pathname, search, href } = new URL(visitUrl(base, id, options));
  // The agent knows better than the relay by what name it is reached.
  return options.baseDomain === undefined
    ? pathname + search
    : href.slice("http:".length);
}
