// The generic protocol's rules, one by one: limits, cookies that die, places, and who cannot be captured.
import { expect } from "chai";
import { once } from "node:events";
import { generateSync } from "otplib";
import { advanceClock } from "../support/clock.ts";
import { parkRaw, parkRawAgent } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { connectTo, data, visit } from "../support/streams.ts";

const HOUR = 60 * 60 * 1000;
const SWITCH =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n\r\n";

interface Triple {
  readonly host: string;
  readonly port: number;
  readonly cookie: string;
}

async function ask(raw: Raw, line: string, host: string): Promise<unknown> {
  raw.write(`${line} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  return JSON.parse((await raw.answer()).body);
}

async function register(
  relay: TestRelay,
  id: string,
  host = `127.0.0.1:${relay.port}`,
): Promise<Triple> {
  const code = generateSync({ secret: relay.issue(id).secret });
  const raw = await connectRaw(relay.port);
  const answer = await ask(raw, `PUT /?uuid=${id}&response=${code}`, host);
  raw.socket.destroy();
  return (answer as { result: Triple }).result;
}

async function lookUp(
  relay: TestRelay,
  id: string,
  host = `127.0.0.1:${relay.port}`,
  address = "127.0.0.1",
): Promise<Triple> {
  const raw = await connectRaw(relay.port, address);
  const answer = await ask(raw, `GET /?uuid=${id}`, host);
  raw.socket.destroy();
  return (answer as { result: Triple }).result;
}

/** Comes to a place, wrapped in CONNECT, and says this. */
async function come(
  relay: TestRelay,
  { host, port }: Triple,
  line: string,
): Promise<Raw> {
  const raw = await visit(relay, connectTo(`${host}:${port}`));
  await raw.take("HTTP/1.1 200 OK\r\n\r\n");
  return raw.write(line);
}

async function respond(
  relay: TestRelay,
  triple: Triple,
  more = "",
): Promise<Raw> {
  const idle = relay.counts().idle;
  const raw = await come(relay, triple, `${triple.cookie}\n${more}`);
  await relay.until(() => relay.counts().idle > idle);
  return raw;
}

describe("a cookie line", () => {
  for (const [what, line, answer] of [
    ["of 128 octets", `${"x".repeat(127)}\n`, "-ERR invalid cookie\n"],
    ["of 129 octets", `${"x".repeat(128)}\n`, "-ERR line too long\n"],
    ["that never ends", "x".repeat(100_000), "-ERR line too long\n"],
    ["that is empty", "\n", "-ERR invalid cookie\n"],
    [
      "with a small mode letter",
      `r${"0".repeat(36)}\n`,
      "-ERR invalid cookie\n",
    ],
    ["with a NUL in it", `R${"0".repeat(35)}\0\n`, "-ERR invalid cookie\n"],
  ] as const) {
    it(`${what} is refused, and the connection closed`, async () => {
      const relay = await startRelay();
      const triple = await register(relay, "pi");
      const raw = await come(relay, triple, line);
      expect(await raw.take("\n")).to.equal(answer);
      await raw.end();
      expect(raw.received).to.equal("");
    });
  }

  it("may come octet by octet, with CR before its LF", async () => {
    const relay = await startRelay();
    const triple = await register(relay, "pi");
    const raw = await come(relay, triple, "");
    raw.socket.setNoDelay();
    for (const octet of `${triple.cookie}\r\n`) raw.write(octet);
    await relay.until(() => relay.counts().idle === 1);
  });

  it("that does not come within 10 s is not waited for, wrapped or on the plain port", async () => {
    const relay = await startRelay();
    relay.genericServer.listen(0, "127.0.0.1");
    await once(relay.genericServer, "listening");
    const { port } = relay.genericServer.address() as { port: number };
    const wrapped = await come(relay, await register(relay, "pi"), "R0123");
    const came = once(relay.genericServer, "connection");
    const plain = await connectRaw(port);
    plain.write("I0123");
    await came;
    advanceClock(10_001);
    for (const raw of [wrapped, plain]) {
      expect(await raw.take("\n")).to.equal("-ERR no cookie in time\n");
      await raw.end();
    }
  }).timeout(5000);

  it("with the other side's cookie is refused", async () => {
    const relay = await startRelay();
    const responder = await register(relay, "pi");
    const initiator = await lookUp(relay, "pi");
    for (const line of [
      `I${responder.cookie.slice(1)}\n`,
      `R${initiator.cookie.slice(1)}\n`,
    ]) {
      const raw = await come(relay, responder, line);
      expect(await raw.take("\n")).to.equal("-ERR not registered\n");
    }
  });
});

describe("a generic rendezvous", () => {
  it("keeps what both sides said before it, in order, also what came in later pieces", async () => {
    const relay = await startRelay();
    const responder = await respond(relay, await register(relay, "pi"), "a");
    responder.socket.setNoDelay();
    for (const octet of "bcd") {
      responder.write(octet);
      // Somebody else's answer comes after it was read.
      await lookUp(relay, "pi");
    }
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\nxyz`);
    expect(await initiator.take("abcd")).to.equal("+OK\nabcd");
    expect(await responder.take("xyz")).to.equal("+OK\nxyz");
    initiator.write("more");
    await responder.take("more");
  });

  it("does not keep without bound what a responder says before it", async () => {
    const relay = await startRelay();
    const responder = await respond(relay, await register(relay, "pi"));
    responder.write("x".repeat(20_000));
    await responder.end();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("passes a reset on as a reset", async () => {
    const relay = await startRelay();
    const responder = await respond(relay, await register(relay, "pi"));
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\n`);
    await responder.take("+OK\n");
    initiator.socket.resetAndDestroy();
    expect(await responder.close()).to.equal("reset");
  });

  it("with an agent is kept alive by heartbeats", async () => {
    const relay = await startRelay({ heartbeatSeconds: 0.5 });
    const hidden = await parkRawAgent(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\nhello`);
    await hidden.take("\r\n\r\n");
    hidden.write(SWITCH);
    await initiator.take("+OK\n");
    await hidden.take(data("hello"));
    await hidden.take(data(""));
    hidden.write(data(""));
    await hidden.take(data(""));
    hidden.write(data("late"));
    await initiator.take("late");
  });

  it("with an agent that never answers is refused within ANSWER_SECONDS", async () => {
    const relay = await startRelay({ answerSeconds: 0.3 });
    const hidden = await parkRawAgent(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\n`);
    await hidden.take("\r\n\r\n");
    expect(await initiator.take("\n")).to.equal("-ERR no answer\n");
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("gives the agent's tunnel up when the initiator leaves before the answer", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\n`);
    await hidden.take("\r\n\r\n");
    initiator.socket.resetAndDestroy();
    // A paused connection does not see its end: what it is written does.
    hidden.socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
  });
});

describe("a registration", () => {
  it("ends the cookies of the one before it, the initiators' too", async () => {
    const relay = await startRelay();
    const old = await register(relay, "pi");
    const visitor = await lookUp(relay, "pi");
    const young = await register(relay, "pi");
    expect(young.cookie).not.to.equal(old.cookie);
    for (const { cookie } of [old, visitor]) {
      const raw = await come(relay, young, `${cookie}\n`);
      expect(await raw.take("\n")).to.equal("-ERR not registered\n");
    }
    await respond(relay, young);
  });

  it("dies after an hour without use, and its cookies with it", async () => {
    const relay = await startRelay();
    const triple = await register(relay, "pi");
    const visitor = await lookUp(relay, "pi");
    const silent = await come(relay, triple, "");
    advanceClock(HOUR + 1000);
    // Both are looked at in the same moment.
    await silent.end();
    const raw = await connectRaw(relay.port);
    expect(await ask(raw, "GET /?uuid=pi", "x")).to.deep.equal({
      error: { permanent: false, diagnostic: "not registered" },
    });
    // Where it was, nobody comes to meet any more.
    const gone = await visit(relay, connectTo(`${triple.host}:${triple.port}`));
    expect((await gone.answer()).status).to.equal(404);
    const other = await register(relay, "other");
    for (const { cookie } of [triple, visitor]) {
      const late = await come(relay, other, `${cookie}\n`);
      expect(await late.take("\n")).to.equal("-ERR not registered\n");
    }
  });

  /** So many look-ups from an address; gives the first and the last cookie. */
  async function lookUpFrom(
    relay: TestRelay,
    address: string,
    count: number,
  ): Promise<[first: string, last: string]> {
    const raw = await connectRaw(relay.port, address);
    raw.write("GET /?uuid=pi HTTP/1.1\r\nHost: x\r\n\r\n".repeat(count));
    const cookies = [];
    for (let i = 0; i < count; i++) {
      const { body } = await raw.answer();
      cookies.push((JSON.parse(body) as { result: Triple }).result.cookie);
    }
    return [cookies[0] ?? "", cookies.at(-1) ?? ""];
  }

  it("remembers 64 look-ups from one address, and no stranger's push others' out", async () => {
    const relay = await startRelay();
    const place = await register(relay, "pi");
    await respond(relay, place);
    const visitor = await lookUp(relay, "pi");
    const [first, last] = await lookUpFrom(relay, "127.0.0.2", 1100);
    const late = await come(relay, place, `${first}\n`);
    expect(await late.take("\n")).to.equal("-ERR not registered\n");
    for (const cookie of [last, visitor.cookie]) {
      const good = await come(relay, place, `${cookie}\n`);
      expect(await good.take("\n")).to.equal("+OK\n");
      good.socket.destroy();
      if (cookie === last) await respond(relay, place);
    }
  });

  it("remembers 1024 look-ups in all, and lets the oldest go first", async () => {
    const relay = await startRelay();
    const place = await register(relay, "pi");
    await respond(relay, place);
    const [first] = await lookUpFrom(relay, "127.0.0.2", 1);
    let last = "";
    for (let i = 3; i < 19; i++)
      [, last] = await lookUpFrom(relay, `127.0.0.${i}`, 64);
    const late = await come(relay, place, `${first}\n`);
    expect(await late.take("\n")).to.equal("-ERR not registered\n");
    const good = await come(relay, place, `${last}\n`);
    expect(await good.take("\n")).to.equal("+OK\n");
  });
});

describe("the place of a rendezvous", () => {
  it("may have another name for the initiator than for the responder", async () => {
    const relay = await startRelay();
    const registered = await register(relay, "pi", "one.example:5000");
    const responder = await respond(relay, registered);
    const triple = await lookUp(relay, "pi", "two.example:6000");
    expect(triple).to.include({ host: "two.example", port: 6000 });
    const initiator = await come(relay, triple, `${triple.cookie}\n`);
    await initiator.take("+OK\n");
    await responder.take("+OK\n");
  });

  it("is not spoilt by others who look the same server up with names of their own", async () => {
    const relay = await startRelay();
    await parkRaw(relay, "pi");
    await lookUp(relay, "pi", "evil.example:1");
    const triple = await lookUp(relay, "pi");
    const initiator = await come(relay, triple, `${triple.cookie}\n`);
    expect(await initiator.take("\n")).to.equal("+OK\n");
  });

  it("is nowhere else: a foreign authority is a 404", async () => {
    const relay = await startRelay();
    await register(relay, "pi");
    for (const authority of [
      "example.com:443",
      "127.0.0.1:1",
      `127.0.0.2:${relay.port}`,
    ]) {
      const raw = await visit(relay, connectTo(authority));
      expect((await raw.answer()).status).to.equal(404);
    }
  });

  it("cannot be another server's id, while that is here", async () => {
    const relay = await startRelay();
    const pi = await parkRaw(relay, "pi");
    await register(relay, "evil", "pi:80");
    const visitor = await visit(relay, connectTo("pi:80"));
    await visitor.take("\r\n\r\n");
    visitor.write("hello");
    await pi.take("hello");
  });

  it("cannot be another server's id, while that is away", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    (await parkRaw(relay, "pi")).socket.destroy();
    await relay.until(() => relay.counts().tunnels === 0);
    const evil = await register(relay, "evil", "pi:80");
    await lookUp(relay, "evil", "pi:80");
    const visitor = await visit(relay, connectTo("pi:80"));
    await relay.until(() => relay.counts().waiting === 1);
    expect(visitor.received).to.equal("");
    visitor.socket.destroy();
    expect(evil.host).to.equal("pi");
  });

  it("is nobody else's where it could be a hidden server that is not back yet", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    await register(relay, "evil", "ghost:22");
    for (const host of ["ghost:22", "ghost.rendezvous.internal:22"]) {
      await lookUp(relay, "evil", host, "127.0.0.2");
      const visitor = await visit(relay, connectTo(host), "127.0.0.3");
      await relay.until(() => relay.counts().waiting === 1);
      expect(visitor.received).to.equal("");
      visitor.socket.destroy();
      await relay.until(() => relay.counts().waiting === 0);
      const own = await visit(relay, connectTo(host), "127.0.0.2");
      await own.take("HTTP/1.1 200 OK\r\n\r\n");
      own.socket.destroy();
    }
  });

  it("is everybody's where PUBLIC_URL says it", async () => {
    const relay = await startRelay({ publicUrl: "http://relay:5000" });
    await register(relay, "pi");
    const triple = await lookUp(relay, "pi", "x", "127.0.0.2");
    expect(triple).to.include({ host: "relay", port: 5000 });
    const raw = await visit(relay, connectTo("relay:5000"), "127.0.0.3");
    await raw.take("HTTP/1.1 200 OK\r\n\r\n");
  });

  /** Look-ups with a Host of its own each. */
  async function lookUpBy(
    relay: TestRelay,
    hosts: readonly string[],
    address: string,
  ): Promise<void> {
    const raw = await connectRaw(relay.port, address);
    for (const host of hosts)
      raw.write(`GET /?uuid=pi HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    for (const host of hosts)
      expect((await raw.answer()).body).to.include(host.slice(0, -3));
  }

  const hostsOf = (address: string, count: number): string[] =>
    Array.from({ length: count }, (_, n) => `${n}.${address}.test:22`);

  async function statusAt(relay: TestRelay, host: string): Promise<number> {
    const raw = await visit(relay, connectTo(host));
    const head = await raw.take("\r\n\r\n");
    raw.socket.destroy();
    return Number(head.split(" ")[1]);
  }

  it("is not forgotten when strangers look up by other names, from many addresses", async () => {
    const relay = await startRelay();
    await parkRaw(relay, "pi");
    await lookUp(relay, "pi", "relay.test:5000");
    await lookUpBy(relay, hostsOf("127.0.0.2", 1100), "127.0.0.2");
    for (let n = 3; n < 23; n++)
      await lookUpBy(relay, hostsOf(`127.0.0.${n}`, 64), `127.0.0.${n}`);
    expect(await statusAt(relay, "relay.test:5000")).to.equal(200);
  });

  it("is remembered for 64 look-ups of one network", async () => {
    const relay = await startRelay();
    await parkRaw(relay, "pi");
    const hosts = hostsOf("x", 65);
    await lookUpBy(relay, hosts, "127.0.0.2");
    for (const [n, status] of [
      [0, 404],
      [1, 200],
      [64, 200],
    ] as const)
      expect(await statusAt(relay, hosts[n] ?? "")).to.equal(status);
  });

  it("is none where no host can be so long", async () => {
    const relay = await startRelay();
    await parkRaw(relay, "pi");
    const host = `${"x.".repeat(200)}test:22`;
    await lookUp(relay, "pi", host);
    expect(await statusAt(relay, host)).to.equal(404);
  });
});

describe("a relay that drains", () => {
  it("tells those who have not said their cookie", async () => {
    const relay = await startRelay({ drainSeconds: 0.5 });
    const raw = await come(relay, await register(relay, "pi"), "R0");
    const gone = relay.drain();
    expect(await raw.take("\n")).to.equal("-ERR restarting\n");
    raw.socket.end();
    await gone;
  });
});
