// Limits: how many connections, requests, tunnels and streams one may have, and how those who want more are answered.
import { expect } from "chai";
import { advanceClock } from "../support/clock.ts";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { generateSync } from "otplib";
import { pino } from "pino";
import { WAYS } from "../../app/protocol.ts";
import { parkForWaiting, parkRawAgent } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import {
  echo,
  offerService,
  connectTo,
  reach,
  visit,
} from "../support/streams.ts";
import { selfSign } from "../support/tcp.ts";
import { OK, expectProblem, get, seenBy } from "../support/visits.ts";

/** Other addresses than that of connectRaw(). */
const SECOND = "127.0.0.2";
const UPGRADE = "Connection: Upgrade\r\nUpgrade: chat\r\n";
const PI = get("/?rendezvous=pi");

async function expectHealth(visitor: Raw): Promise<void> {
  visitor.write(get("/-/health"));
  expect((await visitor.answer()).status).to.equal(200);
}

/** A visitor from another address who has sent a request. */
async function visitFrom(
  relay: TestRelay,
  address: string,
  sent = PI,
): Promise<Raw> {
  return (await connectRaw(relay.port, address)).write(sent);
}

describe("what is refused unread", () => {
  it("is counted in the log, in one line at most every 10 s", async () => {
    const lines: string[] = [];
    const log = pino(
      { base: null, timestamp: false },
      { write: (line) => lines.push(line) },
    );
    const relay = await startRelay(
      { maxConnectionsPerAddress: 1, ratePerAddress: 1 },
      log,
    );
    const warned = (): string[] =>
      lines.filter((line) => line.includes("refused, by limits"));
    const first = await connectRaw(relay.port);
    await (await connectRaw(relay.port)).end();
    await relay.until(() => warned().length === 1);
    expect(warned()[0]).to.equal(
      '{"level":40,"too_many_connections":1,"msg":"refused, by limits"}\n',
    );
    await (await connectRaw(relay.port)).end();
    await (await connectRaw(relay.port)).end();
    first.write(get("/-/health").repeat(3));
    for (let i = 0; i < 2; i++) await first.answer();
    await expectProblem(first, 429, "too_many_requests", "1");
    expect(warned()).to.have.length(1);
    advanceClock(11_000);
    await relay.until(() => warned().length === 2);
    expect(warned()[1]).to.include(
      '"too_many_connections":2,"too_many_requests":1',
    );
  });
});

describe("connections", () => {
  it("beyond MAX_CONNECTIONS are told so and closed, and those that are there go on", async () => {
    const relay = await startRelay({ maxConnections: 2 });
    const first = await connectRaw(relay.port);
    const second = await connectRaw(relay.port, SECOND);
    const third = await connectRaw(relay.port);
    const { fields, status, body } = await third.answer();
    expect(status).to.equal(503);
    expect(body).to.include('"code":"too_many_connections"');
    expect(fields).to.include({ connection: "close", "retry-after": "5" });
    await third.end();
    await expectHealth(first);
    await expectHealth(second);
    first.socket.destroy();
    await relay.until(() => relay.counts().sockets === 1);
    await expectHealth(await connectRaw(relay.port));
  });

  it("beyond MAX_CONNECTIONS_PER_ADDRESS are told so, while other addresses come in", async () => {
    const relay = await startRelay({ maxConnectionsPerAddress: 1 });
    const first = await connectRaw(relay.port);
    await expectProblem(
      await connectRaw(relay.port),
      503,
      "too_many_connections",
      "5",
    );
    await expectHealth(await connectRaw(relay.port, SECOND));
    first.socket.resetAndDestroy();
    await relay.until(() => relay.counts().sockets === 1);
    await expectHealth(await connectRaw(relay.port));
  });

  it("are not counted by address behind a router, from which all of them come", async () => {
    const relay = await startRelay({
      maxConnectionsPerAddress: 1,
      trustProxy: 1,
    });
    await connectRaw(relay.port);
    await expectHealth(await connectRaw(relay.port));
  });

  it("are counted while they are tunnels, and until they are closed", async () => {
    const relay = await startRelay({ maxConnections: 1 });
    const hidden = await parkRawAgent(relay, "pi");
    await expectProblem(
      await visit(relay, PI),
      503,
      "too_many_connections",
      "5",
    );
    hidden.socket.destroy();
    await relay.until(() => relay.counts().sockets === 0);
    await expectHealth(await connectRaw(relay.port));
  });

  it("of TLS are counted before their handshake, and closed without a word", async () => {
    const files = await selfSign("localhost");
    const tls = {
      cert: readFileSync(files.cert, "utf8"),
      key: readFileSync(files.key, "utf8"),
    };
    const relay = await startRelay({ maxConnections: 1, tls });
    const first = await connectRaw(relay.port);
    await relay.until(() => relay.counts().sockets === 1);
    const second = await connectRaw(relay.port);
    await second.end();
    expect(second.received).to.equal("");
    first.socket.destroy();
    await relay.until(() => relay.counts().sockets === 0);
  });

  it("at GENERIC_PORT are counted with the others, and told so in its words", async () => {
    const relay = await startRelay({ maxConnections: 1, genericPort: 0 });
    relay.genericServer.listen(0, "127.0.0.1");
    await once(relay.genericServer, "listening");
    const { port } = relay.genericServer.address() as AddressInfo;
    await connectRaw(relay.port);
    await relay.until(() => relay.counts().sockets === 1);
    const second = await connectRaw(port);
    expect(await second.take("\n")).to.equal("-ERR too many connections\n");
    await second.end();
  });

  it("end after MAX_REQUESTS_PER_CONNECTION, and the last answer says so", async () => {
    const relay = await startRelay({ maxRequestsPerConnection: 2 });
    await parkHere(relay, "pi", (_asked, answer) => answer.end("hi"));
    for (const target of ["/-/health", "/?rendezvous=pi"]) {
      const visitor = await connectRaw(relay.port);
      visitor.write(get(target).repeat(3));
      const first = await visitor.answer();
      expect(first.fields).to.not.have.property("connection");
      const second = await visitor.answer();
      expect(second.fields["connection"]).to.equal("close");
      expect([first.status, second.status]).to.deep.equal([200, 200]);
      await visitor.end();
      expect(visitor.received).to.equal("");
    }
  });
});

describe("a request's head", () => {
  it("with more octets than MAX_HEAD_OCTETS gets 431, whole or in part", async () => {
    const relay = await startRelay({ maxHeadOctets: 1024 });
    const filler = `X: ${"x".repeat(1024)}\r\n`;
    await expectProblem(
      await visit(relay, get("/-/health", filler)),
      431,
      "head_too_large",
    );
    await expectProblem(
      await visit(relay, get("/-/health", filler).slice(0, -2)),
      431,
      "head_too_large",
    );
    await expectHealth(await connectRaw(relay.port));
  });

  it("with more field lines than MAX_HEAD_FIELDS gets 431", async () => {
    const relay = await startRelay({ maxHeadFields: 16 });
    const filled = (count: number): string =>
      get("/-/health", "X: x\r\n".repeat(count));
    await expectProblem(await visit(relay, filled(16)), 431, "head_too_large");
    expect((await (await visit(relay, filled(15))).answer()).status).to.equal(
      200,
    );
  });

  it("that takes longer than HEAD_SECONDS gets 408", async () => {
    const relay = await startRelay({ headSeconds: 0.1 });
    const visitor = await visit(relay, "GET / HTTP/1.1\r\nHo");
    await expectProblem(visitor, 408, "request_timeout");
    await visitor.end();
  });
});

describe("streams to one hidden server", () => {
  it("beyond MAX_STREAMS_PER_SERVER get 503, while its web visits are served and others' streams are", async () => {
    const { relay, next } = await offerService(echo, {
      maxStreamsPerServer: 1,
    });
    const first = await visit(relay, connectTo());
    await first.take("\r\n\r\n");
    (await next()).resume();
    await expectProblem(
      await visit(relay, connectTo()),
      503,
      "too_many_streams",
      "5",
    );
    await expectProblem(
      await visit(relay, get("/?rendezvous=pi", UPGRADE)),
      503,
      "too_many_streams",
      "5",
    );
    expect((await (await visit(relay, PI)).answer()).status).to.equal(200);
    first.socket.destroy();
    for (;;) {
      const again = await visit(relay, connectTo());
      const head = await again.take("\r\n\r\n");
      if (head.startsWith("HTTP/1.1 200 ")) break;
      again.socket.destroy();
    }
  });

  it("are counted while they wait for a tunnel", async () => {
    const relay = await startRelay({ maxStreamsPerServer: 1 });
    const first = await visit(relay, connectTo());
    await relay.until(() => relay.counts().waiting === 1);
    await expectProblem(
      await visit(relay, connectTo()),
      503,
      "too_many_streams",
      "5",
    );
    first.socket.destroy();
    await relay.until(() => relay.counts().waiting === 0);
    await visit(relay, connectTo());
    await relay.until(() => relay.counts().waiting === 1);
  });

  it("are upgraded connections too, from the request on to the end", async () => {
    const relay = await startRelay({ maxStreamsPerServer: 1 });
    const asked = get("/?rendezvous=pi", UPGRADE);
    const { visitor, hidden } = await seenBy(relay, asked);
    hidden.write(`HTTP/1.1 101 Switching Protocols\r\n${UPGRADE}\r\n`);
    await visitor.take("\r\n\r\n");
    await expectProblem(
      await visit(relay, asked),
      503,
      "too_many_streams",
      "5",
    );
    visitor.socket.resetAndDestroy();
    await relay.until(() => relay.counts().tunnels === 0);
    const again = await seenBy(relay, asked);
    again.hidden.write(OK);
    expect((await again.visitor.answer()).body).to.equal("ok");
    again.visitor.write(asked);
    expect(await again.hidden.take("\r\n\r\n")).to.include("Upgrade: chat");
  });

  it("of the generic protocol are counted too", async () => {
    const { relay, next } = await offerService(echo, {
      maxStreamsPerServer: 1,
    });
    const looked = await visit(relay, get("/?uuid=pi"));
    const { result } = JSON.parse((await looked.answer()).body) as {
      result: { cookie: string };
    };
    const first = await visit(relay, connectTo());
    await first.take("\r\n\r\n");
    (await next()).resume();
    const initiator = await visit(relay, connectTo("x:80"));
    await initiator.take("200 OK\r\n\r\n");
    initiator.write(`${result.cookie}\n`);
    expect(await initiator.take("\n")).to.equal("-ERR too many streams\n");
  });
});

describe("one address's share of a hidden server", () => {
  it("is MAX_TUNNELS_PER_VISITOR tunnels: who wants more waits until one of them is free, and others go first", async () => {
    const relay = await startRelay({ maxTunnelsPerVisitor: 1 });
    const second = await parkRawAgent(relay, "pi");
    const first = await parkRawAgent(relay, "pi");
    const greedy = await visit(relay, get("/1?rendezvous=pi"));
    await first.take("\r\n\r\n");
    const more = await visit(relay, get("/2?rendezvous=pi"));
    await relay.until(() => relay.counts().waiting === 1);
    expect(relay.counts().idle).to.equal(1);
    const other = await visitFrom(relay, SECOND, get("/3?rendezvous=pi"));
    expect(await second.take("\r\n\r\n")).to.match(/^GET \/3 /);
    second.write(OK);
    expect((await other.answer()).body).to.equal("ok");
    await relay.until(() => relay.counts().idle === 1);
    expect(relay.counts().waiting).to.equal(1);
    first.write(OK);
    await greedy.answer();
    const served = await Promise.race([
      first.take("\r\n\r\n"),
      second.take("\r\n\r\n"),
    ]);
    expect(served).to.match(/^GET \/2 /);
    more.socket.destroy();
  });

  it("is free again when he leaves", async () => {
    const relay = await startRelay({ maxTunnelsPerVisitor: 1 });
    const second = await parkRawAgent(relay, "pi");
    const first = await parkRawAgent(relay, "pi");
    const leaving = await visit(relay, PI);
    await first.take("\r\n\r\n");
    const waiting = await visit(relay, PI);
    await relay.until(() => relay.counts().waiting === 1);
    leaving.socket.destroy();
    await second.take("\r\n\r\n");
    second.write(OK);
    expect((await waiting.answer()).body).to.equal("ok");
  });

  it("is one for all streams and requests, and by what X-Forwarded-For says behind a router", async () => {
    const relay = await startRelay({
      maxTunnelsPerVisitor: 1,
      trustProxy: 1,
      holdSeconds: 0.3,
    });
    await parkRawAgent(relay, "pi");
    const hidden = await parkRawAgent(relay, "pi");
    const from = (address: string): string =>
      get("/?rendezvous=pi", `X-Forwarded-For: ${address}\r\n`);
    await visit(relay, from("2001:db8::1"));
    await hidden.take("\r\n\r\n");
    // The same network, whatever the address in it.
    await expectProblem(
      await visit(relay, from("2001:0db8:0:0:ffff::2")),
      503,
      "busy",
      "2",
    );
    await expectProblem(
      await visit(
        relay,
        connectTo().replace(
          "\r\n\r\n",
          "\r\nX-Forwarded-For: 2001:db8::3\r\n\r\n",
        ),
      ),
      503,
      "busy",
      "2",
    );
    await visit(relay, from("2001:db8:0:1::1"));
    await relay.until(() => relay.counts().idle === 0);
  });

  it("is three quarters of what the hidden server opens, where that is less, and so are its streams", async () => {
    const relay = await startRelay();
    for (let i = 0; i < 5; i++)
      await parkRawAgent(relay, "pi", "Rendezvous-Max: 4\r\n");
    const upgrade = get("/?rendezvous=pi", UPGRADE);
    for (let i = 0; i < 2; i++) await visit(relay, upgrade);
    await visitFrom(relay, "127.0.0.3", upgrade);
    await visit(relay, PI);
    await relay.until(() => relay.counts().idle === 1);
    await expectProblem(
      await visitFrom(relay, SECOND, connectTo()),
      503,
      "too_many_streams",
      "5",
    );
    await visit(relay, PI);
    await relay.until(() => relay.counts().waiting === 1);
    expect(relay.counts().idle).to.equal(1);
    await visitFrom(relay, SECOND);
    await relay.until(() => relay.counts().idle === 0);
    expect(relay.counts().waiting).to.equal(1);
  });

  it("is what the setting says where the hidden server says nothing that can be", async () => {
    for (const max of ["0", "-1", "1.5", "x", "", "01", "10001", "1, 1"]) {
      const relay = await startRelay();
      for (let i = 0; i < 2; i++)
        await parkRawAgent(relay, "pi", `Rendezvous-Max: ${max}\r\n`);
      for (let i = 0; i < 2; i++) await visit(relay, PI);
      await relay.until(() => relay.counts().idle === 0);
      expect(relay.counts().waiting, max).to.equal(0);
    }
  });

  for (const via of WAYS)
    it(`leaves others a tunnel of an agent that opens four by ${via}, whatever lasts for ever`, async () => {
      const relay = await startRelay();
      const events = (_asked: unknown, answer: ServerResponse): void => {
        answer.write("data: here\n\n");
      };
      await parkHere(relay, "pi", events, { max: 4, via });
      for (let i = 0; i < 3; i++)
        await (await visit(relay, PI)).take("data: here");
      await visit(relay, PI);
      await relay.until(() => relay.counts().waiting === 1);
      await (await visitFrom(relay, SECOND)).take("data: here");
      expect(relay.counts().waiting).to.equal(1);
    });

  it("leaves others a stream and a tunnel of an agent that opens four, whatever streams there are", async () => {
    const { relay } = await offerService(echo, {}, { max: 4 });
    const expectFull = async (visitor: Raw): Promise<void> => {
      await expectProblem(visitor, 503, "too_many_streams", "5");
    };
    for (let i = 0; i < 2; i++) await reach(relay, connectTo());
    await expectFull(await visit(relay, connectTo()));
    const stream = await visitFrom(relay, SECOND, connectTo());
    expect((await stream.answer("HEAD")).status).to.equal(200);
    await expectFull(await visitFrom(relay, "127.0.0.3", connectTo()));
    const other = await visitFrom(relay, SECOND);
    expect((await other.answer()).status).to.equal(200);
  });

  it("is half of the waiting places", async () => {
    const relay = await startRelay({ maxWaitingPerServer: 2 });
    await visit(relay, PI);
    await relay.until(() => relay.counts().waiting === 1);
    await expectProblem(await visit(relay, PI), 503, "busy", "2");
    const other = await visitFrom(relay, SECOND);
    await relay.until(() => relay.counts().waiting === 2);
    const hidden = await parkForWaiting(relay, "pi");
    for (let i = 0; i < 2; i++) {
      await hidden.take("\r\n\r\n");
      hidden.write(OK);
    }
    expect((await other.answer()).body).to.equal("ok");
  });
});

describe("requests", () => {
  it("beyond RATE_PER_ADDRESS get 429, while other addresses are served, and are taken again a moment later", async () => {
    const relay = await startRelay({ ratePerAddress: 1 });
    const hasty = await visit(relay, get("/-/health").repeat(3));
    for (let i = 0; i < 2; i++)
      expect((await hasty.answer()).status).to.equal(200);
    await expectProblem(hasty, 429, "too_many_requests", "1");
    await expectHealth(await connectRaw(relay.port, SECOND));
    // The connection goes on.
    advanceClock(1000);
    hasty.write(get("/-/health"));
    expect((await hasty.answer()).status).to.equal(200);
  });

  it("to visit, to dial and to park count alike, and what follows a dial or a park is not read as one", async () => {
    const relay = await startRelay({ ratePerAddress: 1 });
    const code = generateSync({ secret: relay.issue("pi").secret });
    const spend = await visit(relay, get("/-/health").repeat(2));
    for (let i = 0; i < 2; i++) await spend.answer();
    for (const sent of [
      PI,
      connectTo(),
      get("/.well-known/masque/tcp/pi/7/", UPGRADE),
      `CONNECT uuid:pi?response=${code} HTTP/1.1\r\n\r\n`,
    ]) {
      const visitor = await visit(relay, sent + get("/-/health"));
      const answer = await visitor.answer();
      expect(answer.status, sent).to.equal(429);
      if (sent === PI) continue;
      expect(answer.fields["connection"], sent).to.match(/close/);
      await visitor.end();
      expect(visitor.received).to.equal("");
    }
    expect(relay.counts().tunnels).to.equal(0);
  });

  it("beyond RATE_PER_SERVER get 429, from wherever they come, while other servers are visited", async () => {
    const relay = await startRelay({ ratePerServer: 1 });
    await parkHere(relay, "pi", (_asked, answer) => answer.end("hi"));
    await parkHere(relay, "tau", (_asked, answer) => answer.end("hi"));
    for (const address of ["127.0.0.1", SECOND])
      expect(
        (await (await visitFrom(relay, address)).answer()).status,
      ).to.equal(200);
    await expectProblem(
      await visitFrom(relay, "127.0.0.3"),
      429,
      "too_many_requests",
      "1",
    );
    await expectProblem(
      await visit(relay, connectTo("pi:7")),
      429,
      "too_many_requests",
      "1",
    );
    const other = await visit(relay, get("/?rendezvous=tau"));
    expect((await other.answer()).status).to.equal(200);
  });
});

describe("OCTETS_PER_SECOND_PER_SERVER", () => {
  const MEGABYTE = 1024 * 1024;
  /** What may pass at once is half a second's worth. */
  const LEAST_MILLISECONDS = 1400;

  it("holds an answer back, and every octet arrives", async () => {
    const relay = await startRelay({ octetsPerSecondPerServer: MEGABYTE });
    const body = "x".repeat(2 * MEGABYTE);
    await parkHere(relay, "pi", (_asked, answer) => answer.end(body));
    const began = performance.now();
    const visitor = await visit(relay, PI);
    expect((await visitor.answer()).body).to.have.length(body.length);
    expect(performance.now() - began).to.be.above(LEAST_MILLISECONDS);
  });

  it("holds a body back, and every octet arrives", async () => {
    const relay = await startRelay({ octetsPerSecondPerServer: MEGABYTE });
    let came = 0;
    await parkHere(relay, "pi", (asked, answer) => {
      asked.on("data", (octets: Buffer) => (came += octets.length));
      asked.on("end", () => answer.end("ok"));
    });
    const began = performance.now();
    const visitor = await visit(
      relay,
      `POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: ${2 * MEGABYTE}\r\n\r\n`,
    );
    visitor.write("x".repeat(2 * MEGABYTE));
    expect((await visitor.answer()).body).to.equal("ok");
    expect(came).to.equal(2 * MEGABYTE);
    expect(performance.now() - began).to.be.above(LEAST_MILLISECONDS);
  });

  it("holds both directions of a stream back together, and its end passes", async () => {
    const { relay } = await offerService(echo, {
      octetsPerSecondPerServer: MEGABYTE,
    });
    const began = performance.now();
    const visitor = await visit(relay, connectTo());
    await visitor.take("\r\n\r\n");
    visitor.socket.end("x".repeat(MEGABYTE));
    await visitor.end();
    expect(visitor.received).to.have.length(MEGABYTE);
    expect(performance.now() - began).to.be.above(LEAST_MILLISECONDS);
  });

  it("leaves other servers alone", async () => {
    const relay = await startRelay({ octetsPerSecondPerServer: 10_000 });
    const busy = new Promise<Socket>((resolve) => {
      void parkHere(relay, "pi", (_asked, answer) => {
        answer.write("x".repeat(MEGABYTE));
        resolve(answer.socket as Socket);
      });
    });
    await visit(relay, PI);
    await busy;
    await parkHere(relay, "tau", (_asked, answer) => answer.end("hi"));
    const other = await visit(relay, get("/?rendezvous=tau"));
    expect((await other.answer()).body).to.equal("hi");
  });
});
