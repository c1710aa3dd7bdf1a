// A list of revocations that changes while the relay runs: what is revoked ends at once, whatever it is doing, and nothing else does.
import { expect } from "chai";
import type { RequestListener } from "node:http";
import { generateSync } from "otplib";
import { WAYS, deriveKey, makeToken } from "../../app/protocol.ts";
import { SettingsError } from "../../app/relay/options.ts";
import {
  SWITCH,
  parkRaw,
  parkRawAgent,
  parkRawUnproved,
  pong,
  takeAsk,
} from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import {
  RELAY_SECRET,
  parkHere,
  startRelay,
  type TestRelay,
} from "../support/relay.ts";
import { connectTcp, connectTo, data, visit } from "../support/streams.ts";
import { startTcp } from "../support/tcp.ts";
import { OK, get } from "../support/visits.ts";

const VISIT = get("/?rendezvous=pi");

interface Problem {
  readonly status: number;
  readonly code: unknown;
}

async function problemOf(visitor: Raw): Promise<Problem> {
  const { status, body } = await visitor.answer();
  return { status, code: (JSON.parse(body) as { code: unknown }).code };
}

/** Parks with the secret of a generation, as an agent would as far as the answer. */
async function askToPark(
  relay: TestRelay,
  id: string,
  generation: number,
): Promise<Raw> {
  const key = deriveKey(RELAY_SECRET, id, generation);
  const raw = await connectRaw(relay.port);
  const token = await makeToken(id, key);
  return raw.write(`CONNECT uuid:${id}?response=${token} HTTP/1.1\r\n\r\n`);
}

/** A waiting visitor. */
async function wait(relay: TestRelay, request = VISIT): Promise<Raw> {
  const before = relay.counts().waiting;
  const visitor = await visit(relay, request);
  await relay.until(() => relay.counts().waiting > before);
  return visitor;
}

describe("an id that is revoked while it is here", () => {
  const tunnels: readonly (readonly [
    title: string,
    begin: (relay: TestRelay) => Promise<Raw>,
  ])[] = [
    ["an idle tunnel of an agent", (relay) => parkRawAgent(relay, "pi")],
    ["an idle tunnel of a legacy server", (relay) => parkRaw(relay, "pi")],
    [
      "a tunnel that is being proved",
      async (relay) => (await parkRawUnproved(relay, "pi")).raw,
    ],
    [
      "a tunnel with an exchange under way",
      async (relay) => {
        const hidden = await parkRawAgent(relay, "pi");
        await visit(relay, VISIT);
        await hidden.take("\r\n\r\n");
        return hidden;
      },
    ],
    [
      "a tunnel with a question under way",
      async (relay) => {
        const hidden = await parkRawAgent(relay, "pi");
        await visit(relay, connectTcp());
        await takeAsk(hidden);
        return hidden;
      },
    ],
    [
      "a tunnel that has carried an exchange",
      async (relay) => {
        const hidden = await parkRawAgent(relay, "pi");
        const visitor = await visit(relay, VISIT);
        await hidden.take("\r\n\r\n");
        hidden.write(OK);
        await visitor.answer();
        return hidden;
      },
    ],
  ];
  for (const [title, begin] of tunnels) {
    it(`loses ${title}, and every other id keeps its own`, async () => {
      const relay = await startRelay();
      const hidden = await begin(relay);
      const other = await parkRawAgent(relay, "tau");
      relay.setRevoked(["pi"]);
      expect(await hidden.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 1);
      const visitor = await visit(relay, get("/?rendezvous=tau"));
      await other.take("\r\n\r\n");
      other.write(OK);
      expect((await visitor.answer()).body).to.equal("ok");
    });
  }

  it("has its visitors answered: 503 before the answer, a cut after its head", async () => {
    const relay = await startRelay();
    const silent = await parkRawAgent(relay, "pi");
    const early = await visit(relay, VISIT);
    await silent.take("\r\n\r\n");
    const posting = await parkRawAgent(relay, "pi");
    const poster = await visit(
      relay,
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
    );
    await posting.take("ab");
    const begun = await parkRawAgent(relay, "pi");
    const late = await visit(relay, VISIT);
    await begun.take("\r\n\r\n");
    begun.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome");
    await late.take("some");
    relay.setRevoked(["pi"]);
    expect(await problemOf(early)).to.deep.equal({
      status: 503,
      code: "server_offline",
    });
    expect(await problemOf(poster)).to.deep.equal({
      status: 502,
      code: "tunnel_lost",
    });
    expect(await late.close()).to.equal("reset");
  });

  it("has its TCP streams cut, by each way, and an upgrade too", async () => {
    const relay = await startRelay();
    const visitors: Raw[] = [];
    for (const request of [connectTo(), connectTcp()]) {
      const hidden = await parkRawAgent(relay, "pi");
      const visitor = await visit(relay, request);
      await takeAsk(hidden);
      hidden.write(SWITCH + data("hello"));
      await visitor.take("hello");
      visitors.push(visitor);
    }
    const hidden = await parkRawAgent(relay, "pi");
    const upgraded = await visit(
      relay,
      get("/?rendezvous=pi", "Connection: Upgrade\r\nUpgrade: chat\r\n"),
    );
    await hidden.take("\r\n\r\n");
    hidden.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello",
    );
    await upgraded.take("hello");
    relay.setRevoked(["PI"]);
    for (const visitor of [...visitors, upgraded])
      expect(await visitor.close()).to.equal("reset");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  for (const via of WAYS) {
    it(`loses what is parked by ${via}, with an answer and a stream under way`, async () => {
      const relay = await startRelay();
      const port = await startTcp((socket) => {
        socket.on("error", () => undefined).pipe(socket);
      });
      const tcp = new Map([[7, { host: "127.0.0.1", port }]]);
      const begun: RequestListener = (_asked, answer) => {
        answer.write("some");
      };
      await parkHere(relay, "pi", begun, { via, tcp });
      const reader = await visit(relay, VISIT);
      await reader.take("some");
      const caller = await visit(relay, `${connectTo()}hello`);
      await caller.take("hello");
      relay.setRevoked(["pi"]);
      for (const visitor of [reader, caller])
        expect(await visitor.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("has those who wait for it answered at once, and whoever comes later", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    await visit(relay, VISIT);
    await hidden.take("\r\n\r\n");
    const waiting = [await wait(relay), await wait(relay, connectTo())];
    relay.setRevoked(["pi"]);
    for (const visitor of waiting)
      expect(await problemOf(visitor)).to.deep.equal({
        status: 503,
        code: "server_offline",
      });
    expect(relay.counts().waiting).to.equal(0);
    expect(await problemOf(await visit(relay, VISIT))).to.deep.equal({
      status: 503,
      code: "server_offline",
    });
  });

  it("is nobody to wait for, where it has never been here", async () => {
    const relay = await startRelay({ revoked: ["pi"] });
    expect(await problemOf(await visit(relay, VISIT))).to.deep.equal({
      status: 404,
      code: "unknown_server",
    });
  });

  it("does not slip in, at whatever moment of its parking the list changes", async () => {
    const relay = await startRelay();
    for (let turns = 0; turns < 40; turns++) {
      const raw = await askToPark(relay, "pi", 1);
      for (let turn = 0; turn < turns; turn++)
        await new Promise((resolve) => setImmediate(resolve));
      relay.setRevoked(["pi"]);
      await raw.end();
      // Cut after the 200, or refused before it.
      const code = /"code":"(\w+)"/.exec(raw.received)?.[1];
      expect(code).to.be.oneOf([undefined, "revoked"]);
      await relay.until(() => relay.counts().tunnels === 0);
      relay.setRevoked([]);
    }
  });

  it("can park again when it is taken off the list", async () => {
    const relay = await startRelay();
    relay.setRevoked(["pi"]);
    relay.setRevoked([]);
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, VISIT);
    await hidden.take("\r\n\r\n");
    hidden.write(OK);
    expect((await visitor.answer()).status).to.equal(200);
  });
});

describe("a generation that is revoked while it is here", () => {
  it("loses its tunnels at once, and those of the next one stay and come in", async () => {
    const relay = await startRelay();
    const old = await parkRawAgent(relay, "pi");
    expect((await problemOf(await askToPark(relay, "pi", 2))).code).to.equal(
      "bad_token",
    );
    relay.setRevoked(["pi@1"]);
    expect(await old.close()).to.equal("reset");
    expect((await problemOf(await askToPark(relay, "pi", 1))).code).to.equal(
      "bad_token",
    );
    const next = await askToPark(relay, "pi", 2);
    await next.take("HTTP/1.1 200 OK\r\n\r\n");
    relay.setRevoked(["pi@1", "tau"]);
    const visitor = await visit(relay, VISIT);
    await next.take("\r\n\r\n");
    next.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("lets visitors wait for the next one", async () => {
    const relay = await startRelay();
    const old = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, VISIT);
    await old.take("\r\n\r\n");
    const waiting = await wait(relay);
    relay.setRevoked(["pi@1"]);
    await old.close();
    await relay.until(() => relay.counts().tunnels === 0);
    // Whose request got no answer is waiting too.
    await relay.until(() => relay.counts().waiting === 2);
    for (const each of [waiting, visitor]) {
      const next = await askToPark(relay, "pi", 2);
      await next.take("HTTP/1.1 200 OK\r\n\r\n");
      await next.take("\r\n\r\n");
      next.write(OK);
      expect((await each.answer()).body).to.equal("ok");
    }
  });

  it("sends our agent away, which parks no more", async () => {
    const relay = await startRelay();
    const agent = await parkHere(relay, "pi", (_asked, answer) =>
      answer.end("hello"),
    );
    const trouble = new Promise<string>((resolve) => {
      agent.on("trouble", resolve);
    });
    relay.setRevoked(["pi@1"]);
    await relay.until(() => relay.counts().tunnels === 0);
    expect(await trouble).to.be.a("string");
    expect(relay.counts().tunnels).to.equal(0);
  });
});

describe("a registration of the generic protocol that is revoked", () => {
  interface Triple {
    readonly host: string;
    readonly port: number;
    readonly cookie: string;
  }

  async function ask(relay: TestRelay, line: string): Promise<Triple> {
    const raw = await visit(
      relay,
      `${line} HTTP/1.1\r\nHost: 127.0.0.1:${relay.port}\r\n\r\n`,
    );
    const { body } = await raw.answer();
    return (JSON.parse(body) as { result: Triple }).result;
  }

  const register = (relay: TestRelay): Promise<Triple> =>
    ask(
      relay,
      `PUT /?uuid=pi&response=${generateSync({ secret: relay.issue("pi").secret })}`,
    );

  async function come(
    relay: TestRelay,
    { host, port, cookie }: Triple,
  ): Promise<Raw> {
    const raw = await visit(relay, connectTo(`${host}:${port}`));
    await raw.take("HTTP/1.1 200 OK\r\n\r\n");
    return raw.write(`${cookie}\n`);
  }

  for (const list of [["pi"], ["pi@1"]]) {
    it(`by ${list.join()} sends its responder away, and ends both sides' cookies`, async () => {
      const relay = await startRelay();
      const registered = await register(relay);
      // Another id keeps the place, so that who comes later is told about his cookie.
      await ask(
        relay,
        `PUT /?uuid=tau&response=${generateSync({ secret: relay.issue("tau").secret })}`,
      );
      const lookedUp = await ask(relay, "GET /?uuid=pi");
      const responder = await come(relay, registered);
      await relay.until(() => relay.counts().idle === 1);
      relay.setRevoked(list);
      expect(await responder.take("\n")).to.equal("-ERR revoked\n");
      expect(relay.counts().idle).to.equal(0);
      for (const triple of [registered, lookedUp])
        expect(await (await come(relay, triple)).take("\n")).to.equal(
          "-ERR not registered\n",
        );
    });
  }

  it("cuts a meeting under way", async () => {
    const relay = await startRelay();
    const responder = await come(relay, await register(relay));
    await relay.until(() => relay.counts().idle === 1);
    const initiator = await come(relay, await ask(relay, "GET /?uuid=pi"));
    await initiator.take("+OK\n");
    await responder.take("+OK\n");
    relay.setRevoked(["pi@1"]);
    expect(await initiator.close()).to.equal("reset");
    expect(await responder.close()).to.equal("reset");
  });
});

describe("a list of revocations", () => {
  it("that is none is refused in a sentence, and the old one stays", async () => {
    const relay = await startRelay({ revoked: ["tau"] });
    const { raw, nonce } = await parkRawUnproved(relay, "pi");
    raw.write(pong(nonce));
    await relay.until(() => relay.counts().idle === 1);
    expect(() => {
      relay.setRevoked(["pi", "p.i"]);
    }).to.throw(SettingsError, 'got "p.i"');
    expect(relay.counts().idle).to.equal(1);
    expect((await problemOf(await askToPark(relay, "tau", 1))).code).to.equal(
      "revoked",
    );
  });
});
