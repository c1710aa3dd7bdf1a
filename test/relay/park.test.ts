// How hidden servers park, and what the relay does with tunnels that nobody has claimed.
import { expect } from "chai";
import { generateSync } from "otplib";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import {
  parkRaw,
  parkRawAgent,
  parkRawUnproved,
  pong,
  takePing,
} from "../support/hidden.ts";
import { connectRaw, type Raw, type RawAnswer } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";

const SHORT = 0.05;
const VISIT = "GET /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n";

const totp = (relay: TestRelay, id: string): string =>
  generateSync({ secret: relay.issue(id).secret });
const jwt = (relay: TestRelay, id: string): Promise<string> =>
  makeToken(id, decodeSecret(relay.issue(id).secret));
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

async function ask(
  relay: TestRelay,
  target: string,
  fields = "",
  early = "",
): Promise<Raw> {
  return (await connectRaw(relay.port)).write(
    `CONNECT ${target} HTTP/1.1\r\n${fields}\r\n${early}`,
  );
}

/** A refusal, whose connection is closed behind it as the original's is. */
async function refused(
  asked: Raw,
): Promise<RawAnswer & { readonly code: unknown; readonly error: unknown }> {
  const answer = await asked.answer();
  await asked.end();
  expect(asked.received).to.equal("");
  const { code, error } = JSON.parse(answer.body) as {
    code: unknown;
    error: unknown;
  };
  return { ...answer, code, error };
}

describe("parking is refused", () => {
  it("with 403 for another scheme, in the original's words", async () => {
    const relay = await startRelay();
    for (const target of ["urn:pi?response=1", "http:pi?response=1"]) {
      const { status, code, error } = await refused(await ask(relay, target));
      expect({ status, code, error }).to.deep.equal({
        status: 403,
        code: "wrong_scheme",
        error: {
          permanent: false,
          diagnostic: "invalid protocol, should be uuid:",
        },
      });
    }
  });

  it("with 407 for no token, in the original's words", async () => {
    const relay = await startRelay();
    for (const target of [
      "uuid:pi",
      "uuid:pi?",
      "uuid:pi?response=",
      "uuid:pi?token=1",
    ]) {
      const { status, code, error, fields, body } = await refused(
        await ask(relay, target),
      );
      expect(body).to.include("Authorization: Bearer TOKEN");
      expect({ status, code, error }).to.deep.equal({
        status: 407,
        code: "missing_token",
        error: { permanent: false, diagnostic: "missing response parameter" },
      });
      expect(fields["proxy-authenticate"]).to.match(/^Basic realm=/);
    }
  });

  it("with 409 for octets before the answer, in the original's words, and none of them is read as a request", async () => {
    const relay = await startRelay();
    const asked = await ask(
      relay,
      `uuid:pi?response=${totp(relay, "pi")}`,
      "",
      VISIT,
    );
    const { status, code, error } = await refused(asked);
    expect({ status, code, error }).to.deep.equal({
      status: 409,
      code: "early_data",
      error: {
        permanent: false,
        diagnostic: "wait for response to CONNECT before sending data",
      },
    });
    expect(relay.counts()).to.include({ tunnels: 0, waiting: 0 });
  });

  it("with 401 for a wrong token, in the original's words", async () => {
    const relay = await startRelay();
    const right = totp(relay, "pi");
    const wrong = right.replace(/^./, (digit) =>
      String((Number(digit) + 1) % 10),
    );
    for (const token of [
      wrong,
      "x",
      "12345",
      "123456789",
      await jwt(relay, "other"),
      `${await jwt(relay, "pi")}x`,
    ]) {
      const { status, code, error, fields } = await refused(
        await ask(relay, `uuid:pi?response=${token}`),
      );
      expect({ status, code, error }).to.deep.equal({
        status: 401,
        code: "bad_token",
        error: { permanent: false, diagnostic: "invalid request" },
      });
      expect(fields["www-authenticate"]).to.match(/^Bearer realm=/);
    }
    expect(relay.counts().tunnels).to.equal(0);
  });

  it("with 401 for a JWT that was used, and for a login of somebody else", async () => {
    const relay = await startRelay();
    const token = await jwt(relay, "pi");
    await (
      await ask(relay, `uuid:pi?response=${token}`)
    ).take("200 OK\r\n\r\n");
    expect(
      (await refused(await ask(relay, `uuid:pi?response=${token}`))).status,
    ).to.equal(401);
    const fields = `Authorization: ${basic("other", totp(relay, "pi"))}\r\n`;
    expect(
      (await refused(await ask(relay, "uuid:pi", fields))).status,
    ).to.equal(401);
  });

  it("with 403 for what is no id, and for an id that is revoked", async () => {
    const relay = await startRelay({ revoked: ["lost"] });
    for (const id of ["-pi", "pi-", "p_i", "p.i", "a".repeat(64), ""]) {
      const { status, code } = await refused(
        await ask(relay, `uuid:${id}?response=123456`),
      );
      expect({ status, code }).to.deep.equal({ status: 403, code: "bad_id" });
    }
    const { status, code } = await refused(
      await ask(relay, "uuid:LOST?response=123456"),
    );
    expect({ status, code }).to.deep.equal({ status: 403, code: "revoked" });
  });

  it("with 503 and Retry-After beyond MAX_TUNNELS_PER_SERVER, for this server only", async () => {
    const relay = await startRelay({ maxTunnelsPerServer: 1 });
    const first = await parkRaw(relay, "pi");
    const { status, code, fields } = await refused(
      await ask(relay, `uuid:pi?response=${totp(relay, "pi")}`),
    );
    expect({ status, code }).to.deep.equal({
      status: 503,
      code: "too_many_tunnels",
    });
    expect(fields["retry-after"]).to.equal("10");
    await parkRaw(relay, "other");
    first.socket.destroy();
    await relay.until(() => relay.counts().tunnels === 1);
    await parkRaw(relay, "pi");
  });

  it("with 503 beyond MAX_TUNNELS, whoever it is", async () => {
    const relay = await startRelay({ maxTunnels: 1 });
    await parkRawUnproved(relay, "pi");
    const { code } = await refused(
      await ask(relay, `uuid:other?response=${totp(relay, "other")}`),
    );
    expect(code).to.equal("too_many_tunnels");
  });
});

describe("a token parks a tunnel", () => {
  for (const [kind, make] of [
    ["TOTP", totp],
    ["JWT", jwt],
  ] as const) {
    const ways: readonly (readonly [
      title: string,
      query: (token: string) => string,
      fields: (token: string) => string,
    ])[] = [
      ["in the query", (token) => `?response=${token}`, () => ""],
      [
        "as Authorization: Bearer",
        () => "",
        (token) => `Authorization: Bearer ${token}\r\n`,
      ],
      [
        "as Authorization: Basic",
        () => "",
        (token) => `Authorization: ${basic("pi", token)}\r\n`,
      ],
      [
        "as Proxy-Authorization: Basic",
        () => "",
        (token) => `Proxy-Authorization: ${basic("PI", token)}\r\n`,
      ],
    ];
    for (const [title, query, fields] of ways) {
      it(`as a ${kind} ${title}`, async () => {
        const relay = await startRelay();
        const token = await make(relay, "pi");
        const asked = await ask(relay, `uuid:pi${query(token)}`, fields(token));
        expect(await asked.take("\r\n\r\n")).to.equal(
          "HTTP/1.1 200 OK\r\n\r\n",
        );
        await relay.until(() => relay.counts().idle === 1);
      });
    }
  }

  it("of an id written in capitals", async () => {
    const relay = await startRelay();
    await (
      await ask(relay, `uuid:PI?response=${totp(relay, "pi")}`)
    ).take("200 OK\r\n\r\n");
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    await relay.until(() => relay.counts().idle === 0);
  });
});

describe("a tunnel of an agent", () => {
  it("is welcomed with its heartbeat and its visitors' URL", async () => {
    for (const [settings, visit] of [
      [{}, "/?rendezvous=pi"],
      [
        { publicUrl: "https://relay.example.com" },
        "https://relay.example.com/?rendezvous=pi",
      ],
      [{ baseDomain: "example.com" }, "//pi.example.com:1/"],
    ] as const) {
      const relay = await startRelay({ heartbeatSeconds: 7, ...settings });
      const asked = await ask(
        relay,
        `uuid:pi?response=${totp(relay, "pi")}`,
        "Host: x:1\r\nRendezvous-Agent: 1.0.0\r\n",
      );
      expect(await asked.take("\r\n\r\n")).to.equal(
        `HTTP/1.1 200 OK\r\nRendezvous-Heartbeat: 7\r\nRendezvous-Visit: ${visit}\r\n\r\n`,
      );
    }
  });

  it("is in the lot only after it has answered a ping", async () => {
    const relay = await startRelay();
    const { raw, nonce } = await parkRawUnproved(relay, "pi");
    expect(relay.counts()).to.include({ tunnels: 1, idle: 0 });
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    await relay.until(() => relay.counts().waiting === 1);
    expect(raw.received).to.equal("");
    const answer = pong(nonce);
    raw.write(answer.slice(0, 30));
    raw.write(answer.slice(30));
    expect(await raw.take("\r\n\r\n")).to.match(/^GET \/ /);
  });

  it("that never answers the ping gets no visit and is given up", async () => {
    const relay = await startRelay({
      heartbeatSeconds: SHORT,
      holdSeconds: SHORT,
    });
    const { raw } = await parkRawUnproved(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    expect((await visitor.answer()).status).to.equal(503);
    await raw.end();
    expect(raw.received).to.equal("");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  const wrong: readonly (readonly [
    title: string,
    answer: (nonce: string) => string,
  ])[] = [
    ["another nonce", (nonce) => pong(`${nonce}x`)],
    ["no nonce", () => "HTTP/1.1 204 No Content\r\n\r\n"],
    [
      "another status",
      (nonce) => pong(nonce).replace("204 No Content", "404 Not Found"),
    ],
    ["octets behind it", (nonce) => `${pong(nonce)}x`],
    ["what is no HTTP", () => "SSH-2.0-x\r\n\r\n"],
    ["more than a pong can be", () => "x".repeat(5000)],
  ];
  for (const [title, answer] of wrong) {
    it(`is given up when it answers the ping with ${title}`, async () => {
      const relay = await startRelay();
      const { raw, nonce } = await parkRawUnproved(relay, "pi");
      raw.write(answer(nonce));
      await raw.end();
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("is pinged again and again with a new nonce, and is in the lot between", async () => {
    const relay = await startRelay({ heartbeatSeconds: SHORT });
    const { raw, nonce } = await parkRawUnproved(relay, "pi");
    const nonces = new Set([nonce]);
    raw.write(pong(nonce));
    for (let i = 0; i < 3; i++) {
      const next = await takePing(raw);
      nonces.add(next);
      expect(relay.counts().idle).to.equal(0);
      raw.write(pong(next));
      await relay.until(() => relay.counts().idle === 1);
    }
    expect(nonces.size).to.equal(4);
  });

  it("that falls silent is given up", async () => {
    const relay = await startRelay({ heartbeatSeconds: SHORT });
    const raw = await parkRawAgent(relay, "pi");
    await takePing(raw);
    await raw.end();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("that is not wanted any more leaves with Connection: close in its pong, and no visitor meets it", async () => {
    const relay = await startRelay({ heartbeatSeconds: SHORT });
    const raw = await parkRawAgent(relay, "pi");
    raw.write(pong(await takePing(raw), "Connection: close\r\n"));
    await raw.end();
    expect(raw.received).to.equal("");
    expect(relay.counts().idle).to.equal(0);
    raw.socket.end();
    await relay.until(() => relay.counts().tunnels === 0);
  });
});

describe("a tunnel of a legacy hidden server", () => {
  it("gets no ping, and is claimed without one", async () => {
    const relay = await startRelay({ heartbeatSeconds: SHORT });
    const legacy = await parkRaw(relay, "pi");
    // As a clock: an agent that is pinged three times meanwhile.
    const agent = await parkRawAgent(relay, "clock");
    for (let i = 0; i < 3; i++) agent.write(pong(await takePing(agent)));
    expect(legacy.received).to.equal("");
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    expect(await legacy.take("\r\n\r\n")).to.match(
      /^GET \/ .*\r\nConnection: close\r\n\r\n$/s,
    );
  });
});

describe("an idle tunnel", () => {
  for (const [title, parkOne] of [
    ["legacy hidden server", parkRaw],
    ["agent", parkRawAgent],
  ] as const) {
    it(`on which a ${title} says something unasked is ended`, async () => {
      const relay = await startRelay();
      const raw = await parkOne(relay, "pi");
      raw.write("HTTP/1.1 200 OK\r\n\r\n");
      await raw.end();
      await relay.until(() => relay.counts().tunnels === 0);
    });

    it(`that a ${title} ends is taken out of the lot`, async () => {
      const relay = await startRelay();
      const raw = await parkOne(relay, "pi");
      raw.socket.end();
      await relay.until(() => relay.counts().tunnels === 0);
      expect(relay.counts().idle).to.equal(0);
      await raw.close();
    });
  }
});
