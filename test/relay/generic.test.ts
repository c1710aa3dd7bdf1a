import { expect } from "chai";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { generateSync } from "otplib";
import request from "supertest";
import { connectRaw, type Raw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";

interface Triple {
  host: string;
  port: number;
  cookie: string;
}

async function register(relay: TestRelay, id: string): Promise<Triple> {
  const code = generateSync({ secret: relay.issue(id).secret });
  const answer = await request(relay.url)
    .put(`/?uuid=${id}&response=${code}`)
    .expect(200);
  return (answer.body as { result: Triple }).result;
}

async function lookUp(relay: TestRelay, id: string): Promise<Triple> {
  const answer = await request(relay.url).get(`/?uuid=${id}`).expect(200);
  return (answer.body as { result: Triple }).result;
}

/** Reaches a triple as a PaaS wants it: wrapped in CONNECT. */
async function wrapped(relay: TestRelay, { host, port }: Triple): Promise<Raw> {
  const raw = await connectRaw(relay.port);
  raw.write(
    `CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
  );
  await raw.take("HTTP/1.1 200 OK\r\n\r\n");
  return raw;
}

async function respond(relay: TestRelay, id: string): Promise<Raw> {
  const triple = await register(relay, id);
  const raw = await wrapped(relay, triple);
  raw.write(`${triple.cookie}\n`);
  await relay.until(() => relay.counts().idle === 1);
  return raw;
}

describe("the generic protocol, wrapped in CONNECT", () => {
  it("lets two sides meet, and loses no octets that follow the line", async () => {
    const relay = await startRelay();
    const responder = await respond(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const initiator = await wrapped(relay, triple);
    initiator.write(`${triple.cookie}\nearly`);
    expect(await initiator.take("\n")).to.equal("+OK\n");
    expect(await responder.take("\n")).to.equal("+OK\n");
    expect(await responder.take("early")).to.equal("early");
    responder.socket.end("bye");
    await initiator.end();
    expect(initiator.received).to.equal("bye");
  });

  it("lets a visitor over HTTP reach a responder by its id", async () => {
    const relay = await startRelay();
    const responder = await respond(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write("GET /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await responder.take("\r\n\r\n")).to.match(/^\+OK\nGET \/ /);
    responder.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    expect((await visitor.answer()).body).to.equal("hi");
  });

  it("lets a generic visitor reach an agent that is parked by CONNECT", async () => {
    const relay = await startRelay();
    await parkHere(relay, "pi", (_asked, answer) => answer.end("hi"));
    const triple = await lookUp(relay, "pi");
    const initiator = await wrapped(relay, triple);
    initiator.write(`${triple.cookie}\nGET / HTTP/1.0\r\n\r\n`);
    await initiator.take("+OK\n");
    await initiator.end();
    expect(initiator.received).to.match(/^HTTP\/1.1 200 OK[^]*hi$/);
  });

  it("takes a cookie once", async () => {
    const relay = await startRelay();
    await respond(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const first = await wrapped(relay, triple);
    first.write(`${triple.cookie}\n`);
    await first.take("+OK\n");
    const second = await wrapped(relay, triple);
    second.write(`${triple.cookie}\n`);
    expect(await second.take("\n")).to.equal("-ERR not registered\n");
  });

  it("says that a responder is not ready, and the cookie stays good", async () => {
    const relay = await startRelay();
    const registered = await register(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const early = await wrapped(relay, triple);
    early.write(`${triple.cookie}\n`);
    expect(await early.take("\n")).to.equal("-ERR not ready\n");
    const responder = await wrapped(relay, registered);
    responder.write(`${registered.cookie}\n`);
    await relay.until(() => relay.counts().idle === 1);
    const initiator = await wrapped(relay, triple);
    initiator.write(`${triple.cookie}\n`);
    await initiator.take("+OK\n");
  });

  it("lets the last registration win", async () => {
    const relay = await startRelay();
    const former = await respond(relay, "pi");
    const old = await lookUp(relay, "pi");
    const triple = await register(relay, "pi");
    expect(await former.take("\n")).to.match(/^-ERR /);
    const late = await wrapped(relay, triple);
    late.write(`${old.cookie}\n`);
    expect(await late.take("\n")).to.equal("-ERR not registered\n");
  });

  it("replaces a responder that comes again with the same cookie", async () => {
    const relay = await startRelay();
    const triple = await register(relay, "pi");
    const [first, second] = [
      await wrapped(relay, triple),
      await wrapped(relay, triple),
    ];
    first.write(`${triple.cookie}\n`);
    await relay.until(() => relay.counts().idle === 1);
    second.write(`${triple.cookie}\n`);
    expect(await first.take("\n")).to.match(/^-ERR /);
    await first.end();
  });

  for (const [what, line] of [
    ["no cookie", "hello\n"],
    ["a wrong mode letter", "X01234567-89ab-cdef-0123-456789abcdef\n"],
    ["a cookie that nobody has", "I01234567-89ab-cdef-0123-456789abcdef\n"],
    ["an endless line", "R".repeat(129)],
  ] as const) {
    it(`cuts off ${what}`, async () => {
      const relay = await startRelay();
      const raw = await wrapped(relay, await register(relay, "pi"));
      raw.write(line);
      expect(await raw.take("\n")).to.match(/^-ERR /);
      await raw.end();
    });
  }
});

describe("the generic protocol's registration", () => {
  it("answers as the original did", async () => {
    const relay = await startRelay();
    const none = await request(relay.url).get("/?uuid=pi").expect(200);
    expect(none.body).to.deep.equal({
      error: { permanent: false, diagnostic: "not registered" },
    });
    const missing = await request(relay.url).put("/").expect(404);
    expect(missing.body).to.deep.equal({
      error: { permanent: true, diagnostic: "missing uuid parameter" },
    });
    const wrong = await request(relay.url).post("/?uuid=pi").expect(405);
    expect(wrong.headers["allow"]).to.equal("GET, PUT");
    await request(relay.url).put("/?uuid=pi&response=123456").expect(401);
    // Nothing but the query is looked at here.
    const bare = await request(relay.url)
      .put("/?uuid=pi")
      .set("Proxy-Authorization", "Bearer 123456")
      .expect(407);
    expect(bare.text)
      .to.include(
        "The token is missing: put it into the query, response=TOKEN.",
      )
      .and.not.include("Authorization");
    const triple = await register(relay, "pi");
    expect(triple).to.include({ host: "127.0.0.1", port: relay.port });
    expect(triple.cookie).to.match(/^R[0-9a-f-]{36}$/);
    expect((await lookUp(relay, "pi")).cookie).to.match(/^I[0-9a-f-]{36}$/);
  });
});

describe("the generic protocol's own port", () => {
  it("takes cookie lines as they are", async () => {
    const relay = await startRelay();
    relay.genericServer.listen(0, "127.0.0.1");
    await once(relay.genericServer, "listening");
    const { port } = relay.genericServer.address() as AddressInfo;
    const registered = await register(relay, "pi");
    const responder = await connectRaw(port);
    responder.write(`${registered.cookie}\n`);
    await relay.until(() => relay.counts().idle === 1);
    const initiator = await connectRaw(port);
    initiator.write(`${(await lookUp(relay, "pi")).cookie}\nhello`);
    expect(await responder.take("hello")).to.equal("+OK\nhello");
  });
});
