// Private hidden servers: who gets in with which grant, by every way of naming and of showing it, and who never sees one.
import { expect } from "chai";
import fc from "fast-check";
import { PassThrough } from "node:stream";
import { createServer } from "node:http";
import { pino } from "pino";
import { dial } from "../../app/client/dial.ts";
import { deriveKey } from "../../app/protocol.ts";
import { signGrant, GRANT, GRANT_COOKIE } from "../../app/grant.ts";
import { Grants } from "../../app/relay/grants.ts";
import { readRequestHead } from "../../app/wire/head.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { ask, codeOf, grantFor, parkRecorder } from "../support/grants.ts";
import { parkForWaiting, parkRaw } from "../support/hidden.ts";
import { connectRaw, type Raw, type RawAnswer } from "../support/raw.ts";
import {
  RELAY_SECRET,
  parkHere,
  startRelay,
  until,
  type TestRelay,
} from "../support/relay.ts";
import { startEcho } from "../support/tcp.ts";
import { plain } from "../support/visits.ts";
import { generateSync } from "otplib";

type Fields = Readonly<Record<string, string>>;
/** A request that names `pi`: its target for a path and a query, and its fields. */
type Naming = readonly [
  title: string,
  target: (path: string, query: string) => string,
  fields: Fields,
];

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
const withQuery = (path: string, ...parts: string[]): string => {
  const query = parts.filter((part) => part !== "").join("&");
  return query === "" ? path : `${path}?${query}`;
};

const NAMINGS: readonly Naming[] = [
  [
    "named by the query lets in who shows a grant in any way, and sees none of them",
    (path, query) => withQuery(path, "rendezvous=pi", query),
    {},
  ],
  [
    "named by an absolute target lets in who shows a grant in any way, and sees none of them",
    (path, query) => withQuery(`http://pi${path}`, query),
    {},
  ],
  [
    "named by the host lets in who shows a grant in any way, and sees none of them",
    withQuery,
    { Host: "pi.example.com" },
  ],
  [
    "named by a login lets in who shows a grant in any way, and sees none of them",
    (path, query) => withQuery(path, "rendezvous=T", query),
    { Authorization: basic("pi", "x") },
  ],
  [
    "named by a cookie lets in who shows a grant in any way, and sees none of them",
    withQuery,
    { Cookie: "a=b; rendezvous=pi" },
  ],
];

const SHOWINGS: readonly [
  name: string,
  show: (grant: string, relay: TestRelay) => { query: string; fields: Fields },
][] = [
  ["in the query", (grant) => ({ query: `grant=${grant}`, fields: {} })],
  [
    "as Bearer",
    (grant) => ({ query: "", fields: { Authorization: `Bearer ${grant}` } }),
  ],
  [
    "as the proxy's Bearer",
    (grant) => ({
      query: "",
      fields: { "Proxy-Authorization": `Bearer ${grant}` },
    }),
  ],
  [
    "as the proxy's password",
    (grant) => ({
      query: "",
      fields: { "Proxy-Authorization": basic("me", grant) },
    }),
  ],
];

/** Opens a link as a browser does; gives the cookie that it sends from then on. */
async function openLink(
  relay: TestRelay,
  target: string,
  fields: Fields = {},
): Promise<{ answer: RawAnswer; cookie: string }> {
  const answer = await ask(relay, target, { Accept: "text/html", ...fields });
  const [cookie = ""] = (answer.fields["set-cookie"] ?? "").split(";");
  return { answer, cookie };
}

/** Sends a CONNECT, or what comes after it, and gives status and code. */
async function connectTo(
  relay: TestRelay,
  target: string,
  fields: Fields = {},
): Promise<{ raw: Raw; answer: string; status: number }> {
  const raw = await connectRaw(relay.port);
  const lines = Object.entries(fields).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  raw.write(`CONNECT ${target} HTTP/1.1\r\nHost: x\r\n${lines.join("")}\r\n`);
  const answer = await raw.take("\r\n\r\n");
  return { raw, answer, status: Number(answer.split(" ")[1]) };
}

const UPGRADE = { Connection: "Upgrade", Upgrade: "connect-tcp" };
const WEBSOCKET = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Protocol": "connect-tcp",
};
const tcpPath = (port: number, query = ""): string =>
  `/.well-known/masque/tcp/pi/${port}/${query}`;

describe("a private hidden server", () => {
  for (const [title, targetOf, names] of NAMINGS) {
    it(title, async () => {
      const relay = await startRelay({ baseDomain: "example.com" });
      const { seen } = await parkRecorder(relay, "pi");
      const bare = await ask(relay, targetOf("/a", "x=1"), names);
      expect([bare.status, codeOf(bare)]).to.deep.equal([401, "grant_wanted"]);
      expect(bare.fields["www-authenticate"]).to.equal(
        'Bearer realm="rendezvous"',
      );
      const grant = grantFor(relay, "pi");
      const expected: string[] = [];
      for (const [showing, show] of SHOWINGS) {
        const { query, fields } = show(grant, relay);
        if ("Authorization" in fields && "Authorization" in names) continue;
        const target = targetOf("/a", `x=1${query === "" ? "" : `&${query}`}`);
        const answer = await ask(relay, target, { ...names, ...fields });
        expect([answer.status, answer.body], showing).to.deep.equal([
          200,
          "ok",
        ]);
        expect(answer.fields["cache-control"], showing).to.equal("private");
        expect(answer.fields["referrer-policy"], showing).to.equal(
          query === "" ? undefined : "no-referrer",
        );
        expected.push("GET /a?x=1");
      }
      const { answer, cookie } = await openLink(
        relay,
        targetOf("/a", `x=1&grant=${grant}`),
        names,
      );
      expect(answer.status).to.equal(303);
      expect(answer.fields["location"]).to.equal(targetOf("/a", "x=1"));
      const cookies = [names["Cookie"], cookie].filter(Boolean).join("; ");
      const kept = await ask(relay, targetOf("/a", "x=1"), {
        ...names,
        Cookie: cookies,
      });
      expect(kept.status).to.equal(200);
      expected.push("GET /a?x=1");
      expect(seen.map((head) => head.split("\n")[0])).to.deep.equal(expected);
      for (const head of seen) expect(head).to.not.match(/eyJ|grant/i);
    });
  }

  for (const via of ["connect", "upgrade", "websocket"] as const) {
    it(`may park by ${via}, and is open again when it parks without`, async () => {
      const relay = await startRelay();
      const { agent } = await parkRecorder(relay, "pi", { private: true, via });
      expect((await ask(relay, "/?rendezvous=pi")).status).to.equal(401);
      const shown = { Authorization: `Bearer ${grantFor(relay, "pi")}` };
      expect((await ask(relay, "/?rendezvous=pi", shown)).status).to.equal(200);
      await agent.close();
      await relay.until(() => relay.counts().tunnels === 0);
      await parkRecorder(relay, "pi", { via });
      expect((await ask(relay, "/?rendezvous=pi")).status).to.equal(200);
    });
  }

  it("may be a legacy server, which is told so", async () => {
    const relay = await startRelay();
    const code = generateSync({ secret: relay.issue("pi").secret });
    for (const wish of ["?1", "1", "yes"]) {
      const hidden = await connectRaw(relay.port);
      const idle = relay.counts().idle;
      hidden.write(
        `CONNECT uuid:pi?response=${code} HTTP/1.1\r\nRendezvous-Private: ${wish}\r\n\r\n`,
      );
      await hidden.take("HTTP/1.1 200 OK\r\nRendezvous-Private: ?1\r\n\r\n");
      await relay.until(() => relay.counts().idle > idle);
      const bare = await ask(relay, "/?rendezvous=pi");
      expect(codeOf(bare), wish).to.equal("grant_wanted");
      hidden.socket.destroy();
      await relay.until(() => relay.counts().tunnels === 0);
    }
    const hidden = await connectRaw(relay.port);
    hidden.write(
      `CONNECT uuid:pi?response=${code} HTTP/1.1\r\nRendezvous-Private: ?0\r\n\r\n`,
    );
    await hidden.take("HTTP/1.1 200 OK\r\n\r\n");
  });

  it("cannot have its answers given to others by what it tells caches", async () => {
    const relay = await startRelay();
    const code = generateSync({ secret: relay.issue("pi").secret });
    const hidden = await connectRaw(relay.port);
    hidden.write(
      `CONNECT uuid:pi?response=${code} HTTP/1.1\r\nRendezvous-Private: ?1\r\n\r\n`,
    );
    await hidden.take("\r\n\r\n");
    await relay.until(() => relay.counts().idle === 1);
    const visitor = await connectRaw(relay.port);
    visitor.write(
      `GET /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${grantFor(relay, "pi")}\r\n\r\n`,
    );
    await hidden.take("\r\n\r\n");
    hidden.write(
      'HTTP/1.1 200 OK\r\nVary: x"\r\nCache-Control: public, x="\r\nEdge-Control: cache-maxage=60\r\nContent-Length: 0\r\n\r\n',
    );
    expect(plain(await visitor.take("\r\n\r\n"))).to.equal(
      'HTTP/1.1 200 OK\r\nVary: x"\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\nCache-Control: private, no-store\r\n\r\n',
    );
  });

  it("is private as long as one of its tunnels is, and no longer", async () => {
    const relay = await startRelay();
    const open = await parkRecorder(relay, "pi", { spare: 2 });
    expect((await ask(relay, "/?rendezvous=pi")).status).to.equal(200);
    const hidden = await parkRecorder(relay, "pi", { private: true, spare: 1 });
    for (let i = 0; i < 4; i++) {
      const answer = await ask(relay, "/?rendezvous=pi");
      expect(codeOf(answer)).to.equal("grant_wanted");
    }
    const { tunnels } = relay.counts();
    await hidden.agent.close();
    await relay.until(() => relay.counts().tunnels < tunnels);
    expect((await ask(relay, "/?rendezvous=pi")).status).to.equal(200);
    expect(hidden.seen).to.deep.equal([]);
    expect(open.seen).to.have.length(2);
  });

  it("does not let in who has waited for it without a grant, but who has one", async () => {
    const relay = await startRelay({ holdSeconds: 15 });
    const without = ask(relay, "/1?rendezvous=pi");
    await relay.until(() => relay.counts().waiting === 1);
    const stream = connectTo(relay, "pi:80");
    await relay.until(() => relay.counts().waiting === 2);
    const grant = grantFor(relay, "pi");
    const using = ask(relay, `/3?rendezvous=pi&grant=${grant}`);
    await relay.until(() => relay.counts().waiting === 3);
    const { seen } = await parkRecorder(relay, "pi");
    expect(codeOf(await without)).to.equal("grant_wanted");
    expect((await stream).status).to.equal(407);
    expect((await using).status).to.equal(200);
    expect(seen).to.have.length(1);
    expect(seen[0]).to.match(/^GET \/3\n/);
  });

  it("does not let in by an open tunnel who has waited while a private one came", async () => {
    const relay = await startRelay({ holdSeconds: 15 });
    const visitor = ask(relay, "/?rendezvous=pi");
    await relay.until(() => relay.counts().waiting === 1);
    // Both are there before either has answered its ping: the open one is the first to be free.
    const raw = await connectRaw(relay.port);
    const code = generateSync({ secret: relay.issue("pi").secret });
    raw.write(
      `CONNECT uuid:pi?response=${code} HTTP/1.1\r\nRendezvous-Agent: 1\r\nRendezvous-Private: ?1\r\n\r\n`,
    );
    await raw.take("Rendezvous-Private: ?1\r\n\r\n");
    const open = await parkForWaiting(relay, "pi");
    expect(codeOf(await visitor)).to.equal("grant_wanted");
    expect(open.received).to.equal("");
  });

  it("does not let in who has waited until his grant was over", async () => {
    const relay = await startRelay({ holdSeconds: 15 });
    const grant = grantFor(relay, "pi", { seconds: 1 });
    const visitor = ask(relay, `/?rendezvous=pi&grant=${grant}`);
    await relay.until(() => relay.counts().waiting === 1);
    const over = Date.now() + 1000;
    await until(() => Date.now() > over);
    const { seen } = await parkRecorder(relay, "pi");
    const answer = await visitor;
    expect([answer.status, codeOf(answer)]).to.deep.equal([
      403,
      "grant_refused",
    ]);
    expect(answer.body).to.include("it has expired");
    expect(seen).to.deep.equal([]);
  });

  it("takes its relay's word that it is private, or does not park", async () => {
    const old = createServer().on("connect", (_request, socket) => {
      socket.write("HTTP/1.1 200 OK\r\nRendezvous-Heartbeat: 20\r\n\r\n");
      socket.on("error", () => undefined).on("end", () => socket.end());
    });
    old.listen(0, "127.0.0.1");
    afterThisTest(() => {
      old.closeAllConnections();
      old.close();
    });
    await new Promise((resolve) => old.once("listening", resolve));
    const { port } = old.address() as { port: number };
    const relay = await startRelay();
    const { Agent } = await import("../../app/agent/agent.ts");
    const agent = new Agent((_request, answer) => answer.end(), {
      relay: `http://127.0.0.1:${port}`,
      id: "pi",
      secret: relay.issue("pi").secret,
      via: "connect",
      private: true,
    });
    afterThisTest(() => agent.close());
    const reason = await new Promise((resolve) =>
      agent.once("trouble", resolve),
    );
    expect(reason).to.include("the relay knows no private servers");
  });
});

describe("a grant that does not allow it", () => {
  async function refusal(
    limits: Parameters<typeof grantFor>[2],
    target = "/photos/a?rendezvous=pi",
    method = "GET",
    fields: Fields = {},
  ): Promise<string> {
    const relay = await startRelay();
    const { seen } = await parkRecorder(relay, "pi");
    const shown = { Authorization: `Bearer ${grantFor(relay, "pi", limits)}` };
    const answer = await ask(relay, target, { ...shown, ...fields }, method);
    if (answer.status === 200) return "";
    expect([answer.status, codeOf(answer)]).to.deep.equal([
      403,
      "grant_refused",
    ]);
    expect(seen).to.deep.equal([]);
    return answer.body;
  }

  it("is refused for its path", async () => {
    expect(await refusal({ path: "/photos/" })).to.equal("");
    expect(await refusal({ path: "/photo" })).to.include("another path");
    const twofold = "/photos/%2e%2e/secret?rendezvous=pi";
    expect(await refusal({ path: "/photos/" }, twofold)).to.include(
      "more than one way",
    );
    const absolute = "http://pi/photos/../secret?x";
    expect(await refusal({ path: "/photos/" }, absolute)).to.include(
      "more than one way",
    );
    expect(await refusal({ path: "/photos/" }, "http://pi/photos/?x")).to.equal(
      "",
    );
    expect(await refusal({ path: "/" }, "http://pi", "OPTIONS")).to.include(
      "grant_refused",
    );
  });

  it("is refused for its path to who asks for an upgrade, too", async () => {
    const says = { path: "/chat" };
    const at = (path: string): string => `${path}?rendezvous=pi`;
    expect(await refusal(says, at("/chat"), "GET", WEBSOCKET)).to.equal("");
    expect(await refusal(says, at("/other"), "GET", WEBSOCKET)).to.include(
      "another path",
    );
  });

  it("is refused for its method", async () => {
    const says = { methods: ["GET", "HEAD"] };
    expect(await refusal(says)).to.equal("");
    expect(await refusal(says, "/?rendezvous=pi", "DELETE")).to.include(
      "other methods",
    );
    expect(await refusal(says, "/?rendezvous=pi", "get")).to.include(
      "other methods",
    );
  });

  it("is refused where a field names another path or method", async () => {
    for (const name of [
      "X-Original-URL",
      "X_Rewrite_Url",
      "X-HTTP-Method-Override",
      "Destination",
    ]) {
      const more = { [name]: "/secret" };
      const target = "/photos/?rendezvous=pi";
      expect(
        await refusal({ path: "/photos/" }, target, "GET", more),
      ).to.include("a field of the request");
      expect(await refusal({}, target, "GET", more)).to.equal("");
    }
  });

  it("is refused for HTTP when it is for TCP", async () => {
    expect(await refusal({ ports: [80] })).to.include("for TCP only");
  });

  it("is refused in the same words whether the signature, the id or a claim is wrong", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const claims = { sub: "pi", iat: 1, exp: 2_000_000_000, jti: "a" };
    const other = grantFor(relay, "other");
    const strange = signGrant("grant+jwt", claims, Buffer.alloc(32));
    const bodies = await Promise.all(
      [other, strange, other.slice(0, -1)].map(async (grant) => {
        const { body } = await ask(relay, `/?rendezvous=pi&grant=${grant}`);
        return body.replaceAll(/[0-9a-f-]{36}/g, "ID");
      }),
    );
    expect(new Set(bodies).size).to.equal(1);
    expect(bodies[0])
      .to.include("not known")
      .and.include("with a secret that was taken back");
  });

  it("ends with the generation of its secret", async () => {
    const first = await startRelay();
    const grant = grantFor(first, "pi");
    const relay = await startRelay({ revoked: ["pi@1"] });
    await parkRecorder(relay, "pi");
    const old = await ask(relay, `/?rendezvous=pi&grant=${grant}`);
    expect(codeOf(old)).to.equal("grant_refused");
    const target = `/?rendezvous=pi&grant=${grantFor(relay, "pi")}`;
    expect((await ask(relay, target)).status).to.equal(200);
  });

  it("does not hinder one beside it that does, up to eight", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const good = `grant=${grantFor(relay, "pi")}`;
    const bad = `grant=${grantFor(relay, "other")}`;
    const shown = (...all: string[]): Promise<RawAnswer> =>
      ask(relay, `/?rendezvous=pi&${all.join("&")}`);
    expect((await shown(bad, good)).status).to.equal(200);
    const many = new Array<string>(8).fill(bad);
    expect((await shown(...many, good)).status).to.equal(403);
  });

  it("parks nothing", async () => {
    const relay = await startRelay();
    const grant = grantFor(relay, "pi", { seconds: 45 });
    const put = `uuid:pi?response=${grant}`;
    expect((await connectTo(relay, put)).status).to.equal(401);
    const shown = { Authorization: `Bearer ${grant}` };
    expect((await connectTo(relay, "uuid:pi", shown)).status).to.equal(407);
  });
});

describe("a grant for TCP", () => {
  async function offering(): Promise<TestRelay> {
    const relay = await startRelay();
    const port = await startEcho();
    const tcp = new Map([[22, { host: "127.0.0.1", port }]]);
    const target = createServer((_request, answer) => answer.end("ok"));
    await parkHere(relay, "pi", target, { tcp, private: true });
    return relay;
  }

  it("is cut when its grant ends, and so is an upgraded connection", async () => {
    const relay = await startRelay();
    const target = createServer().on("upgrade", (_request, socket) => {
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
      );
      socket.on("error", () => undefined).pipe(socket);
    });
    const tcp = new Map([[22, { host: "127.0.0.1", port: await startEcho() }]]);
    await parkHere(relay, "pi", target, { tcp, private: true });
    const short = grantFor(relay, "pi", { ports: [22], seconds: 1 });
    const long = grantFor(relay, "pi", { ports: [22] });
    const page = grantFor(relay, "pi", { seconds: 1 });
    const [cut, stays] = await Promise.all(
      [short, long].map((grant) =>
        connectTo(relay, "pi:22", { "Proxy-Authorization": `Bearer ${grant}` }),
      ),
    );
    const upgraded = await connectRaw(relay.port);
    upgraded.write(
      `GET /?rendezvous=pi&grant=${page} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n`,
    );
    await upgraded.take("\r\n\r\n");
    for (const raw of [cut?.raw, stays?.raw, upgraded]) {
      raw?.write("hello");
      await raw?.take("hello");
    }
    await until(
      () => cut?.raw.closed === "reset" && upgraded.closed === "reset",
    );
    stays?.raw.write("still here");
    await stays?.raw.take("still here");
  });

  it("lets through by CONNECT, shown in any of its ways", async () => {
    const relay = await offering();
    const bare = await connectTo(relay, "pi:22");
    expect(bare.status).to.equal(407);
    expect(bare.answer).to.include(
      'Proxy-Authenticate: Bearer realm="rendezvous", Basic realm="rendezvous"',
    );
    const grant = grantFor(relay, "pi", { ports: [22] });
    for (const [showing, show] of SHOWINGS.slice(1)) {
      const { fields } = show(grant, relay);
      const { raw, status } = await connectTo(relay, "pi:22", fields);
      expect(status, showing).to.equal(200);
      raw.write("hello");
      await raw.take("hello");
      expect((await connectTo(relay, "pi:80", fields)).status).to.equal(403);
    }
  });

  for (const [form, fields] of [
    ["connect-tcp", UPGRADE],
    ["WebSocket", WEBSOCKET],
  ] as const) {
    it(`lets through by ${form}, shown in any way`, async () => {
      const relay = await offering();
      const bare = await ask(relay, tcpPath(22), fields);
      expect(codeOf(bare)).to.equal("grant_wanted");
      const grant = grantFor(relay, "pi", { ports: [22] });
      for (const [showing, show] of SHOWINGS) {
        const { query, fields: more } = show(grant, relay);
        const target = (port: number): string =>
          tcpPath(port, query === "" ? "" : `?${query}`);
        const good = await ask(relay, target(22), { ...fields, ...more });
        expect(good.status, showing).to.equal(101);
        const other = await ask(relay, target(80), { ...fields, ...more });
        expect(codeOf(other), showing).to.equal("grant_refused");
      }
    });
  }

  it("is not one for HTTP", async () => {
    const relay = await offering();
    for (const limits of [{ path: "/" }, { methods: ["GET", "CONNECT"] }]) {
      const shown = `?grant=${grantFor(relay, "pi", limits)}`;
      const answer = await ask(relay, tcpPath(80, shown), UPGRADE);
      expect(answer.body).to.include("it is for HTTP only");
    }
  });

  for (const via of ["connect", "upgrade", "websocket", undefined] as const) {
    it(`takes dial() there by ${via ?? "the best way"}`, async () => {
      const relay = await offering();
      const to = { relay: relay.url, id: "pi", port: 22, via };
      let refused: unknown;
      await dial(to).catch((error: unknown) => (refused = error));
      expect(refused)
        .to.have.property("code")
        .that.is.oneOf(["grant_wanted", "missing_grant"]);
      const stream = await dial({ ...to, grant: grantFor(relay, "pi") });
      stream.end("hello");
      const said: Buffer[] = [];
      for await (const octets of stream) said.push(octets as Buffer);
      expect(Buffer.concat(said).toString()).to.equal("hello");
    });
  }
});

describe("a grant with uses", () => {
  it("is good for as many requests, whenever they come", async () => {
    const relay = await startRelay();
    const { seen } = await parkRecorder(relay, "pi");
    const grant = grantFor(relay, "pi", { uses: 3 });
    const target = `/?rendezvous=pi&grant=${grant}`;
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => ask(relay, target)),
    );
    const good = answers.filter(({ status }) => status === 200);
    expect(good).to.have.length(3);
    expect(seen).to.have.length(3);
    for (const answer of answers.filter(({ status }) => status !== 200))
      expect(answer.body).to.include("used as often as it may");
  });

  it("is good for as many of those who wait, and costs nothing who is not served", async () => {
    const relay = await startRelay({ holdSeconds: 15 });
    const grant = grantFor(relay, "pi", { uses: 1 });
    const target = `/?rendezvous=pi&grant=${grant}`;
    const left = await connectRaw(relay.port);
    left.write(`GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await relay.until(() => relay.counts().waiting === 1);
    left.socket.destroy();
    await relay.until(() => relay.counts().waiting === 0);
    const all = [ask(relay, target), ask(relay, target)];
    await relay.until(() => relay.counts().waiting === 2);
    await parkRecorder(relay, "pi");
    const statuses = (await Promise.all(all)).map(({ status }) => status);
    expect(statuses.sort()).to.deep.equal([200, 403]);
  });

  it("counts the opening of a link, and nothing that its cookie does", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const grant = grantFor(relay, "pi", { uses: 1 });
    const link = `/?rendezvous=pi&grant=${grant}`;
    const { answer, cookie } = await openLink(relay, link);
    expect(answer.status).to.equal(303);
    for (let i = 0; i < 3; i++) {
      const kept = await ask(relay, "/a?rendezvous=pi", { Cookie: cookie });
      expect(kept.status).to.equal(200);
    }
    // The same browser may open it again; nobody else may.
    const again = await openLink(relay, link, { Cookie: cookie });
    expect(again.answer.status).to.equal(303);
    expect(again.cookie).to.equal("");
    const other = await openLink(relay, link);
    expect(other.answer.status).to.equal(403);
    // What the cookie holds is good in no other place.
    const held = cookie.slice(cookie.indexOf("=") + 1);
    const elsewhere = await ask(relay, `/?rendezvous=pi&grant=${held}`);
    expect(elsewhere.status).to.equal(403);
    const bearer = { Authorization: `Bearer ${held}` };
    const asBearer = await ask(relay, "/?rendezvous=pi", bearer);
    expect(asBearer.status).to.equal(403);
    const asCookie = await ask(relay, "/?rendezvous=pi", {
      Cookie: `rendezvous-grant-pi=${grant}`,
    });
    expect(asCookie.status).to.equal(403);
  });

  it("is refused where no more can be counted, and never forgotten", () => {
    const key = deriveKey(RELAY_SECRET, "pi", 1);
    const grants = new Grants(() => key, "rendezvous");
    const take = (sub: string, jti: string) => {
      const iat = Math.floor(Date.now() / 1000);
      const claims = { sub, iat, exp: iat + 60, jti, uses: 1 };
      const token = signGrant("grant+jwt", claims, key);
      const head = Buffer.from(
        `GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      );
      const { visa } = grants.take(readRequestHead(head, 0, head.length));
      return visa.enter({ id: sub, method: "GET", target: "/" })?.detail ?? "";
    };
    for (let i = 0; i < 1000; i++) expect(take("pi", `${i}`)).to.equal("");
    expect(take("pi", "one more")).to.include("too many grants");
    expect(take("pi", "0")).to.include("as often as it may");
    expect(take("other", "0")).to.equal("");
    grants.sweep(performance.now() + 60_000);
    expect(take("pi", "0")).to.include("as often as it may");
  });
});

describe("a browser that opens a link", () => {
  const grantOf = (relay: TestRelay): string =>
    grantFor(relay, "pi", { path: "/photos/", methods: ["GET"], seconds: 60 });

  it("is led to the address without the grant, which it keeps in a cookie that allows no more", async () => {
    const relay = await startRelay({ cookieNaming: false });
    await parkRecorder(relay, "pi");
    const link = `/photos/?x=%41&grant=${grantOf(relay)}&rendezvous=pi`;
    const { answer, cookie } = await openLink(relay, link, {
      "Sec-Fetch-Mode": "navigate",
    });
    expect(answer.status).to.equal(303);
    expect(answer.fields).to.include({
      location: "/photos/?x=%41&rendezvous=pi",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
    });
    expect(answer.fields["set-cookie"]).to.match(
      /^rendezvous-grant-pi=[\w.-]+; Path=\/; HttpOnly; SameSite=Lax; Max-Age=(60|59)$/,
    );
    const at = (target: string, method = "GET"): Promise<RawAnswer> =>
      ask(relay, `${target}?rendezvous=pi`, { Cookie: cookie }, method);
    expect((await at("/photos/a")).status).to.equal(200);
    expect((await at("/secret")).status).to.equal(403);
    expect((await at("/photos/a", "DELETE")).status).to.equal(403);
    const exp = Math.floor(Date.now() / 1000) - 1;
    const key = deriveKey(RELAY_SECRET, "pi", 1);
    const claims = { sub: "pi", iat: exp - 60, exp, jti: "a" };
    const late = signGrant(GRANT_COOKIE, claims, key);
    const expired = await ask(relay, "/?rendezvous=pi", {
      Cookie: `rendezvous-grant-pi=${late}`,
    });
    expect(expired.body).to.include("it has expired");
  });

  it("gets a cookie that is good, however long the grant is", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const key = deriveKey(RELAY_SECRET, "pi", 1);
    const iat = Math.floor(Date.now() / 1000);
    const statuses = new Set<string>();
    for (let length = 2140; length < 2190; length++) {
      const path = `/${"x".repeat(length)}`;
      const claims = { sub: "pi", iat, exp: iat + 60, jti: "a", path };
      const grant = signGrant(GRANT, claims, key);
      const link = `${path}?rendezvous=pi`;
      const { answer, cookie } = await openLink(
        relay,
        `${link}&grant=${grant}`,
      );
      const next = await ask(relay, link, { Cookie: cookie });
      statuses.add(`${answer.status} ${next.status}`);
    }
    expect([...statuses]).to.deep.equal(["303 200", "403 401"]);
  });

  it("gets a secure cookie over TLS, under the name that the operator has chosen", async () => {
    const relay = await startRelay({ trustProxy: 1, parameter: "to" });
    const link = `/photos/?to=pi&grant=${grantOf(relay)}`;
    const { answer } = await openLink(relay, link, {
      "X-Forwarded-Proto": "https",
    });
    expect(answer.fields["set-cookie"]).to.match(/^to-grant-pi=.*; Secure$/);
  });

  it("is not led to another host", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const query = `?rendezvous=pi&grant=${grantFor(relay, "pi")}`;
    for (const target of [`//evil.example/${query}`, `/\\evil/${query}`]) {
      const { answer } = await openLink(relay, target);
      expect(answer.status).to.equal(200);
      expect(answer.fields["referrer-policy"]).to.equal("no-referrer");
    }
  });

  it("is told plainly that a link is no good", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    const link = `/secret?rendezvous=pi&grant=${grantOf(relay)}`;
    const { answer } = await openLink(relay, link);
    expect(answer.status).to.equal(403);
    expect(answer.fields["referrer-policy"]).to.equal("no-referrer");
    expect(answer.body).to.include(
      "it is for another path; if you have a link for this page, open that again",
    );
  });

  it("is rid of all grants when it leaves", async () => {
    const relay = await startRelay();
    const { fields } = await ask(relay, "/-/leave", {
      Cookie: "rendezvous=pi; rendezvous-grant-pi=x; rendezvous-grant-b=y; c=d",
    });
    const cleared = [...(fields["set-cookie"] ?? "").matchAll(/([\w-]+)=;/g)];
    expect(cleared.map(([, name]) => name)).to.have.members([
      "rendezvous",
      "rendezvous-grant-pi",
      "rendezvous-grant-b",
    ]);
  });
});

describe("a grant on its way", () => {
  it("never reaches a hidden server, whoever's it is and wherever it stands", async () => {
    const relay = await startRelay();
    const { seen } = await parkRecorder(relay, "open", {});
    const grant = grantFor(relay, "pi");
    await ask(
      relay,
      `/a?grant=${grant}&x=1&%67rant=${grant.replace(".", "%2e")}&rendezvous=open`,
      {
        Authorization: `bearer ${grant}`,
        "Proxy-Authorization": basic("pi", grant),
        Cookie: `own=2; rendezvous-grant-pi=${grant}; rendezvous-grant-=z`,
        Referer: `http://x/b?grant=${grant}&y=2`,
      },
    );
    expect(seen).to.have.length(1);
    const [head = ""] = seen;
    expect(head).to.match(/^GET \/a\?x=1\n/);
    expect(head).to.include("Cookie\nown=2\n");
    expect(head).to.include("Referer\nhttp://x/b?y=2\n");
    expect(head).to.not.match(/eyJ|grant|authorization/i);
  });

  it("is found in whatever company, and nothing else is touched", () => {
    const key = deriveKey(RELAY_SECRET, "pi", 1);
    const grants = new Grants(() => key, "rendezvous");
    const iat = Math.floor(Date.now() / 1000);
    const claims = { sub: "pi", iat, exp: iat + 60, jti: "a" };
    const grant = signGrant("grant+jwt", claims, key);
    const cookie = `rendezvous-grant-pi=${grant}`;
    const queries = fc.array(
      fc.constantFrom(
        "a=1",
        "",
        "=",
        "%",
        "grant",
        "grant=x",
        `grant=${grant}`,
        `%67rant=${grant}`,
        `grant=${grant.replaceAll(".", "%2E")}`,
      ),
      { maxLength: 6 },
    );
    const cookies = fc.array(
      fc.constantFrom(
        "a=1",
        "",
        "rendezvous=pi",
        "grant=x",
        cookie,
        ` ${cookie}`,
      ),
      { maxLength: 6 },
    );
    const logins = fc.constantFrom(
      `Bearer ${grant}`,
      `bearer\t${grant} , ${grant}`,
      "Bearer other",
      basic("pi", "x"),
    );
    const isOurs = (text: string): boolean => text.includes(grant.slice(0, 20));
    const cut = (parts: readonly string[], by: string): string =>
      parts.filter((part) => !isOurs(part)).join(by);
    fc.assert(
      fc.property(queries, cookies, logins, (query, jar, login) => {
        const target = `/a?${query.join("&")}`;
        const head = Buffer.from(
          `GET ${target} HTTP/1.1\r\nHost: x\r\nReferer: http://x${target}\r\nCookie: ${jar.join(";")}\r\nAuthorization: ${login}\r\nX: y\r\n\r\n`,
        );
        const given = readRequestHead(head, 0, head.length);
        const { request, visa } = grants.take(given);
        const shown = [...query, ...jar, login].some(isOurs);
        expect(JSON.stringify(request)).to.not.include(grant.slice(0, 20));
        const wanted = { id: "pi", method: "GET", target: "/" };
        const isGood = [...query, login].some(isOurs);
        expect(visa.refuses(wanted) === undefined).to.equal(isGood);
        if (!shown) expect(request).to.equal(given);
        const kept = cut(query, "&");
        const isBare = query.every(isOurs) && query.length > 0;
        expect(request.target).to.equal(isBare ? "/a" : `/a?${kept}`);
        expect(request.fields).to.include.members(["Host", "x", "X", "y"]);
      }),
      { numRuns: 2000 },
    );
  });

  it("is not mistaken for what is the hidden server's own", async () => {
    const relay = await startRelay();
    const { seen } = await parkRecorder(relay, "open", {});
    await ask(relay, "/?grant=full&rendezvous=open&grant=a.b.c", {
      Authorization: "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
      Cookie: "grant=mine",
      Referer: "http://x/?grant=full",
    });
    const [head = ""] = seen;
    expect(head).to.match(/^GET \/\?grant=full&grant=a\.b\.c\n/);
    expect(head).to.include("Bearer eyJhbGciOiJIUzI1NiJ9.e30.x");
    expect(head).to.include("Cookie\ngrant=mine\n");
    expect(head).to.include("Referer\nhttp://x/?grant=full\n");
  });

  it("can be planted by no hidden server", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "open", {});
    const { fields } = await ask(relay, "/?rendezvous=open");
    expect(fields).to.not.have.property("cache-control");
    expect(fields["set-cookie"]).to.equal("own=1");
  });

  it("is not in the log, whatever becomes of it", async () => {
    const out = new PassThrough();
    let log = "";
    out.on("data", (text: Buffer) => (log += text.toString()));
    const at = await startRelay(
      { holdSeconds: 0.2 },
      pino({ level: "trace" }, out),
    );
    await parkRecorder(at, "pi");
    const grant = grantFor(at, "pi", { path: "/a", methods: ["GET"] });
    const shown = { Authorization: `Bearer ${grant}` };
    for (const target of [
      `/a?rendezvous=pi&grant=${grant}`,
      `/b?rendezvous=pi&grant=${grant}`,
      `/?rendezvous=nobody&grant=${grant}`,
      `/?rendezvous=x_y&grant=${grant}`,
      `ftp://x/?grant=${grant}`,
      `/?uuid=pi&grant=${grant}`,
      tcpPath(22, `?grant=${grant}`),
    ])
      await ask(at, target, { Accept: "text/html", ...shown });
    await connectTo(at, "pi:22", shown);
    await connectTo(at, "uuid:pi", shown);
    expect(log).to.include("grant_refused");
    expect(log).to.not.include(grant.slice(-20));
    expect(log).to.not.include("eyJ");
  });
});

describe("the generic protocol and a private server", () => {
  const lookUp = (relay: TestRelay, more = ""): Promise<RawAnswer> =>
    ask(relay, `/?uuid=pi${more}`);

  it("looks up and meets with a grant that allows port 80", async () => {
    const relay = await startRelay();
    await parkRecorder(relay, "pi");
    expect(codeOf(await lookUp(relay))).to.equal("grant_wanted");
    const other = `&grant=${grantFor(relay, "pi", { ports: [22] })}`;
    expect(codeOf(await lookUp(relay, other))).to.equal("grant_refused");
    const path = `&grant=${grantFor(relay, "pi", { path: "/" })}`;
    expect(codeOf(await lookUp(relay, path))).to.equal("grant_refused");
    const good = `&grant=${grantFor(relay, "pi", { uses: 1 })}`;
    const { body } = await lookUp(relay, good);
    const [, cookie = ""] = /"cookie":"(I[^"]+)"/.exec(body) ?? [];
    expect(codeOf(await lookUp(relay, good))).to.equal("grant_refused");
    const { raw } = await connectTo(relay, "x:80");
    raw.write(`${cookie}\nGET / HTTP/1.1\r\nHost: x\r\n\r\n`);
    await raw.take("+OK\n");
    await raw.take("200 OK");
  });

  it("lets nobody meet it with a cookie from when it was open", async () => {
    const relay = await startRelay();
    await parkRaw(relay, "pi");
    const { body } = await lookUp(relay);
    const [, cookie = ""] = /"cookie":"(I[^"]+)"/.exec(body) ?? [];
    await parkRecorder(relay, "pi");
    const { raw } = await connectTo(relay, "x:80");
    raw.write(`${cookie}\n`);
    await raw.take("-ERR grant wanted\n");
  });
});
