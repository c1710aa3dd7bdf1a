// What our own routers have in common as programs: run as `FILE RELAY_PORT CUT_SECONDS`, they tell where they listen.
import { ServerResponse, createServer, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { MAX_HEAD_OCTETS, type Forwarder } from "./forward.ts";

/** The port of the relay, and the silence after which a router cuts. */
export function readArguments(): {
  relayPort: number;
  cutMilliseconds: number;
} {
  const [relayPort, cutSeconds] = process.argv.slice(2).map(Number);
  if (relayPort === undefined || cutSeconds === undefined)
    throw new Error("Two arguments are wanted: RELAY_PORT CUT_SECONDS.");
  return { relayPort, cutMilliseconds: cutSeconds * 1000 };
}

/** Serves on a free port of 127.0.0.1. CONNECT gets `refusal`. */
export function serve(
  forwarder: Forwarder,
  upgrade: (request: IncomingMessage, socket: Socket, head: Buffer) => void,
  refusal: string,
): void {
  const server = createServer({
    keepAliveTimeout: 90 * 1000,
    requestTimeout: 0,
    maxHeaderSize: MAX_HEAD_OCTETS,
  });
  const exchange = (
    request: IncomingMessage,
    response: ServerResponse,
  ): void => {
    attempt(request.socket, () => {
      forwarder.exchange(request, response);
    });
  };
  server.on("request", exchange);
  server.on("checkContinue", exchange);
  server.on("upgrade", (request: IncomingMessage, socket: Socket, head) => {
    socket.on("error", () => undefined);
    attempt(socket, () => {
      upgrade(request, socket, head);
    });
  });
  server.on("connect", (_request, socket: Socket) => {
    socket.on("error", () => undefined);
    socket.end(
      `HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
    socket.resume();
  });
  server.on("clientError", (_error, socket) => {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  });
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo;
    console.log(`listening on ${port}`);
  });
}

/** What node or ws will not write, though it could be read, costs its sender the connection. */
function attempt(socket: Socket, act: () => void): void {
  try {
    act();
  } catch (error) {
    console.error(error);
    socket.destroy();
  }
}

/** A way to answer a request for an upgrade as any other; its connection ends after that. */
export function ordinaryAnswer(
  request: IncomingMessage,
  socket: Socket,
): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.on("finish", () => {
    response.detachSocket(socket);
    socket.end();
  });
  return response;
}
