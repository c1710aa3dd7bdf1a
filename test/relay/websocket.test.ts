// TCP visits by WebSocket: handshakes, messages of every kind, and what each close code says.
import { expect } from "chai";
import { once } from "node:events";
import { WebSocket } from "ws";
import { afterThisTest } from "../support/cleanup.ts";
import { parkRaw, parkRawAgent } from "../support/hidden.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import {
  TCP_PATH,
  echo,
  listen,
  offerService,
  readAll,
  visit,
} from "../support/streams.ts";

/** A WebSocket to port 7 of `pi`, once it is open. */
async function open(relay: TestRelay): Promise<WebSocket> {
  const socket = new WebSocket(
    `ws://127.0.0.1:${relay.port}${TCP_PATH}pi/7/`,
    "connect-tcp",
  );
  afterThisTest(() => {
    socket.terminate();
  });
  await once(socket, "open");
  return socket;
}

async function closed(socket: WebSocket): Promise<number> {
  const [code] = (await once(socket, "close")) as [number];
  return code;
}

const handshake = (fields: Readonly<Record<string, string>> = {}): string => {
  const all: Record<string, string> = {
    Host: "relay",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "connect-tcp",
    ...fields,
  };
  const lines = Object.entries(all)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${TCP_PATH}pi/7/ HTTP/1.1\r\n${lines.join("")}\r\n`;
};

describe("a TCP visit's WebSocket handshake", () => {
  it("is answered as RFC 6455 has it, with the one subprotocol and no compression", async () => {
    const { relay } = await offerService(echo);
    const visitor = await visit(
      relay,
      handshake({
        "Sec-WebSocket-Protocol": "chat, connect-tcp",
        "Sec-WebSocket-Extensions": "permessage-deflate",
      }),
    );
    const { status, fields } = await visitor.answer();
    expect(status).to.equal(101);
    expect(fields).to.include({
      "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      "sec-websocket-protocol": "connect-tcp",
    });
    expect(fields).not.to.have.property("sec-websocket-extensions");
  });

  for (const [what, fields, status] of [
    ["no subprotocol", { "Sec-WebSocket-Protocol": "" }, 426],
    ["another subprotocol", { "Sec-WebSocket-Protocol": "chat" }, 426],
    ["no key", { "Sec-WebSocket-Key": "" }, 400],
    ["a short key", { "Sec-WebSocket-Key": "c2hvcnQ=" }, 400],
    ["no version", { "Sec-WebSocket-Version": "" }, 400],
    ["an unknown version", { "Sec-WebSocket-Version": "99" }, 400],
  ] as const) {
    it(`with ${what} is refused before any agent is asked`, async () => {
      const relay = await startRelay();
      const hidden = await parkRawAgent(relay, "pi");
      const visitor = await visit(relay, handshake(fields));
      const answer = await visitor.answer();
      expect(answer.status).to.equal(status);
      expect(answer.fields).to.have.property("proxy-status");
      expect(hidden.received).to.equal("");
      expect(relay.counts()).to.include({ tunnels: 1, idle: 1 });
    });
  }

  it("keeps a message that comes with it", async () => {
    const { relay } = await offerService(echo);
    // "hi", masked with zeros.
    const visitor = await visit(
      relay,
      `${handshake()}\x82\x82\x00\x00\x00\x00hi`,
    );
    await visitor.take("\r\n\r\n");
    await visitor.take("\x82\x02hi");
  });
});

describe("a TCP visit by WebSocket", () => {
  it("that has closed does not leave behind a service that goes on writing", async () => {
    const { relay, agent, next } = await offerService((socket) => {
      const more = setInterval(() => socket.write("more"), 20);
      socket.resume().on("close", () => {
        clearInterval(more);
      });
    });
    const socket = await open(relay);
    const service = await next();
    const cut = once(service, "error");
    socket.close(1000);
    await cut;
    await relay.until(() => agent.counts.joined === 0);
  });

  it("takes large messages, fragments, and pings between them", async () => {
    const { relay, next } = await offerService(() => undefined);
    const socket = await open(relay);
    const heard = readAll(await next());
    const large = "x".repeat(128 * 1024);
    socket.send(Buffer.from(large));
    socket.send(Buffer.from("one"), { fin: false });
    socket.ping();
    socket.send(Buffer.from("two"), { fin: false });
    socket.send(Buffer.from("three"), { fin: true });
    await once(socket, "pong");
    socket.send(Buffer.alloc(0));
    expect(await heard).to.equal(`${large}onetwothree`);
  });

  for (const [what, code, send] of [
    [
      "a longer one with 1009",
      1009,
      (socket: WebSocket) => {
        socket.send(Buffer.alloc(128 * 1024 + 1));
      },
    ],
    [
      "one of 17 fragments with 1008",
      1008,
      (socket: WebSocket) => {
        for (let n = 0; n < 17; n++)
          socket.send(Buffer.from("x"), { fin: n === 16 });
      },
    ],
  ] as const) {
    it(`closes ${what}, and cuts the service`, async () => {
      const { relay, next } = await offerService(listen);
      const socket = await open(relay);
      const cut = once(await next(), "error");
      send(socket);
      expect(await closed(socket)).to.equal(code);
      await cut;
    });
  }

  it("gets messages of at most 64 KiB", async () => {
    const { relay, next } = await offerService(listen);
    const socket = await open(relay);
    let came = 0;
    let most = 0;
    socket.on("message", (message: Buffer) => {
      came += message.length;
      most = Math.max(most, message.length);
    });
    (await next()).end(Buffer.alloc(1_000_000));
    while (came < 1_000_000) await once(socket, "message");
    expect(most).to.be.within(1, 64 * 1024);
  });

  it("closes a text message with 1003, and cuts the service", async () => {
    const { relay, next } = await offerService(listen);
    const socket = await open(relay);
    const cut = once(await next(), "error");
    socket.send("text");
    expect(await closed(socket)).to.equal(1003);
    const [error] = (await cut) as [NodeJS.ErrnoException];
    expect(error.code).to.equal("ECONNRESET");
  });

  it("ends one direction with an empty message, and closes with 1000 after both", async () => {
    const { relay, next } = await offerService(() => undefined);
    const socket = await open(relay);
    const service = await next();
    const heard = readAll(service);
    socket.send(Buffer.from("question"));
    socket.send(Buffer.alloc(0));
    expect(await heard).to.equal("question");
    const messages: string[] = [];
    socket.on("message", (octets: Buffer) => messages.push(octets.toString()));
    service.end("answer");
    expect(await closed(socket)).to.equal(1000);
    expect(messages).to.deep.equal(["answer", ""]);
  });

  it("closes with 4000 when the service is cut", async () => {
    const { relay, next } = await offerService(listen);
    const socket = await open(relay);
    (await next()).resetAndDestroy();
    expect(await closed(socket)).to.equal(4000);
  });

  for (const [what, leave] of [
    [
      "breaks",
      (socket: WebSocket) => {
        socket.terminate();
      },
    ],
    [
      "closes with another code",
      (socket: WebSocket) => {
        socket.close(4001);
      },
    ],
  ] as const) {
    it(`cuts the service when the visitor ${what}`, async () => {
      const { relay, next } = await offerService(listen);
      const socket = await open(relay);
      const cut = once(await next(), "error");
      leave(socket);
      const [error] = (await cut) as [NodeJS.ErrnoException];
      expect(error.code).to.equal("ECONNRESET");
    });
  }

  it("ends the service's stream when the visitor closes with 1000", async () => {
    const { relay, next } = await offerService(() => undefined);
    const socket = await open(relay);
    const heard = readAll(await next());
    socket.send(Buffer.from("all"));
    socket.close(1000);
    expect(await heard).to.equal("all");
  });

  it("pings a silent visitor, and ends one that does not answer", async () => {
    const { relay, next } = await offerService(listen, {
      heartbeatSeconds: 0.3,
    });
    const socket = await open(relay);
    await once(socket, "ping");
    await once(socket, "ping");
    await once(socket, "ping");
    expect(socket.readyState).to.equal(WebSocket.OPEN);
    const cut = once(await next(), "error");
    socket.pause();
    await cut;
  });

  it("reaches a legacy tunnel, whose octets it carries", async () => {
    const relay = await startRelay();
    const hidden = await parkRaw(relay, "pi");
    const socket = await open(relay);
    socket.send(Buffer.from("ping"));
    await hidden.take("ping");
    hidden.write("pong");
    const [message] = (await once(socket, "message")) as [Buffer];
    expect(message.toString()).to.equal("pong");
  });
});
