// What a claimed tunnel is joined to: a local service, or a Node http.Server in the same process.
import { randomUUID } from "node:crypto";
import { createServer, type RequestListener, Server } from "node:http";
import { connect } from "node:net";
import { tellFailure, type FailureCode } from "../errors.ts";
import {
  CONNECT_TCP,
  DIAL_FIELD,
  FAILURE_FIELD,
  readPort,
} from "../protocol.ts";
import { CapsulePipe } from "../wire/capsulepipe.ts";
import {
  fieldOf,
  headEnd,
  readRequestHead,
  type RequestHead,
} from "../wire/head.ts";
import { UNOWNED, Link } from "../wire/link.ts";
import type { BeatingPipe } from "../wire/pipe.ts";
import { PipeStream } from "../wire/pipestream.ts";
import { reasonOf } from "../wire/refusal.ts";
import { splice, type Tap } from "../wire/splice.ts";

/** How long a local service may take to accept. */
const DIAL_MILLISECONDS = 10 * 1000;
/** How long the relay has to read the agent's own answer. */
const LINGER_MILLISECONDS = 5 * 1000;
/** The port whose streams go to the HTTP service, unless another is offered there; then that one takes HTTP visits where there is no HTTP service. */
const HTTP_PORT = 80;

/** A local service, by where it listens. */
export interface ServiceAddress {
  readonly host: string;
  readonly port: number;
}

/** Who looks after what is joined, until it is over. */
interface Care {
  /** Keeps a stream alive. */
  readonly tend: (pipe: BeatingPipe) => void;
  /** Notices the end of a link that nobody reads. */
  readonly watch: (link: Link) => void;
  /** A service takes no connection: why. */
  readonly missed: (service: ServiceAddress, reason: string) => void;
}

/** What a hidden server has to offer. */
export interface Offer extends Care {
  /** Takes HTTP visits; undefined: what is offered at port 80 does, if anything is. */
  readonly http: Server | RequestListener | ServiceAddress | undefined;
  /** Takes TCP visits, by the port that visitors name. */
  readonly tcp: ReadonlyMap<number, ServiceAddress>;
  /** Sees what passes of HTTP visits to a service that is dialled. */
  readonly tap?: (() => Tap) | undefined;
}

/** Joins a claimed tunnel. `early` are the octets that have come; the tunnel is paused. `over` is called once, when all is closed. */
export type Join = (tunnel: Link, early: Buffer, over: () => void) => void;

/** The way to join tunnels to what is offered. */
export function joinOffer({ http, tcp, tap, ...care }: Offer): Join {
  // Without an HTTP service of its own, what is offered at its port is one.
  const local =
    typeof http === "function"
      ? createServer(http)
      : (http ?? tcp.get(HTTP_PORT));
  const joinHttp: Join =
    local instanceof Server
      ? joinServer(local)
      : local === undefined
        ? joinNothing
        : joinService(local, care, tap);
  return function join(tunnel, early, over) {
    const ask = readAsk(early);
    if (ask === undefined) joinHttp(tunnel, early, over);
    else {
      const target =
        tcp.get(ask.port) ?? (ask.port === HTTP_PORT ? local : undefined);
      const rest = early.subarray(ask.end);
      if (target === undefined)
        answerFailure(tunnel, early, "not_offered", over);
      else if (target instanceof Server)
        streamToServer(tunnel, target, rest, over, care);
      else streamToService(tunnel, target, { early, rest }, over, care);
    }
  };
}

/** A visitor's HTTP, octet by octet, to a service. */
function joinService(
  service: ServiceAddress,
  care: Care,
  makeTap?: () => Tap,
): Join {
  return function join(tunnel, early, over) {
    reach(
      service,
      tunnel,
      early,
      over,
      { refused: "local_service_down", late: "local_service_down" },
      care,
      (local) => {
        const tap = makeTap?.();
        tap?.there(early);
        local.write(early);
        splice(tunnel, local, over, tap);
      },
    );
  };
}

/** A visitor's HTTP to a server of this process, which need not listen anywhere. */
function joinServer(server: Server): Join {
  return function join(tunnel, early, over) {
    const stream = tunnel.release();
    stream.on("close", over);
    if (stream.destroyed) return;
    stream.unshift(early);
    server.emit("connection", stream);
    stream.resume();
  };
}

const joinNothing: Join = (tunnel, early, over) => {
  answerFailure(tunnel, early, "no_web_server", over);
};

/** A TCP stream to a service: the agent is the proxy of connect-tcp. */
function streamToService(
  tunnel: Link,
  service: ServiceAddress,
  came: { early: Buffer; rest: Buffer },
  over: () => void,
  care: Care,
): void {
  reach(
    service,
    tunnel,
    came.early,
    over,
    { refused: "target_down", late: "target_timeout" },
    care,
    (local) => {
      const pipe = acceptStream(tunnel, care);
      splice(pipe, local, over);
      if (came.rest.length > 0) tunnel.receiver.data(came.rest);
    },
  );
}

/** A TCP stream to a server of this process. */
function streamToServer(
  tunnel: Link,
  server: Server,
  rest: Buffer,
  over: () => void,
  care: Care,
): void {
  const stream = new PipeStream(acceptStream(tunnel, care));
  stream.on("error", () => undefined).on("close", over);
  server.emit("connection", stream);
  if (rest.length > 0) tunnel.receiver.data(rest);
}

/** The answer of a connect-tcp proxy that has reached its target. */
function acceptStream(tunnel: Link, care: Care): CapsulePipe {
  tunnel.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${CONNECT_TCP}\r\nCapsule-Protocol: ?1\r\n\r\n`,
  );
  const pipe = new CapsulePipe(tunnel, UNOWNED, true);
  care.tend(pipe);
  return pipe;
}

/** Dials a service for a tunnel. The visitor is told when that fails, and the agent lives on. */
function reach(
  service: ServiceAddress,
  tunnel: Link,
  early: Buffer,
  over: () => void,
  codes: { readonly refused: FailureCode; readonly late: FailureCode },
  care: Care,
  reached: (local: Link) => void,
): void {
  let settled = false;
  let code = codes.refused;
  let reason = "it does not accept in time";
  const socket = connect({ ...service, allowHalfOpen: true, noDelay: true });
  const settle = (): boolean => {
    if (settled) return false;
    settled = true;
    clearTimeout(deadline);
    return true;
  };
  const local = new Link(socket, {
    ...UNOWNED,
    gone() {
      if (!settle()) return;
      care.missed(service, reason);
      answerFailure(tunnel, early, code, over);
    },
  });
  socket.on("error", (error) => (reason = reasonOf(error)));
  const deadline = setTimeout(() => {
    code = codes.late;
    socket.destroy();
  }, DIAL_MILLISECONDS);
  tunnel.receiver = {
    ...UNOWNED,
    gone() {
      settle();
      socket.destroy();
      over();
    },
  };
  socket.on("connect", () => {
    if (!settle()) return;
    care.watch(local);
    reached(local);
  });
}

/** The agent's own answer to a visitor. */
function answerFailure(
  tunnel: Link,
  early: Buffer,
  code: FailureCode,
  over: () => void,
): void {
  const request = headOf(early);
  const accept =
    request === undefined ? undefined : fieldOf(request.fields, "accept");
  const { status, reason, fields, body } = tellFailure({
    code,
    requestId: randomUUID(),
    accept,
  });
  let head = `HTTP/1.1 ${String(status)} ${reason}\r\n${FAILURE_FIELD}: ${code}\r\nDate: ${new Date().toUTCString()}\r\n`;
  for (let i = 0; i < fields.length; i += 2)
    head += `${fields[i] ?? ""}: ${fields[i + 1] ?? ""}\r\n`;
  const isHead = early.subarray(0, 5).toString("latin1") === "HEAD ";
  tunnel.write(
    Buffer.from(`${head}Connection: close\r\n\r\n${isHead ? "" : body}`),
  );
  // A body may still be on its way: to close before it is read would break the answer.
  const deadline = setTimeout(() => {
    tunnel.destroy();
  }, LINGER_MILLISECONDS);
  tunnel.receiver = {
    ...UNOWNED,
    gone() {
      clearTimeout(deadline);
      over();
    },
  };
  tunnel.resume();
  tunnel.end();
}

/** The relay's question for a TCP stream, if that is what these octets begin with. */
function readAsk(early: Buffer): { port: number; end: number } | undefined {
  const request = headOf(early);
  const marked =
    request === undefined
      ? undefined
      : fieldOf(request.fields, DIAL_FIELD.toLowerCase());
  if (request?.upgrade !== CONNECT_TCP || marked === undefined)
    return undefined;
  const port = readPort(marked);
  return port === undefined ? undefined : { port, end: headEnd(early, 0) };
}

function headOf(early: Buffer): RequestHead | undefined {
  const end = headEnd(early, 0);
  try {
    return end < 0 ? undefined : readRequestHead(early, 0, end);
  } catch {
    return undefined;
  }
}
