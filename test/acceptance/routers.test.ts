// The routers of the tests themselves: each does what its real users meet, so that what passes through it means something.
//   visitor, agent -> router -> relay
import { expect } from "chai";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { afterThisTest } from "../support/cleanup.ts";
import { parkProgram, startHello, startRelayHere } from "../support/parked.ts";
import { needs } from "../support/programs.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { until } from "../support/relay.ts";
import { ROUTERS } from "../support/routers/routers.ts";

const CUT_SECONDS = 2;
/** Long enough that nothing is cut while a test looks. */
const NO_CUT_SECONDS = 30;
const VISITORS = 4;

/** What became of a way through: the octets of both sides, those of the relay alone, or none. */
type Passage = "both ways" | "one way" | "refused";

interface Facts {
  /** CONNECT uuid:pi */
  readonly park: Passage;
  /** CONNECT pi:80 */
  readonly dial: Passage;
  /** An upgrade to a protocol that nobody knows. Refused: it comes to the relay as an ordinary request. */
  readonly upgrade: Passage;
  readonly webSocket: Passage;
  /** Visitors who come one after another come on one connection, as far as it is free again by then. */
  readonly shares: boolean;
}

const FACTS: Readonly<Record<string, Facts>> = {
  nginx: {
    park: "refused",
    dial: "refused",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: false,
  },
  "nginx without Upgrade": {
    park: "refused",
    dial: "refused",
    upgrade: "refused",
    webSocket: "refused",
    shares: false,
  },
  "nginx with keepalive": {
    park: "refused",
    dial: "refused",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  haproxy: {
    park: "refused",
    dial: "both ways",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  caddy: {
    park: "refused",
    dial: "one way",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  apache: {
    park: "refused",
    dial: "one way",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  "apache with wstunnel": {
    park: "refused",
    dial: "one way",
    upgrade: "refused",
    webSocket: "both ways",
    shares: true,
  },
  varnish: {
    park: "both ways",
    dial: "both ways",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  "like Heroku": {
    park: "refused",
    dial: "refused",
    upgrade: "both ways",
    webSocket: "both ways",
    shares: true,
  },
  "like Cloudflare": {
    park: "refused",
    dial: "refused",
    upgrade: "refused",
    webSocket: "both ways",
    shares: true,
  },
};

interface Backend {
  readonly port: number;
  /** What has come, in order. */
  readonly seen: IncomingMessage[];
}

/** What stands where the relay will: it grants everything, greets, and gives back what it gets. */
async function startBackend(): Promise<Backend> {
  const seen: IncomingMessage[] = [];
  const sockets = new Set<Socket>();
  const webSockets = new WebSocketServer({ noServer: true });
  const server = createServer((request, answer) => {
    seen.push(request);
    if (request.url !== "/stream") {
      answer.end("ordinary\n");
      return;
    }
    answer.setHeader("Content-Type", "text/event-stream");
    answer.write("data: greeting\n\n");
  });
  server.keepAliveTimeout = 60 * 1000;
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  const grant =
    (head: string) => (request: IncomingMessage, socket: Socket) => {
      seen.push(request);
      socket.write(`${head}\r\ngreeting\n`);
      socket.pipe(socket);
    };
  server.on("connect", grant("HTTP/1.1 200 OK\r\n"));
  const switchTo = grant(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ptth\r\n",
  );
  server.on("upgrade", (request: IncomingMessage, socket: Socket, head) => {
    if (request.headers.upgrade?.toLowerCase() !== "websocket") {
      switchTo(request, socket);
      return;
    }
    seen.push(request);
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.send(Buffer.from("greeting\n"));
      webSocket.on("message", (data) => {
        webSocket.send(data);
      });
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

/** Asks for octets instead of an answer; undefined where there was an answer. */
async function ask(
  port: number,
  request: string,
  granted: number,
): Promise<Raw | undefined> {
  const raw = await connectRaw(port);
  raw.write(`${request}\r\n\r\n`);
  const head = await raw.take("\r\n\r\n");
  return head.startsWith(`HTTP/1.1 ${granted} `) ? raw : undefined;
}

const connectTo = (port: number, target: string): Promise<Raw | undefined> =>
  ask(port, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}`, 200);

const upgrade = (port: number): Promise<Raw | undefined> =>
  ask(
    port,
    "GET /-/park/pi HTTP/1.1\r\nHost: relay.example\r\nConnection: Upgrade\r\nUpgrade: ptth",
    101,
  );

/** Waits for the greeting, and for what is sent to come back. */
async function prove(raw: Raw | undefined): Promise<Passage> {
  if (raw === undefined) return "refused";
  await raw.take("greeting\n");
  // Where this is no tunnel it is a bad request in the end, and the connection ends with it.
  raw.write("ping\r\n\r\n");
  await until(() => raw.received.includes("ping") || raw.ended);
  return raw.received.includes("ping") ? "both ways" : "one way";
}

/** A WebSocket, and what has come by it; undefined where there is none. */
async function openWebSocket(
  port: number,
): Promise<{ webSocket: WebSocket; received: () => string } | undefined> {
  const webSocket = new WebSocket(`ws://127.0.0.1:${port}/-/park/pi`);
  let received = "";
  webSocket.on("message", (data: Buffer) => (received += data.toString()));
  afterThisTest(() => {
    webSocket.terminate();
  });
  const open = await new Promise<boolean>((resolve) => {
    webSocket.on("open", () => {
      resolve(true);
    });
    webSocket.on("error", () => {
      resolve(false);
    });
  });
  return open ? { webSocket, received: () => received } : undefined;
}

async function proveWebSocket(port: number): Promise<Passage> {
  const opened = await openWebSocket(port);
  if (opened === undefined) return "refused";
  opened.webSocket.send(Buffer.from("ping"));
  await until(() => opened.received() === "greeting\nping");
  return "both ways";
}

/** Opens whatever the router lets through, and waits until it is cut; in seconds. */
async function timeCut(port: number): Promise<number> {
  const raw = await upgrade(port);
  if (raw !== undefined) {
    await raw.take("greeting\n");
    return time(raw.end());
  }
  const opened = await openWebSocket(port);
  if (opened !== undefined) {
    await until(() => opened.received() === "greeting\n");
    return time(once(opened.webSocket, "close"));
  }
  const visitor = await connectRaw(port);
  visitor.write("GET /stream HTTP/1.1\r\nHost: relay.example\r\n\r\n");
  await visitor.take("greeting\n");
  return time(visitor.end());
}

async function time(event: Promise<unknown>): Promise<number> {
  const before = performance.now();
  await event;
  return (performance.now() - before) / 1000;
}

for (const kind of ROUTERS) {
  describe(`the router ${kind.name}`, () => {
    it("brings a visit to the hidden server", async function () {
      needs(this, ...kind.programs);
      const relay = await startRelayHere();
      await parkProgram("pi", relay.port, await startHello());
      const router = await kind.start(relay.port, NO_CUT_SECONDS);
      const visitor = await connectRaw(router.port);
      visitor.write(
        "GET /?rendezvous=pi HTTP/1.1\r\nHost: relay.example\r\n\r\n",
      );
      const { status, body } = await visitor.answer();
      expect([status, body]).to.deep.equal([200, "hello\n"]);
    });

    it("cuts what is silent as long as it was told", async function () {
      needs(this, ...kind.programs);
      const { port } = await kind.start(
        (await startBackend()).port,
        CUT_SECONDS,
      );
      expect(await timeCut(port)).to.be.within(
        0.8 * CUT_SECONDS,
        3 * CUT_SECONDS,
      );
    });

    it("lets through what its kind is known to let through", async function () {
      needs(this, ...kind.programs);
      const { port: backend, seen } = await startBackend();
      const { port } = await kind.start(backend, CUT_SECONDS);
      const park = await prove(await connectTo(port, "uuid:pi"));
      expect(seen.length > 0).to.equal(park !== "refused");
      const dial = await prove(await connectTo(port, "pi:80"));
      const upgraded = await prove(await upgrade(port));
      // Who refuses it does not say so: the relay is asked for something ordinary.
      expect(seen.at(-1)).to.include({ method: "GET", url: "/-/park/pi" });
      expect(seen.at(-1)?.headers.upgrade).to.equal(
        upgraded === "refused" ? undefined : "ptth",
      );
      const webSocket = await proveWebSocket(port);

      const connections = new Set<Socket>();
      for (let i = 0; i < VISITORS; i++) {
        const visitor = await connectRaw(port);
        visitor.write("GET /visit HTTP/1.1\r\nHost: relay.example\r\n\r\n");
        expect((await visitor.answer()).body).to.equal("ordinary\n");
        const visit = seen.at(-1);
        if (visit?.url === "/visit") connections.add(visit.socket);
        visitor.socket.destroy();
      }
      expect({
        park,
        dial,
        upgrade: upgraded,
        webSocket,
        shares: connections.size < VISITORS,
      }).to.deep.equal(FACTS[kind.name]);
    });
  });
}
