// The TCP visit door: CONNECT, connect-tcp and WebSocket from the visitor; connect-tcp in the tunnel, or plain octets where it is a legacy one.
//   visitor -> relay ==tunnel==> agent -> TCP service
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
import {
  CONNECT_TCP,
  ECHO_HOST,
  ECHO_PORT,
  HEARTBEAT_FIELD,
  readConnectTcpPath,
  readPort,
} from "../protocol.ts";
import { CapsulePipe } from "../wire/capsulepipe.ts";
import {
  fieldOf,
  readList,
  upgradeOf,
  type RequestHead,
} from "../wire/head.ts";
import { UNOWNED } from "../wire/link.ts";
import type { Pipe } from "../wire/pipe.ts";
import {
  WebSocketPipe,
  acceptWebSocket,
  isHandshake,
} from "../wire/websocket.ts";
import { Ask } from "./ask.ts";
import type { Connection, Server } from "./connection.ts";
import type { Echoes } from "./echo.ts";
import { clientOf, requestIdOf, type TrustOptions } from "./client.ts";
import type { Denial, Visa } from "./grants.ts";
import type { Client } from "./heads.ts";
import { detailOf, type Lot, type Waiter } from "./lot.ts";
import { hostToId } from "./naming.ts";
import { network } from "./network.ts";
import type { Streams } from "./streams.ts";
import type { Tunnel } from "./tunnel.ts";

const MAX_ATTEMPTS = 2;
const UPGRADE_DETAIL = `send Upgrade: ${CONNECT_TCP}, or a WebSocket handshake with the subprotocol ${CONNECT_TCP}`;

export interface DialOptions extends TrustOptions {
  readonly answerSeconds: number;
  readonly heartbeatSeconds: number;
  readonly pseudonym: string;
}

/** How the visitor asks, and is answered. */
type Form = "connect" | "connect-tcp" | "websocket";

interface Wanted {
  readonly form: Form;
  readonly id: string;
  readonly port: number;
}

export interface Dial {
  /** A CONNECT whose target is ID:PORT. */
  connect(connection: Connection, request: RequestHead, visa: Visa): void;
  /** A request below the connect-tcp template's path. */
  upgrade(connection: Connection, request: RequestHead, visa: Visa): void;
}

/** Makes the door. */
export function createDial(
  lot: Lot,
  streams: Streams,
  echoes: Echoes,
  options: DialOptions,
  log: Logger,
): Dial {
  const around = { lot, options, log, streams, echoes };
  const begin = (
    connection: Connection,
    request: RequestHead,
    visa: Visa,
    wanted: Wanted | FailureCode,
  ): void => {
    const visit = new TcpVisit(connection, request, visa, around);
    if (typeof wanted === "string") visit.refuse(wanted);
    else visit.begin(wanted);
  };
  return {
    connect(connection, request, visa) {
      const wanted = readAuthority(request, options.baseDomain);
      begin(connection, request, visa, wanted);
    },
    upgrade(connection, request, visa) {
      const wanted = readUpgrade(request, options.baseDomain);
      begin(connection, request, visa, wanted);
    },
  };
}

/** RFC 9110 9.3.6: the target is an authority, host and port. */
function readAuthority(
  request: RequestHead,
  baseDomain: string | undefined,
): Wanted | FailureCode {
  const port = readPort(/:(\d+)$/.exec(request.target)?.[1] ?? "");
  if (port === undefined) return "bad_target";
  const id = idOf(request.target, port, baseDomain);
  return id === undefined ? "unknown_server" : { form: "connect", id, port };
}

/** The id that a host means, or the echo's own name. */
function idOf(
  authority: string,
  port: number,
  baseDomain: string | undefined,
): string | undefined {
  const host = authority.replace(/:\d+$/, "").toLowerCase();
  return host === ECHO_HOST && port === ECHO_PORT
    ? ECHO_HOST
    : hostToId(authority, baseDomain, true);
}

/** draft-ietf-httpbis-connect-tcp 3.1, and the same over WebSocket. */
function readUpgrade(
  request: RequestHead,
  baseDomain: string | undefined,
): Wanted | FailureCode {
  const place = readConnectTcpPath(request.target);
  if (place === undefined) return "bad_target";
  const upgrade = upgradeOf(request, [CONNECT_TCP, "websocket"]);
  if (upgrade === undefined) return "upgrade_wanted";
  if (request.framing !== 0) return "bad_request";
  const offered = readList(
    fieldOf(request.fields, "sec-websocket-protocol") ?? "",
  );
  if (upgrade === "websocket" && !offered.includes(CONNECT_TCP))
    return "upgrade_wanted";
  // Answered before the agent is asked: it would have reached the service for nobody.
  if (upgrade === "websocket" && !isHandshake(request.fields))
    return "bad_request";
  const id = idOf(place.host, place.port, baseDomain);
  return id === undefined
    ? "unknown_server"
    : { form: upgrade, id, port: place.port };
}

interface Surroundings {
  readonly lot: Lot;
  readonly options: DialOptions;
  readonly log: Logger;
  readonly streams: Streams;
  readonly echoes: Echoes;
}

/** One TCP visit until it is spliced. */
class TcpVisit implements Waiter, Server {
  readonly #connection: Connection;
  readonly #request: RequestHead;
  readonly #visa: Visa;
  readonly #around: Surroundings;
  readonly #client: Client;
  #wanted: Wanted = { form: "connect", id: "", port: 0 };
  #ask: Ask | undefined;
  #askedAt = 0;
  readonly needsFresh = true;
  readonly isStream = true;
  readonly network: string;
  #attempts = 0;

  constructor(
    connection: Connection,
    request: RequestHead,
    visa: Visa,
    around: Surroundings,
  ) {
    this.#connection = connection;
    this.#request = request;
    this.#visa = visa;
    this.#around = around;
    this.#client = clientOf(request, connection.link, around.options);
    this.network = network(this.#client.address);
  }

  begin(wanted: Wanted): void {
    this.#wanted = wanted;
    this.#connection.hold(this);
    const code = this.#around.lot.refusesVisit(wanted.id, this);
    if (code !== undefined) {
      this.refuse(code, detailOf(code));
      return;
    }
    const expects =
      fieldOf(this.#request.fields, "expect")?.toLowerCase() === "100-continue";
    if (expects && this.#request.minor === 1)
      this.#connection.link.write("HTTP/1.1 100 Continue\r\n\r\n");
    if (wanted.id === ECHO_HOST) this.#echo();
    else this.#attempt();
  }

  enters(): boolean {
    return this.#passes(this.#visa.enter(this.#wanted));
  }

  serve(tunnel: Tunnel): void {
    const { options } = this.#around;
    tunnel.claim();
    if (!tunnel.agent) {
      this.#reached(tunnel, tunnel.link, tunnel.takeEarly());
      return;
    }
    this.#askedAt = performance.now();
    const question = {
      port: this.#wanted.port,
      client: this.#client,
      pseudonym: options.pseudonym,
    };
    this.#ask = new Ask(tunnel, question, {
      reached: (pipe, early) => {
        this.#reached(tunnel, pipe, early);
      },
      refused: (code, detail) => {
        this.refuse(code, detail);
      },
      lost: () => {
        if (this.#attempts < MAX_ATTEMPTS) this.#attempt();
        else this.refuse("tunnel_lost");
      },
    });
  }

  refuse(code: FailureCode, detail?: string): void {
    const { options, log } = this.#around;
    const { id, port } = this.#wanted;
    const requestId =
      requestIdOf(this.#request, options.trustProxy) ?? randomUUID();
    log.info(
      { id, port, code, detail, requestId, client: this.#client.address },
      "a TCP visit failed",
    );
    // Whoever has sent octets in advance must not have them read as a request.
    this.#connection.hold(this);
    this.#connection.finishSoon();
    this.#connection.refuse(code, {
      detail: code === "upgrade_wanted" ? UPGRADE_DETAIL : detail,
      requestId,
    });
  }

  // Before the answer nothing of the visitor's octets is taken.

  requestBody(): void {}
  requestEnd(): void {}
  requestBroken(): void {}
  visitorDrain(): void {}
  windUp(): void {}

  visitorEnd(): void {
    this.visitorGone();
  }

  visitorGone(): void {
    this.#around.lot.leave(this.#wanted.id, this);
    this.#ask?.giveUp();
  }

  sweep(now: number): void {
    if (
      this.#ask === undefined ||
      now - this.#askedAt < this.#around.options.answerSeconds * 1000
    )
      return;
    this.#ask.giveUp();
    this.refuse("no_answer");
  }

  /** Refuses whoever may not come in. */
  #passes(denial: Denial | undefined): boolean {
    if (denial === undefined) return true;
    const { code, detail } = denial;
    const isProxied = this.#wanted.form === "connect";
    // A proxy's own word for it (RFC 9110 15.5.8).
    this.refuse(
      code === "grant_wanted" && isProxied ? "missing_grant" : code,
      detail,
    );
    return false;
  }

  /** Nobody is asked: the relay itself is the service. */
  #echo(): void {
    this.#accept((visitor) => {
      this.#around.echoes.begin(visitor, this.#client.address);
    });
  }

  #attempt(): void {
    const { lot } = this.#around;
    const { id } = this.#wanted;
    this.#attempts++;
    this.#ask = undefined;
    const isPrivate = lot.isPrivate(id);
    if (isPrivate && !this.#passes(this.#visa.refuses(this.#wanted))) return;
    const tunnel = lot.claimFresh(id, this);
    if (tunnel !== undefined) {
      if (isPrivate) this.#visa.enter(this.#wanted);
      this.serve(tunnel);
      return;
    }
    const code = lot.wait(id, this);
    if (code !== undefined) this.refuse(code);
  }

  /** The service is there: the visitor is told, and both are joined. */
  #reached(tunnel: Tunnel, hidden: Pipe, hiddenEarly?: Buffer): void {
    const accepted = this.#accept((visitor) => {
      this.#join(tunnel, visitor, hidden);
    });
    if (!accepted) {
      tunnel.link.reset();
      tunnel.leave();
    } else if (hiddenEarly !== undefined && hiddenEarly.length > 0)
      tunnel.link.receiver.data(hiddenEarly);
  }

  /** Grants what was asked for, and gives the visitor's end of it to `join`. False when he is refused after all. */
  #accept(join: (visitor: Pipe) => void): boolean {
    const { form } = this.#wanted;
    const { link, early } = this.#connection.take();
    if (form === "websocket") {
      const handshake = { handshake: this.#request, protocol: CONNECT_TCP };
      return acceptWebSocket(link, handshake, Buffer.from(early), (socket) => {
        join(new WebSocketPipe(socket, UNOWNED));
      });
    }
    if (form === "connect-tcp") {
      link.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${CONNECT_TCP}\r\nCapsule-Protocol: ?1\r\n` +
          `${HEARTBEAT_FIELD}: ${String(this.#around.options.heartbeatSeconds)}\r\nProxy-Status: rendezvous\r\n\r\n`,
      );
      join(new CapsulePipe(link, UNOWNED, false));
    } else {
      link.write("HTTP/1.1 200 OK\r\nProxy-Status: rendezvous\r\n\r\n");
      join(link);
    }
    if (early.length > 0) link.receiver.data(early);
    return true;
  }

  #join(tunnel: Tunnel, visitor: Pipe, hidden: Pipe): void {
    const { streams, log } = this.#around;
    const { id, port, form } = this.#wanted;
    streams.limit(visitor, hidden, this.#visa.until);
    streams.join(visitor, hidden, (octets) => {
      tunnel.gone();
      log.debug({ id, port, form, ...octets }, "a TCP visit is over");
    });
  }
}
