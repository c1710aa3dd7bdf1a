// A hidden server with something of everything that people serve, and the visitors who try it.
import { expect } from "chai";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
} from "node:http";
import type { Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { afterThisTest } from "./cleanup.ts";

const MEGABYTE = 1024 * 1024;

/** Pages, uploads, server-sent events and a WebSocket, all of which say whose they are. It need not listen. */
export function makeSite(id: string): { server: Server; more: () => void } {
  const webSockets = new WebSocketServer({ noServer: true });
  const waiting: (() => void)[] = [];
  const server = createServer((request, answer) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
    if (pathname === "/events") {
      answer.setHeader("Content-Type", "text/event-stream");
      answer.write("data: first\n\n");
      waiting.push(() => answer.end("data: second\n\n"));
      return;
    }
    const sum = createHash("sha256");
    request.on("data", (octets: Buffer) => sum.update(octets));
    request.on("end", () => {
      answer.end(
        pathname === "/upload"
          ? sum.digest("hex")
          : `${id} ${searchParams.get("n") ?? ""} ${request.method ?? ""}`,
      );
    });
  });
  server.on("upgrade", (request, socket: Socket, head) => {
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("message", (data: Buffer) => {
        webSocket.send(`${id}: ${data.toString()}`);
      });
    });
  });
  afterThisTest(() => {
    for (const webSocket of webSockets.clients) webSocket.terminate();
    server.closeAllConnections();
  });
  const more = (): void => {
    for (const go of waiting.splice(0)) go();
  };
  return { server, more };
}

interface Asked {
  readonly method?: string;
  readonly body?: string | undefined;
  readonly agent?: Agent;
}

/** One request; the answer once its head is there. */
export async function ask(
  url: string,
  { method = "GET", body, agent }: Asked = {},
): Promise<IncomingMessage> {
  const request = httpRequest(url, {
    method,
    ...(agent === undefined ? {} : { agent }),
  });
  request.end(body);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return answer;
}

export async function textOf(answer: IncomingMessage): Promise<string> {
  let text = "";
  for await (const octets of answer) text += String(octets);
  return text;
}

/** A visitor reads the first event before the second one is sent. */
export async function readEvents(
  router: string,
  more: () => void,
): Promise<void> {
  const answer = await ask(`${router}/events?rendezvous=pi`);
  let text = "";
  for await (const octets of answer) {
    text += String(octets);
    if (text === "data: first\n\n") more();
  }
  expect(text).to.equal("data: first\n\ndata: second\n\n");
}

export async function talk(router: string): Promise<string> {
  const url = `${router.replace("http", "ws")}/socket?rendezvous=pi`;
  const socket = new WebSocket(url);
  afterThisTest(() => {
    socket.terminate();
  });
  socket.on("open", () => {
    socket.send("hello");
  });
  return new Promise((resolve) => {
    socket.on("error", () => {
      resolve("refused");
    });
    socket.on("message", (data: Buffer) => {
      resolve(data.toString());
    });
  });
}

export async function upload(router: string, megabytes: number): Promise<void> {
  const piece = randomBytes(MEGABYTE);
  const sum = createHash("sha256");
  const request = httpRequest(`${router}/upload?rendezvous=pi`, {
    method: "POST",
    headers: { "Content-Length": megabytes * MEGABYTE },
  });
  const answered = once(request, "response") as Promise<[IncomingMessage]>;
  for (let i = 0; i < megabytes; i++) {
    sum.update(piece);
    if (!request.write(piece)) await once(request, "drain");
  }
  request.end();
  const [answer] = await answered;
  expect(await textOf(answer)).to.equal(sum.digest("hex"));
}

/** Visitors of several servers, each on a connection of his own to the router, until so many requests have been answered right. */
export async function mix(
  router: string,
  ids: readonly string[],
  visitors: number,
  requests: number,
): Promise<void> {
  let left = requests;
  const visitor = async (seed: number): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    afterThisTest(() => {
      agent.destroy();
    });
    for (let n = seed; left-- > 0; n += visitors) {
      const id = ids[(n * 7 + (n >> 3)) % ids.length] ?? "";
      const method = n % 5 === 0 ? "POST" : "GET";
      const answer = await ask(`${router}/who?rendezvous=${id}&n=${n}`, {
        method,
        body: method === "POST" ? `${id} ${n}` : undefined,
        agent,
      });
      expect(await textOf(answer)).to.equal(`${id} ${n} ${method}`);
    }
  };
  await Promise.all(
    Array.from({ length: visitors }, (_, seed) => visitor(seed)),
  );
}
