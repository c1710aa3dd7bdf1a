// The park door: a hidden server leaves a tunnel here, after it has shown who it is.
//   hidden server -> CONNECT uuid:ID?response=TOKEN -> 200 -> the lot
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
import {
  AGENT_FIELD,
  HEARTBEAT_FIELD,
  PARK_SCHEME,
  VISIT_FIELD,
  isId,
  visitUrl,
} from "../protocol.ts";
import { fieldOf, type RequestHead } from "../wire/head.ts";
import type { Auth } from "./auth.ts";
import { NO_SERVER, type Connection } from "./connection.ts";
import { clientOf, requestIdOf } from "./client.ts";
import type { Lot } from "./lot.ts";
import { Tunnel } from "./tunnel.ts";

export interface ParkOptions {
  readonly heartbeatSeconds: number;
  readonly trustProxy: number;
  readonly parameter: string;
  readonly baseDomain: string | undefined;
  readonly publicUrl: string | undefined;
}

interface Claim {
  readonly id: string;
  readonly token: string;
}

/** Makes the door for CONNECT requests. */
export function createPark(
  lot: Lot,
  auth: Auth,
  options: ParkOptions,
  log: Logger,
) {
  return async function park(
    connection: Connection,
    request: RequestHead,
  ): Promise<void> {
    const { address } = clientOf(request, connection.link, options.trustProxy);
    const requestId = requestIdOf(request, options.trustProxy);
    const refuse = (code: FailureCode, id?: string): void => {
      log.info({ id, code, requestId, client: address }, "parking was refused");
      connection.refuse(code, { requestId });
    };

    const claim = readClaim(request);
    if (typeof claim === "string") {
      refuse(claim);
      return;
    }
    const { id, token } = claim;
    if (connection.early > 0) {
      refuse("early_data", id);
      return;
    }
    connection.hold(NO_SERVER);
    const denied = (await auth.refuse(id, token, address)) ?? lot.refuses(id);
    if (connection.link.ended) return;
    if (denied !== undefined) {
      refuse(denied, id);
      return;
    }
    if (connection.early > 0) {
      refuse("early_data", id);
      return;
    }

    const agent = fieldOf(request.fields, AGENT_FIELD.toLowerCase());
    const extra = agent === undefined ? "" : welcome(id, request, options);
    const { link } = connection.take();
    link.write(`HTTP/1.1 200 OK\r\n${extra}\r\n`);
    const tunnel = new Tunnel(link, id, agent !== undefined, lot, options);
    lot.admit(tunnel);
    tunnel.open();
    log.debug({ id, agent, client: address }, "a tunnel is parked");
  };
}

/** The id and the token of a request to park. Wherever the token stands, it is looked for in one order and only one is used. */
function readClaim(request: RequestHead): Claim | FailureCode {
  if (!request.target.startsWith(PARK_SCHEME)) return "wrong_scheme";
  const [name = "", query = ""] = request.target
    .slice(PARK_SCHEME.length)
    .split("?", 2);
  const id = name.toLowerCase();
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

/** What an agent is told: how often to expect a ping, and where its visitors come in (a reference against its own URL of the relay). */
function welcome(
  id: string,
  request: RequestHead,
  options: ParkOptions,
): string {
  const origin = options.publicUrl ?? `http://${request.host ?? ""}`;
  const base = new URL(URL.canParse(origin) ? origin : "http://relay");
  const url = visitUrl(base, id, options);
  const visit =
    options.publicUrl === undefined ? url.slice("http:".length) : url;
  return `${HEARTBEAT_FIELD}: ${String(options.heartbeatSeconds)}\r\n${VISIT_FIELD}: ${visit}\r\n`;
}
