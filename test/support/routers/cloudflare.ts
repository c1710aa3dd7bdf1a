// A router that does what is said of Cloudflare's, run as a program of its own.
//   visitors -> connections that they share -> relay; WebSocket alone is an upgrade, and its messages are cut anew
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { append, createForwarder, endToEnd, refuse } from "./forward.ts";
import { ordinaryAnswer, readArguments, serve } from "./serve.ts";

const MAX_MESSAGE_OCTETS = 1024 * 1024;
/** Above this the side that sends waits. */
const MAX_BACKLOG_OCTETS = 1024 * 1024;
/** What messages are cut into, by turns: no frame of anybody's own fits. */
const SIZES = [1, 777, 16 * 1024 + 1, 5, 100 * 1000];
/** Close codes that say how a connection ended, and may not be sent (RFC 6455 7.4.1). */
const NO_CODE = 1005;
const MAY_NOT_BE_SENT: ReadonlySet<number> = new Set([1006, 1015]);

const { relayPort, cutMilliseconds } = readArguments();

const added = ({
  headers,
  socket,
}: IncomingMessage): Record<string, string> => ({
  "x-forwarded-for": append(
    headers["x-forwarded-for"]?.toString(),
    socket.remoteAddress ?? "",
  ),
  "x-forwarded-proto": "http",
  "cf-connecting-ip": socket.remoteAddress ?? "",
  "cf-ray": randomBytes(8).toString("hex"),
  "cdn-loop": append(headers["cdn-loop"]?.toString(), "cloudflare"),
});

const forwarder = createForwarder({
  relayPort,
  cutMilliseconds,
  firstMilliseconds: cutMilliseconds,
  late: [524, "A Timeout Occurred"],
  added,
});

/** Passes messages from one side to the other. Those of octets are joined and cut anew, and an empty one stays where it is. */
function relayMessages(from: WebSocket, to: WebSocket): void {
  let pending: Buffer[] = [];
  let turn = 0;

  const sent = (): void => {
    if (from.isPaused && to.bufferedAmount < MAX_BACKLOG_OCTETS / 2)
      from.resume();
  };
  const send = (octets: Buffer, binary: boolean, fin = true): void => {
    if (to.readyState !== WebSocket.OPEN) return;
    to.send(octets, { binary, fin, compress: false }, sent);
    if (to.bufferedAmount > MAX_BACKLOG_OCTETS) from.pause();
  };
  const flush = (): void => {
    const octets = Buffer.concat(pending);
    pending = [];
    for (let at = 0; at < octets.length;) {
      const size = SIZES[turn++ % SIZES.length] ?? 1;
      send(octets.subarray(at, at + size), true);
      at += size;
    }
  };

  from.on("message", (data: Buffer, binary) => {
    if (binary && data.length > 0) {
      // What comes in one turn of the event loop is joined.
      if (pending.push(data) === 1) setImmediate(flush);
      return;
    }
    flush();
    const middle = Math.floor(data.length / 2);
    if (middle > 0) send(data.subarray(0, middle), binary, false);
    send(data.subarray(middle), binary);
  });
  from.on("ping", (data) => {
    flush();
    if (to.readyState === WebSocket.OPEN) to.ping(data);
  });
  from.on("pong", (data) => {
    flush();
    if (to.readyState === WebSocket.OPEN) to.pong(data);
  });
  from.on("close", (code, reason) => {
    flush();
    if (MAY_NOT_BE_SENT.has(code)) to.terminate();
    else if (code === NO_CODE) to.close();
    else to.close(code, reason);
  });
}

function join(visitor: WebSocket, relay: WebSocket): void {
  const cut = setTimeout(() => {
    visitor.terminate();
    relay.terminate();
  }, cutMilliseconds);
  for (const side of [visitor, relay]) {
    side.on("error", () => undefined);
    for (const event of ["message", "ping", "pong"] as const)
      side.on(event, () => cut.refresh());
    side.on("close", () => {
      clearTimeout(cut);
    });
  }
  relayMessages(visitor, relay);
  relayMessages(relay, visitor);
}

/** The fields of a handshake without those that are of one connection only. */
function handshakeFields(request: IncomingMessage): Record<string, string> {
  const fresh = added(request);
  const fields = endToEnd(request.rawHeaders, [
    ...Object.keys(fresh),
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
  ]);
  const kept: Record<string, string> = {};
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] ?? "").toLowerCase();
    kept[name] = append(kept[name], fields[i + 1] ?? "");
  }
  return { ...kept, ...fresh };
}

function openWebSocket(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): void {
  const offered = request.headers["sec-websocket-protocol"];
  const target = `ws://127.0.0.1:${relayPort}${request.url ?? "/"}`;
  const relay = new WebSocket(target, offered?.split(/\s*,\s*/) ?? [], {
    headers: handshakeFields(request),
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_OCTETS,
    handshakeTimeout: cutMilliseconds,
    autoPong: false,
  });
  let answered = false;
  let extra: string[] = [];
  socket.on("close", () => {
    if (!answered) relay.terminate();
  });
  relay.on("error", () => {
    if (answered || socket.destroyed) return;
    answered = true;
    refuse(ordinaryAnswer(request, socket), [502, "Bad Gateway"]);
  });
  relay.on("unexpected-response", (_asked, from) => {
    answered = true;
    forwarder.answer(from, ordinaryAnswer(request, socket));
  });
  relay.on("upgrade", ({ rawHeaders }) => {
    extra = endToEnd(rawHeaders, [
      "sec-websocket-accept",
      "sec-websocket-extensions",
      "sec-websocket-protocol",
    ]);
  });
  relay.on("open", () => {
    // Nothing of it is lost while the visitor is told.
    relay.pause();
    answered = true;
    const server = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_OCTETS,
      autoPong: false,
      handleProtocols: () => relay.protocol,
    });
    server.on("headers", (lines) => {
      extra.forEach((name, index) => {
        if (index % 2 === 0) lines.push(`${name}: ${extra[index + 1] ?? ""}`);
      });
    });
    server.handleUpgrade(request, socket, head, (visitor) => {
      join(visitor, relay);
      relay.resume();
    });
  });
}

function upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
  if (request.headers.upgrade?.toLowerCase() === "websocket")
    openWebSocket(request, socket, head);
  else forwarder.exchange(request, ordinaryAnswer(request, socket));
}

serve(forwarder, upgrade, "400 Bad Request");
