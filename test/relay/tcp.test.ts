import { expect } from "chai";
import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { WebSocket } from "ws";
import type { AddressInfo } from "node:net";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import { parkRaw } from "../support/hidden.ts";
import {
  connectTo,
  echo,
  offerService,
  reach,
  visit,
} from "../support/streams.ts";
import { afterThisTest } from "../support/cleanup.ts";

async function echoService(): Promise<{ host: string; port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => server.close());
  return { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
}

async function offered(): Promise<TestRelay> {
  const relay = await startRelay({ holdSeconds: 0.2 });
  const echo = await echoService();
  await parkHere(relay, "pi", (_q, a) => a.end("hi"), {
    tcp: new Map([[7, echo]]),
  });
  return relay;
}

describe("a TCP visit", () => {
  it("by CONNECT reaches an offered service, half-close included", async () => {
    const relay = await offered();
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT pi:7 HTTP/1.1\r\nHost: pi:7\r\n\r\n");
    expect(await raw.take("\r\n\r\n")).to.match(/^HTTP\/1.1 200 /);
    raw.write("hello");
    expect(await raw.take("hello")).to.equal("hello");
    raw.socket.end("bye");
    await raw.end();
    expect(raw.received).to.equal("bye");
    expect(await raw.close()).to.equal("clean");
  });
  it("by CONNECT to port 80 reaches the HTTP server", async () => {
    const relay = await offered();
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT pi:80 HTTP/1.1\r\nHost: pi:80\r\n\r\n");
    await raw.take("\r\n\r\n");
    raw.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect((await raw.answer()).body).to.equal("hi");
  });
  it("is refused where nothing is offered", async () => {
    const relay = await offered();
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT pi:22 HTTP/1.1\r\nHost: pi:22\r\n\r\n");
    const answer = await raw.answer();
    expect(answer.status).to.equal(403);
    expect(answer.body).to.contain("not_offered");
  });
  it("by connect-tcp passes capsules both ways", async () => {
    const relay = await offered();
    const raw = await connectRaw(relay.port);
    raw.write(
      "GET /.well-known/masque/tcp/pi/7/ HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nCapsule-Protocol: ?1\r\n\r\n",
    );
    expect(await raw.take("\r\n\r\n")).to.match(/^HTTP\/1.1 101 /);
    raw.write(Buffer.from("a028d7f205", "hex")).write("hello");
    expect(await raw.take("hello")).to.equal("\xa0\x28\xd7\xf2\x05hello");
    raw.write(Buffer.from("a028d7f300", "hex"));
    await raw.end();
    expect(raw.received).to.equal("\xa0\x28\xd7\xf3\x00");
  });
  it("by WebSocket passes binary messages both ways", async () => {
    const relay = await offered();
    const socket = new WebSocket(
      `ws://127.0.0.1:${relay.port}/.well-known/masque/tcp/pi/7/`,
      "connect-tcp",
    );
    await once(socket, "open");
    socket.send(Buffer.from("hello"));
    const [message] = (await once(socket, "message")) as [Buffer];
    expect(message.toString()).to.equal("hello");
    socket.send(Buffer.alloc(0));
    const [code] = (await once(socket, "close")) as [number];
    expect(code).to.equal(1000);
  });
  it("that is idle keeps its tunnel until it ends, as SECURITY.md says", async () => {
    const noShares = { maxTunnelsPerVisitor: 0, maxStreamsPerServer: 0 };
    const few = { spare: 1, max: 2 };
    const { relay } = await offerService(echo, noShares, few);
    const page =
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n";
    const idle = await reach(relay, connectTo());
    await reach(relay, connectTo());
    const refusal = await (await visit(relay, page)).answer();
    expect(refusal.status).to.equal(503);
    expect(refusal.body).to.include('"busy"');
    idle.socket.destroy();
    await relay.until(() => relay.counts().idle > 0);
    expect((await (await visit(relay, page)).answer()).status).to.equal(200);
  });
  it("takes a legacy tunnel as plain octets", async () => {
    const relay = await startRelay();
    const hidden = await parkRaw(relay, "old");
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT old:22 HTTP/1.1\r\nHost: old:22\r\n\r\n");
    await raw.take("\r\n\r\n");
    raw.write("ping");
    await hidden.take("ping");
    hidden.write("pong");
    await raw.take("pong");
  });
});
