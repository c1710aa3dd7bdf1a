// What a claimed tunnel is joined to: a local TCP service, or a Node http.Server in the same process.
import { connect, type Socket } from "node:net";
import { createServer, type RequestListener, Server } from "node:http";
import { randomUUID } from "node:crypto";
import { tellFailure } from "../errors.ts";
import { fieldOf, headEnd, readRequestHead } from "../wire/head.ts";
import { Link, type Receiver } from "../wire/link.ts";
import { splice, type Tap } from "../wire/splice.ts";

/** How long a local service may take to accept. */
const DIAL_MILLISECONDS = 10 * 1000;
/** How long the relay has to read the agent's own answer. */
const LINGER_MILLISECONDS = 5 * 1000;

/** Joins a claimed tunnel. `early` are the octets that have come; the tunnel is paused. `over` is called once, when all is closed. */
export type Join = (tunnel: Link, early: Buffer, over: () => void) => void;

/** A local service, by where it listens. */
export interface ServiceAddress {
  readonly host: string;
  readonly port: number;
}

/** Joins tunnels to a local TCP service, octet by octet. */
export function joinService(
  service: ServiceAddress,
  makeTap?: () => Tap,
): Join {
  return function join(tunnel, early, over) {
    let settled = false;
    const socket: Socket = connect({
      host: service.host,
      port: service.port,
      allowHalfOpen: true,
      noDelay: true,
    });
    const local = new Link(socket, {
      data() {},
      end() {},
      drain() {},
      gone() {
        if (settled) return;
        settled = true;
        clearTimeout(deadline);
        answerDown(tunnel, early, over);
      },
    });
    const deadline = setTimeout(() => socket.destroy(), DIAL_MILLISECONDS);
    tunnel.receiver = {
      data() {},
      end() {},
      drain() {},
      gone() {
        settled = true;
        clearTimeout(deadline);
        socket.destroy();
        over();
      },
    };
    socket.on("connect", () => {
      if (settled) return;
      settled = true;
      clearTimeout(deadline);
      const tap = makeTap?.();
      tap?.there(early);
      local.write(early);
      splice(tunnel, local, over, tap);
    });
  };
}

/** Joins tunnels to an http.Server, which need not listen anywhere. */
export function joinServer(server: Server): Join {
  return function join(tunnel, early, over) {
    const stream = tunnel.release();
    stream.on("close", over);
    if (stream.destroyed) return;
    stream.unshift(early);
    server.emit("connection", stream);
    stream.resume();
  };
}

/** The way to join to whatever park() was given. */
export function joinTarget(
  target: Server | RequestListener | ServiceAddress,
  makeTap?: () => Tap,
): Join {
  if (target instanceof Server) return joinServer(target);
  if (typeof target === "function") return joinServer(createServer(target));
  return joinService(target, makeTap);
}

/** The visitor is told, and the agent lives on. */
function answerDown(tunnel: Link, early: Buffer, over: () => void): void {
  const { status, reason, fields, body } = tellFailure({
    code: "local_service_down",
    requestId: randomUUID(),
    accept: acceptOf(early),
  });
  let head = `HTTP/1.1 ${String(status)} ${reason}\r\n`;
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
  tunnel.receiver = lingering(() => {
    clearTimeout(deadline);
    over();
  });
  tunnel.resume();
  tunnel.end();
}

function lingering(over: () => void): Receiver {
  return { data() {}, end() {}, drain() {}, gone: over };
}

function acceptOf(early: Buffer): string | undefined {
  const end = headEnd(early, 0);
  try {
    return end < 0
      ? undefined
      : fieldOf(readRequestHead(early, 0, end).fields, "accept");
  } catch {
    return undefined;
  }
}
