// Everything else that strangers write: tokens, queries of the generic protocol, command lines, and what a relay sends to an agent.
import { expect } from "chai";
import fc from "fast-check";
import { createHmac } from "node:crypto";
import { createServer, type Server } from "node:http";
import { pino } from "pino";
import { IdleTunnel } from "../../app/agent/idle.ts";
import { joinOffer, type Join } from "../../app/agent/target.ts";
import { readCommand } from "../../app/command/command.ts";
import { recall, remember, forget } from "../../app/client/search.ts";
import { deriveKey, makeToken } from "../../app/protocol.ts";
import { Auth } from "../../app/relay/auth.ts";
import { Connection } from "../../app/relay/connection.ts";
import { Generic } from "../../app/relay/generic.ts";
import { Grants } from "../../app/relay/grants.ts";
import { Lot } from "../../app/relay/lot.ts";
import { nameServer } from "../../app/relay/naming.ts";
import { SettingsError, checkSettings } from "../../app/relay/options.ts";
import { Streams } from "../../app/relay/streams.ts";
import {
  readListenPlace,
  readPlace,
  readService,
  readUrl,
} from "../../app/values.ts";
import { generateSync } from "otplib";
import { End, settled } from "./end.ts";
import { requests } from "./messages.ts";
import { anyOctets, cuts, mutated, nearly, piecesOf } from "./octets.ts";
import { slowTarget, target } from "./target.ts";

const RELAY_SECRET = "a secret that is long enough for every test";
const KEY = deriveKey(RELAY_SECRET, "pi", 1);
const OTHER_KEY = deriveKey(RELAY_SECRET, "other", 1);
const CHECKED = checkSettings({ relaySecret: RELAY_SECRET });
const SILENT = pino({ level: "silent" });

const base64 = (text: string | Buffer): string =>
  Buffer.from(text).toString("base64url");

function signed(header: object, claims: object, key: Buffer): string {
  const text = `${base64(JSON.stringify(header))}.${base64(JSON.stringify(claims))}`;
  return `${text}.${base64(createHmac("sha256", key).update(text).digest())}`;
}

/** What a token may say; `at` are seconds from now. */
const claims = fc.record({
  header: fc.constantFrom(
    { alg: "HS256" },
    { alg: "HS256" },
    { alg: "HS256", typ: "JWT" },
    { alg: "none" },
    { alg: "HS512" },
    { alg: "HS256", crit: ["x"], x: 1 },
    { alg: "HS256", b64: false, crit: ["b64"] },
    {},
  ),
  sub: fc.constantFrom<unknown>(
    "pi",
    "pi",
    "pi",
    "PI",
    "other",
    ["pi"],
    1,
    undefined,
  ),
  iat: fc.constantFrom<unknown>(0, 0, -30, -200, 59, 1000, "x", NaN, undefined),
  exp: fc.constantFrom<unknown>(45, 45, 60, -59, -1000, 1e12, "x", undefined),
  jti: fc.constantFrom<unknown>("a", "a", "b".repeat(200), "", 1, undefined, {
    a: 1,
  }),
  nbf: fc.constantFrom<unknown>(undefined, undefined, 1000, "x"),
  key: fc.constantFrom(KEY, KEY, KEY, OTHER_KEY, Buffer.alloc(0)),
});

const at = (seconds: unknown): unknown =>
  typeof seconds === "number"
    ? Math.floor(Date.now() / 1000) + seconds
    : seconds;

const made = claims.map(({ header, sub, iat, exp, jti, nbf, key }) =>
  signed(header, { sub, iat: at(iat), exp: at(exp), jti, nbf: at(nbf) }, key),
);
const tokens = fc.oneof(
  { weight: 3, arbitrary: made },
  { weight: 2, arbitrary: mutated(made, 2) },
  { weight: 1, arbitrary: fc.stringMatching(/^\d{5,9}$/) },
  { weight: 1, arbitrary: anyOctets },
);

/** Whether a token is one that PROTOCOL.md lets park `pi`, written for nothing but to be right. */
function isGood(token: string, now: number): boolean {
  const [head = "", body = "", mac = "", ...rest] = token.split(".");
  if (rest.length > 0) return false;
  const proper = createHmac("sha256", KEY).update(`${head}.${body}`).digest();
  if (!Buffer.from(mac, "base64url").equals(proper)) return false;
  const said = JSON.parse(
    Buffer.from(body, "base64url").toString(),
  ) as Readonly<Record<string, unknown>>;
  const header = JSON.parse(
    Buffer.from(head, "base64url").toString(),
  ) as Readonly<Record<string, unknown>>;
  const { sub, iat, exp, jti } = said;
  return (
    header["alg"] === "HS256" &&
    sub === "pi" &&
    typeof iat === "number" &&
    typeof exp === "number" &&
    typeof jti === "string" &&
    jti.length > 0 &&
    jti.length <= 128 &&
    exp - iat <= 60 &&
    iat <= now + 61 &&
    exp >= now - 61
  );
}

const query = nearly(
  fc
    .array(
      fc.constantFrom(
        "uuid=pi",
        "uuid=PI",
        "uuid=",
        "uuid=%00",
        "response=123456",
        "response=",
        "x=y",
        "uuid=other",
        "response=a.b.c",
        "uuid",
      ),
      { maxLength: 4 },
    )
    .map((parts) => `/?${parts.join("&")}`),
);

/** A relay's generic door, and a visitor who knocks at it once. */
async function knock(method: string, path: string): Promise<string> {
  const options = {
    ...CHECKED,
    pseudonym: "rendezvous-fuzz",
    ownHosts: [],
    holdSeconds: 0.000_001,
  };
  const auth = new Auth(options);
  const lot = new Lot(options, auth);
  const grants = new Grants((id) => auth.keyOf(id), options.parameter);
  const generic = new Generic(lot, auth, new Streams(options), options, SILENT);
  const end = new End();
  let served: Promise<void> | undefined;
  new Connection(
    end.link,
    options,
    (connection, received) => {
      const { request, visa } = grants.take(received);
      const named = nameServer(request, options);
      if (named.to === "relay" && generic.wants(request, named.target))
        served = generic.serve(connection, request, named.target, visa);
      else connection.refuse("not_found");
    },
    () => undefined,
  );
  end.come(
    Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, "latin1"),
  );
  await served;
  const { text } = end;
  end.destroy();
  await settled();
  return text;
}

const SECRET = "HUSHABCDEFGIJKLMNOPQRTVW";
const words = nearly(
  fc.constantFrom(
    "park",
    "dial",
    "issue",
    "doctor",
    "help",
    "--help",
    "-h",
    "--version",
    `https://pi:${SECRET}@relay.example.com`,
    `http://pi:${SECRET}@localhost:5000/path`,
    `pi:${SECRET}@relay.example.com`,
    `https:/pi:${SECRET}@x/y`,
    "https://relay.example.com",
    "8080",
    "localhost:8080",
    "http://127.0.0.1:80/",
    "[::1]:22",
    "pi",
    "22",
    "--tcp",
    "22=db.lan:5432",
    "--tcp=80",
    "--spare",
    "--max=3",
    "--via",
    "websocket",
    "--listen",
    "127.0.0.1:0",
    "--idle",
    "60",
    "--json",
    "--verbose",
    "--ca",
    "/nowhere/ca.pem",
    "--secret-file=/nowhere",
  ),
  2,
);
/** Whether the secret stands where a login does: without its @ nothing tells it from a host. */
const isHidden = (word: string): boolean =>
  word.lastIndexOf(SECRET) < 0 ||
  word.lastIndexOf("@") > word.lastIndexOf(SECRET);
const commandLine = fc
  .tuple(
    fc.constantFrom("park", "park", "dial", "issue", "doctor", ""),
    fc.array(words, { maxLength: 5 }),
  )
  .map(([command, rest]) => (command === "" ? rest : [command, ...rest]));

const http: Server = createServer((_request, answer) => answer.end("hello\n"));
// What comes is not always HTTP.
http.on("clientError", (_error, socket) => socket.destroy());

const CARE = {
  tend: () => undefined,
  watch: () => undefined,
  missed: () => undefined,
};
const offers: readonly Join[] = [
  joinOffer({ http, tcp: new Map(), ...CARE }),
  joinOffer({ http: undefined, tcp: new Map(), ...CARE }),
];

const PING = "OPTIONS * HTTP/1.1\r\nHost: pi\r\nRendezvous-Ping: a-1\r\n\r\n";
const ask = (port: number | string): string =>
  `GET /.well-known/masque/tcp/localhost/${port}/ HTTP/1.1\r\nHost: pi\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nRendezvous-Dial: ${port}\r\n\r\n`;
const fromRelay = nearly(
  fc.oneof(
    fc.constantFrom(
      ask(80),
      ask(22),
      ask("0x50"),
      ask(80) + "\xa0\x28\xd7\xf2\x05GET /",
    ),
    fc.constantFrom(PING, PING.repeat(2), PING + ask(80)),
    requests,
  ),
);

/** What an agent says to a relay that sends these pieces to a parked tunnel. */
async function park(pieces: readonly Buffer[], join: Join): Promise<string> {
  const end = new End();
  let lost = 0;
  let over = 0;
  let claimed = 0;
  new IdleTunnel(end.link, {
    pinged: () => true,
    claimed: (early) => {
      claimed++;
      join(end.link, early, () => over++);
    },
    lost: () => lost++,
  });
  await end.flow(Buffer.from(PING), ...pieces);
  const { text } = end;
  end.destroy();
  for (let turn = 0; turn < 5; turn++) await settled();
  expect([claimed, lost]).to.deep.equal(claimed === 1 ? [1, 0] : [0, 1]);
  expect(over).to.equal(claimed);
  return text;
}

export const doors = [
  slowTarget(
    "a token parks only when it is signed for this id, in time and unused, whatever else is sent",
    tokens,
    async (token) => {
      const auth = new Auth({ relaySecret: RELAY_SECRET, revoked: [] });
      const before = generateSync({ secret: KEY, period: 30 });
      const code = await auth.refuse("pi", token, "127.0.0.1");
      if (code === undefined) {
        if (/^\d+$/.test(token)) expect(before).to.be.a("string");
        else expect(isGood(token, Date.now() / 1000), token).to.be.true;
        expect(await auth.refuse("other", token, "127.0.0.1")).to.equal(
          "bad_token",
        );
        if (!/^\d+$/.test(token))
          expect(await auth.refuse("pi", token, "127.0.0.1")).to.equal(
            "bad_token",
          );
      } else expect(code).to.equal("bad_token");
      // Whatever was sent, the owner is not locked out.
      const good = await makeToken("pi", KEY);
      expect(await auth.refuse("pi", good, "127.0.0.1")).to.equal(undefined);
    },
  ),
  slowTarget(
    "the generic protocol answers every query with a document, and registers nobody without a token",
    fc.tuple(fc.constantFrom("GET", "PUT", "PUT", "POST"), query),
    async ([method, path]) => {
      const text = await knock(method, path);
      expect(text).to.match(/^HTTP\/1\.1 (?:200|4\d\d|505) /);
      expect(text).not.to.match(/"cookie":/);
      const body = text.split("\r\n\r\n")[1] ?? "";
      expect(JSON.parse(body)).to.be.an("object");
    },
  ),
  target(
    "a command line is read, or refused in sentences that never show the secret",
    fc.tuple(commandLine, fc.boolean()),
    ([argv, hasUrl]) => {
      const environment = {
        RELAY_SECRET,
        ...(hasUrl
          ? { RENDEZVOUS_URL: `https://pi:${SECRET}@relay.example.com` }
          : {}),
      };
      try {
        const read = readCommand(argv, environment);
        expect(read.command).to.be.a("string");
      } catch (problem) {
        if (!(problem instanceof SettingsError)) throw problem;
        expect(problem.message).to.match(/[.`"]$/);
        // The name of a file is shown as it is.
        const names = problem.message.includes("cannot be read");
        if (argv.every(isHidden) && !names)
          expect(problem.message).not.to.include(SECRET);
        expect(problem.message).not.to.include(RELAY_SECRET);
      }
    },
  ),
  target(
    "places and URLs are read as one host and one port, or not at all",
    words,
    (text) => {
      const problems: string[] = [];
      for (const place of [
        readPlace(text),
        readListenPlace(text),
        readService(text, problems),
      ]) {
        if (place === undefined) continue;
        expect(place.port).to.be.within(0, 65_535);
        expect(place.host).to.not.match(/[\s/@]/);
      }
      const url = readUrl(text, "The relay", problems);
      if (url !== undefined) expect(url.pathname).to.equal("/");
      if (isHidden(text))
        for (const problem of problems) expect(problem).not.to.include(SECRET);
    },
  ),
  slowTarget(
    "an agent takes whatever a relay sends, and is done with each tunnel once",
    fc.tuple(fromRelay, cuts, fc.constantFrom(...offers)),
    async ([text, at, join]) => {
      const said = await park(piecesOf(text, at), join);
      expect(said).to.match(
        /^HTTP\/1\.1 204 No Content\r\nRendezvous-Pong: a-1\r\n\r\n(?:HTTP\/1\.1 |$)/,
      );
    },
    2,
  ),
  target(
    "no more than 1024 relays are remembered, and each with the way that it was found by",
    fc.array(
      fc.tuple(
        fc.nat(3000),
        fc.constantFrom("upgrade", "websocket", "connect"),
        fc.boolean(),
      ),
      { minLength: 1, maxLength: 1500, size: "max" },
    ),
    (steps) => {
      const kept = new Map<string, string>();
      for (const [number, way, isForgotten] of steps) {
        const relay = {
          url: new URL(`http://relay-${number}.example.com`),
          ca: undefined,
        };
        if (isForgotten) {
          forget(relay);
          kept.delete(relay.url.origin);
        } else {
          remember(relay, { way, relay });
          kept.set(relay.url.origin, way);
        }
        const known = recall(relay);
        expect(known?.way).to.equal(kept.get(relay.url.origin));
      }
      let count = 0;
      for (let number = 0; number <= 3000; number++) {
        const relay = {
          url: new URL(`http://relay-${number}.example.com`),
          ca: undefined,
        };
        if (recall(relay) !== undefined) count++;
        forget(relay);
      }
      expect(count).to.be.at.most(1024);
    },
    0.5,
  ),
];
