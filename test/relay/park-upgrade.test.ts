// How hidden servers park by GET: with Upgrade: ptth, or as a WebSocket. What is refused, and how.
import { expect } from "chai";
import { generateSync } from "otplib";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import { takePing, pong } from "../support/hidden.ts";
import { connectRaw, type Raw, type RawAnswer } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { OK, get } from "../support/visits.ts";

const VISIT = get("/?rendezvous=pi");
const UPGRADE = "Connection: Upgrade\r\nUpgrade: ptth\r\n";
const ALPN = "ALPN: http%2F1.1\r\n";
const HANDSHAKE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SUBPROTOCOL = "Sec-WebSocket-Protocol: ptth\r\n";
const SWITCHED =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ptth\r\nALPN: http%2F1.1\r\n";

const totp = (relay: TestRelay, id = "pi"): string =>
  generateSync({ secret: relay.issue(id).secret });
const jwt = (relay: TestRelay, id = "pi"): Promise<string> =>
  makeToken(id, decodeSecret(relay.issue(id).secret));
const bearer = (token: string): string => `Authorization: Bearer ${token}\r\n`;
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

/** Asks to park, and says `early` in the same breath. */
async function ask(
  relay: TestRelay,
  place: string,
  fields: string,
  early = "",
  method = "GET",
): Promise<Raw> {
  const raw = await connectRaw(relay.port);
  return raw.write(
    `${method} /-/park/${place} HTTP/1.1\r\nHost: x:1\r\n${fields}\r\n${early}`,
  );
}

/** A refusal, whose connection is closed behind it, whatever else was said on it. */
async function refused(asked: Raw): Promise<RawAnswer & { code: unknown }> {
  const answer = await asked.answer();
  await asked.end();
  expect(asked.received).to.equal("");
  expect(answer.fields["connection"]).to.match(/\bclose\b/);
  const { code } = JSON.parse(answer.body) as { code: unknown };
  return { ...answer, code };
}

describe("parking by Upgrade", () => {
  it("may be one of several upgrades that are offered", async () => {
    const relay = await startRelay();
    const asked = await ask(
      relay,
      `pi?response=${totp(relay)}`,
      "Connection: Upgrade\r\nUpgrade: foo/1, PTTH\r\n",
    );
    expect(await asked.take("\r\n\r\n")).to.equal(`${SWITCHED}\r\n`);
  });

  for (const [what, fields] of [
    ["as draft-kazuho-ptth-ptth has it", ALPN],
    ["without ALPN", ""],
    ["with ALPN that has more to offer", "ALPN: h2, http%2F1.1\r\n"],
    ["with ALPN in lower case", "ALPN: http%2f1.1\r\n"],
  ] as const) {
    it(`is answered 101 with these fields and no others, ${what}`, async () => {
      const relay = await startRelay();
      const fieldsOf = `${UPGRADE}${fields}${bearer(totp(relay))}`;
      const asked = await ask(relay, "pi", fieldsOf);
      expect(await asked.take("\r\n\r\n")).to.equal(`${SWITCHED}\r\n`);
      await relay.until(() => relay.counts().idle === 1);
    });
  }

  it("welcomes an agent, and pings it in the tunnel", async () => {
    const relay = await startRelay({ heartbeatSeconds: 7 });
    const asked = await ask(
      relay,
      "pi",
      `${UPGRADE}${ALPN}${bearer(await jwt(relay))}Rendezvous-Agent: 1.0.0\r\n`,
    );
    expect(await asked.take("\r\n\r\n")).to.equal(
      `${SWITCHED}Rendezvous-Heartbeat: 7\r\nRendezvous-Visit: /?rendezvous=pi\r\n\r\n`,
    );
    asked.write(pong(await takePing(asked)));
    await relay.until(() => relay.counts().idle === 1);
  });

  it("pings at once again when a pong asks for it, once, and no visitor comes between", async () => {
    const relay = await startRelay();
    const asked = await ask(
      relay,
      "pi",
      `${UPGRADE}${bearer(await jwt(relay))}Rendezvous-Agent: 1.0.0\r\n`,
    );
    await asked.take("\r\n\r\n");
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    await relay.until(() => relay.counts().waiting === 1);
    const prove = "Rendezvous-Prove: 1\r\n";
    asked.write(pong(await takePing(asked), prove));
    asked.write(pong(await takePing(asked), prove));
    expect(await asked.take("\r\n\r\n")).to.match(/^GET \/ /);
  });

  for (const [where, place, fields] of [
    ["in the query", (token: string) => `pi?response=${token}`, () => ""],
    ["as Authorization: Bearer", () => "pi", bearer],
    [
      "as Authorization: Basic",
      () => "pi",
      (token: string) => `Authorization: ${basic("pi", token)}\r\n`,
    ],
    [
      "as Proxy-Authorization",
      () => "pi",
      (token: string) => `Proxy-Authorization: ${basic("pi", token)}\r\n`,
    ],
    ["for an id in capitals", () => "PI", bearer],
  ] as const) {
    it(`takes the token ${where}`, async () => {
      const relay = await startRelay();
      // The second finds the first one parked: its login does not name whom to visit.
      for (const make of [totp, jwt]) {
        const token = await make(relay);
        const all = `${UPGRADE}${fields(token)}`;
        const asked = await ask(relay, place(token), all);
        expect(await asked.take("\r\n\r\n")).to.equal(`${SWITCHED}\r\n`);
      }
      await relay.until(() => relay.counts().idle === 2);
    });
  }

  it("lets a generic PTTH backend serve one visit", async () => {
    const relay = await startRelay();
    const backend = await ask(
      relay,
      "pi",
      `${UPGRADE}${ALPN}${bearer(totp(relay))}`,
    );
    await backend.take("\r\n\r\n");
    await relay.until(() => relay.counts().idle === 1);
    const visitor = await connectRaw(relay.port);
    visitor.write(VISIT);
    expect(await backend.take("\r\n\r\n")).to.match(
      /^GET \/ .*\r\nConnection: close\r\n\r\n$/s,
    );
    backend.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    await backend.end();
  });
});

describe("parking by GET is refused", () => {
  for (const [what, fields, status, code, method] of [
    ["no Upgrade", "", 426, "upgrade_wanted"],
    [
      "another Upgrade",
      "Connection: Upgrade\r\nUpgrade: connect-tcp\r\n",
      426,
      "upgrade_wanted",
    ],
    [
      "an Upgrade that Connection does not name",
      "Upgrade: ptth\r\n",
      426,
      "upgrade_wanted",
    ],
    ["another method", UPGRADE, 426, "upgrade_wanted", "DELETE"],
    ["a WebSocket without the subprotocol", HANDSHAKE, 426, "upgrade_wanted"],
    [
      "a WebSocket with another subprotocol",
      `${HANDSHAKE}Sec-WebSocket-Protocol: connect-tcp\r\n`,
      426,
      "upgrade_wanted",
    ],
    [
      "a WebSocket without a key",
      `${HANDSHAKE.replace(/Sec-WebSocket-Key.*\r\n/, "")}${SUBPROTOCOL}`,
      400,
      "bad_request",
    ],
    ["ALPN of h2 alone", `${UPGRADE}ALPN: h2\r\n`, 400, "bad_request"],
    ["a body", `${UPGRADE}Content-Length: 2\r\n`, 400, "bad_request"],
    [
      "a body in chunks",
      `${UPGRADE}Transfer-Encoding: chunked\r\n`,
      400,
      "bad_request",
    ],
    ["no token", UPGRADE, 401, "token_wanted"],
    [
      "no token, as a WebSocket",
      `${HANDSHAKE}${SUBPROTOCOL}`,
      401,
      "token_wanted",
    ],
    ["a wrong token", `${UPGRADE}${bearer("x")}`, 401, "bad_token"],
    [
      "somebody else's login",
      `${UPGRADE}Authorization: ${basic("other", "123456")}\r\n`,
      401,
      "bad_token",
    ],
  ] as readonly (readonly [string, string, number, string, string?])[]) {
    it(`with ${String(status)} for ${what}, and nothing that follows is read`, async () => {
      const relay = await startRelay();
      // A token is looked at only when nothing came early.
      const early = what === "a wrong token" ? "" : VISIT;
      const asked = await ask(relay, "pi", fields, early, method);
      const answer = await refused(asked);
      expect([answer.status, answer.code]).to.deep.equal([status, code]);
      const { upgrade, "www-authenticate": challenge } = answer.fields;
      expect(upgrade).to.equal(status === 426 ? "ptth, websocket" : undefined);
      expect(challenge).to.equal(
        status === 401 ? 'Bearer realm="rendezvous"' : undefined,
      );
      expect(answer.fields).not.to.have.property("proxy-authenticate");
      expect(relay.counts()).to.include({ tunnels: 0, waiting: 0 });
    });
  }

  for (const [how, fields] of [
    ["by Upgrade", UPGRADE],
    ["by WebSocket", `${HANDSHAKE}${SUBPROTOCOL}`],
  ] as const) {
    it(`with 409 for octets before the 101, ${how}, and none of them is read`, async () => {
      const relay = await startRelay();
      const all = `${fields}${bearer(totp(relay))}`;
      const { status, code } = await refused(
        await ask(relay, "pi", all, VISIT),
      );
      expect([status, code]).to.deep.equal([409, "early_data"]);
      expect(relay.counts()).to.include({ tunnels: 0, waiting: 0 });
    });

    it(`with 403 for no id and one that is revoked, and 503 when there are too many, ${how}`, async () => {
      const relay = await startRelay({
        revoked: ["lost"],
        maxTunnelsPerServer: 1,
      });
      for (const place of ["", "-pi", "p.i", "pi/7", "a".repeat(64)]) {
        const { status, code } = await refused(
          await ask(relay, place, `${fields}${bearer("123456")}`),
        );
        expect([status, code]).to.deep.equal([403, "bad_id"]);
      }
      const lost = `${fields}${bearer("123456")}`;
      const { code } = await refused(await ask(relay, "lost", lost));
      expect(code).to.equal("revoked");
      const first = `${fields}${bearer(await jwt(relay))}`;
      await (await ask(relay, "pi", first)).take("\r\n\r\n");
      const second = `${fields}${bearer(await jwt(relay))}`;
      const full = await refused(await ask(relay, "pi", second));
      expect([full.status, full.code]).to.deep.equal([503, "too_many_tunnels"]);
      expect(full.fields["retry-after"]).to.equal("10");
    });
  }

  it("with 503 while the relay is leaving", async () => {
    const relay = await startRelay({ drainSeconds: 1 });
    const asked = await connectRaw(relay.port);
    // Once the first is answered the second has begun, and what has begun is answered.
    asked.write(`${get("/-/health")}GET /-/park/pi HTTP/1.1\r\nHost: x\r\n`);
    await asked.answer();
    const gone = relay.drain();
    asked.write(`${UPGRADE}${bearer(totp(relay))}\r\n`);
    const { status, code } = await refused(asked);
    expect([status, code]).to.deep.equal([503, "draining"]);
    await gone;
  });
});
