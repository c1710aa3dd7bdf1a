// Tunnels parked as WebSockets by hand: what is in which message, and what ends them.
import { expect } from "chai";
import { generateSync } from "otplib";
import { once } from "node:events";
import { WebSocket } from "ws";
import { afterThisTest } from "../support/cleanup.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, until, type TestRelay } from "../support/relay.ts";
import { get } from "../support/visits.ts";

const SHORT = 0.5;

/** A hidden server on a WebSocket. */
interface Hidden {
  readonly socket: WebSocket;
  /** The messages that have come. */
  readonly messages: Buffer[];
  /** All octets that have come. */
  text(): string;
}

async function parkSocket(relay: TestRelay, agent = false): Promise<Hidden> {
  const token = generateSync({ secret: relay.issue("pi").secret });
  const socket = new WebSocket(
    `ws://127.0.0.1:${relay.port}/-/park/pi`,
    ["chat", "ptth"],
    {
      headers: {
        Authorization: `Bearer ${token}`,
        ...(agent ? { "Rendezvous-Agent": "1.0.0" } : {}),
      },
    },
  );
  afterThisTest(() => {
    socket.terminate();
  });
  const messages: Buffer[] = [];
  socket.on("message", (octets: Buffer) => messages.push(octets));
  await once(socket, "open");
  if (!agent) await relay.until(() => relay.counts().idle === 1);
  const text = (): string => Buffer.concat(messages).toString("latin1");
  return { socket, messages, text };
}

/** A visitor whose request has arrived at the hidden server. */
async function claim(
  relay: TestRelay,
  hidden: Hidden,
  request = get("/?rendezvous=pi"),
): Promise<Raw> {
  const visitor = await connectRaw(relay.port);
  visitor.write(request);
  await until(() => hidden.text().includes("\r\n\r\n"));
  return visitor;
}

describe("a tunnel parked as a WebSocket", () => {
  it("has the one subprotocol, no compression, and the fields for an agent", async () => {
    const relay = await startRelay({ heartbeatSeconds: 7 });
    const token = generateSync({ secret: relay.issue("pi").secret });
    const asked = await connectRaw(relay.port);
    asked.write(
      `GET /-/park/PI?response=${token} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, ptth\r\nSec-WebSocket-Extensions: permessage-deflate\r\nRendezvous-Agent: 1.0.0\r\n\r\n`,
    );
    const { status, fields } = await asked.answer();
    expect(status).to.equal(101);
    expect(fields).to.deep.equal({
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      "sec-websocket-protocol": "ptth",
      "rendezvous-heartbeat": "7",
      "rendezvous-visit": "/?rendezvous=pi",
    });
    // The ping in the tunnel is one unmasked binary message.
    expect(await asked.takeOctets(1)).to.equal("\x82");
    await asked.take("Rendezvous-Ping: ");
  });

  it("serves a generic backend's one visit", async () => {
    const relay = await startRelay();
    const hidden = await parkSocket(relay);
    const visitor = await claim(relay, hidden);
    expect(hidden.text()).to.match(/\r\nConnection: close\r\n\r\n$/);
    hidden.socket.send(
      Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    );
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("gets messages of at most 64 KiB", async () => {
    const relay = await startRelay();
    const hidden = await parkSocket(relay);
    const body = "x".repeat(1024 * 1024);
    const head = "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n";
    await claim(
      relay,
      hidden,
      `${head}Content-Length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => hidden.text().endsWith(body));
    const longest = Math.max(...hidden.messages.map(({ length }) => length));
    expect(longest).to.be.at.most(64 * 1024);
  });

  it("may be answered in messages of up to 128 KiB, fragments and pings between them", async () => {
    const relay = await startRelay();
    const hidden = await parkSocket(relay);
    const visitor = await claim(relay, hidden);
    const { socket } = hidden;
    const answer = "HTTP/1.1 200 OK\r\nContent-Length: 220000\r\n\r\n";
    for (const octet of answer) socket.send(Buffer.from(octet));
    socket.send(Buffer.alloc(60_000, "a"), { fin: false });
    socket.ping();
    socket.send(Buffer.alloc(60_000, "b"), { fin: true });
    socket.send(Buffer.alloc(100_000, "c"));
    const { body } = await visitor.answer();
    expect(body).to.match(/^a{60000}b{60000}c{100000}$/);
  });

  for (const [what, leave, code] of [
    [
      "says a text",
      (socket: WebSocket) => {
        socket.send("hello");
      },
      1003,
    ],
    [
      "sends more than a megabyte in one message",
      (socket: WebSocket) => {
        socket.send(Buffer.alloc(2 * 1024 * 1024));
      },
      1009,
    ],
    [
      "says something unasked",
      (socket: WebSocket) => {
        socket.send(Buffer.from("x"));
      },
      4000,
    ],
    [
      "closes",
      (socket: WebSocket) => {
        socket.close(1000);
      },
      1000,
    ],
  ] as const) {
    it(`that ${what} is out of the lot`, async () => {
      const relay = await startRelay();
      const { socket } = await parkSocket(relay);
      leave(socket);
      const [told] = (await once(socket, "close")) as [number];
      expect(told).to.equal(code);
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("on which comes what is no frame of a client is cut", async () => {
    const relay = await startRelay();
    for (const frame of [
      "\x82\x02hi",
      "\xff\xff\xff\xff",
      "HTTP/1.1 200 OK\r\n",
    ]) {
      const token = generateSync({ secret: relay.issue("pi").secret });
      const asked = await connectRaw(relay.port);
      asked.write(
        `GET /-/park/pi?response=${token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ptth\r\n\r\n`,
      );
      await asked.take("\r\n\r\n");
      asked.write(frame);
      // Though this side does not close.
      await relay.until(() => relay.counts().tunnels === 0);
      await asked.end();
    }
  });

  for (const [how, leave] of [
    [
      "closed with 1001",
      (socket: WebSocket) => {
        socket.close(1001);
      },
    ],
    [
      "cut",
      (socket: WebSocket) => {
        socket.terminate();
      },
    ],
    [
      "closed after a text",
      (socket: WebSocket) => {
        socket.send("x");
      },
    ],
  ] as const) {
    it(`cuts an answer without a length when it is ${how}`, async () => {
      const relay = await startRelay();
      const hidden = await parkSocket(relay);
      const request = "GET /?rendezvous=pi HTTP/1.0\r\n\r\n";
      const visitor = await claim(relay, hidden, request);
      hidden.socket.send(Buffer.from("HTTP/1.0 200 OK\r\n\r\nhalf"));
      await visitor.take("half");
      leave(hidden.socket);
      expect(await visitor.close()).to.equal("reset");
    });
  }

  for (const [how, leave] of [
    [
      "closed with 1000",
      (socket: WebSocket) => {
        socket.close(1000);
      },
    ],
    [
      "ended by an empty message",
      (socket: WebSocket) => {
        socket.send(Buffer.alloc(0));
      },
    ],
  ] as const) {
    it(`ends an answer without a length when it is ${how}`, async () => {
      const relay = await startRelay();
      const hidden = await parkSocket(relay);
      const request = "GET /?rendezvous=pi HTTP/1.0\r\n\r\n";
      const visitor = await claim(relay, hidden, request);
      hidden.socket.send(Buffer.from("HTTP/1.0 200 OK\r\n\r\nwhole"));
      leave(hidden.socket);
      await visitor.take("whole");
      await visitor.end();
      visitor.socket.end();
      expect(await visitor.close()).to.equal("clean");
    });
  }

  it("is not waited for when it has closed but leaves its connection open", async () => {
    const relay = await startRelay();
    const token = generateSync({ secret: relay.issue("pi").secret });
    const hidden = await connectRaw(relay.port);
    hidden.write(
      `GET /-/park/pi?response=${token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ptth\r\n\r\n`,
    );
    await relay.until(() => relay.counts().idle === 1);
    const visitor = await connectRaw(relay.port);
    visitor.write("GET /?rendezvous=pi HTTP/1.0\r\n\r\n");
    await hidden.take("GET / HTTP/1.1\r\n");
    // An answer without a length, and a close frame with 1000; both masked with zeros.
    hidden.write(
      "\x82\x96\0\0\0\0HTTP/1.0 200 OK\r\n\r\nall\x88\x82\0\0\0\0\x03\xe8",
    );
    await visitor.take("all");
    await visitor.end();
    visitor.socket.end();
    expect(await visitor.close()).to.equal("clean");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("is pinged while it is claimed and silent, and cut when it does not answer", async () => {
    const relay = await startRelay({ heartbeatSeconds: SHORT });
    const hidden = await parkSocket(relay);
    // A POST is not sent again.
    const request =
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    const visitor = await claim(relay, hidden, request);
    for (let i = 0; i < 3; i++) await once(hidden.socket, "ping");
    expect(visitor.closed).to.equal(undefined);
    // What is not read is not answered.
    hidden.socket.pause();
    expect((await visitor.answer()).status).to.equal(502);
    await relay.until(() => relay.counts().tunnels === 0);
  });
});
