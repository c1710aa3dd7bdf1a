// A router that does what Heroku's is documented to do, run as a program of its own.
//   visitors -> connections that they share -> relay; an Upgrade, whatever its token, becomes a pipe of octets
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { append, createForwarder, endToEnd, refuse } from "./forward.ts";
import { ordinaryAnswer, readArguments, serve } from "./serve.ts";

const FIRST_MILLISECONDS = 30 * 1000;

const { relayPort, cutMilliseconds } = readArguments();

const forwarder = createForwarder({
  relayPort,
  cutMilliseconds,
  firstMilliseconds: FIRST_MILLISECONDS,
  late: [503, "Service Unavailable"],
  added: ({ headers, socket }) => ({
    "x-forwarded-for": append(
      headers["x-forwarded-for"]?.toString(),
      socket.remoteAddress ?? "",
    ),
    "x-forwarded-proto": "http",
    "x-forwarded-port": String(socket.localPort),
    "x-request-id": headers["x-request-id"]?.toString() ?? randomUUID(),
    "x-request-start": String(Date.now()),
    via: append(headers.via, "1.1 vegur"),
  }),
});

/** Octets both ways. The end of one side is the end of both, and so is a silence of both. */
function pipe(visitor: Socket, relay: Socket): void {
  const cut = setTimeout(() => {
    visitor.destroy();
    relay.destroy();
  }, cutMilliseconds);
  for (const [from, to] of [
    [visitor, relay],
    [relay, visitor],
  ] as const) {
    from.on("data", () => cut.refresh());
    from.on("error", () => undefined);
    from.on("close", () => {
      clearTimeout(cut);
      to.destroy();
    });
    to.on("finish", () => {
      to.destroySoon();
      from.destroySoon();
    });
    from.pipe(to);
  }
}

function upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
  let response: ServerResponse | undefined;
  const ordinary = (): ServerResponse =>
    (response ??= ordinaryAnswer(request, socket));
  const token = request.headers.upgrade ?? "";
  if (token.includes("/")) {
    refuse(ordinary(), [400, "Bad Request"]);
    return;
  }
  const asked = forwarder.send(request, [
    "Connection",
    "Upgrade",
    "Upgrade",
    token,
  ]);
  const late = setTimeout(() => {
    asked.destroy(new Error("no answer began in time"));
  }, FIRST_MILLISECONDS);
  const gone = (): void => {
    asked.destroy();
  };
  socket.on("close", gone);
  asked.on("close", () => {
    clearTimeout(late);
  });
  asked.on("error", () => {
    if (!socket.destroyed) refuse(ordinary(), [503, "Service Unavailable"]);
  });
  asked.on("response", (from) => {
    clearTimeout(late);
    forwarder.answer(from, ordinary());
  });
  asked.on("upgrade", (from, relay, first) => {
    clearTimeout(late);
    socket.off("close", gone);
    const fields = endToEnd(from.rawHeaders);
    const lines = fields.flatMap((name, index) =>
      index % 2 === 0 ? [`${name}: ${fields[index + 1] ?? ""}\r\n`] : [],
    );
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${from.headers.upgrade ?? token}\r\n${lines.join("")}\r\n`,
    );
    // What came before its time is not lost.
    if (first.length > 0) socket.write(first);
    if (head.length > 0) relay.write(head);
    pipe(socket, relay);
  });
  asked.end();
}

serve(forwarder, upgrade, "405 Method Not Allowed");
