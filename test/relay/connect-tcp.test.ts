// The TCP door, one visit at a time: what is refused, how it is answered, and how streams end.
import { expect } from "chai";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:http";
import type { Socket } from "node:net";
import {
  parkRaw,
  parkRawAgent,
  parkRawUnproved,
  pong,
} from "../support/hidden.ts";
import type { Raw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import {
  TCP_PATH,
  connectTcp,
  connectTo,
  data,
  echo,
  final,
  listen,
  offerService,
  reach,
  readAll,
  unknown,
  visit,
} from "../support/streams.ts";
import { startTcp } from "../support/tcp.ts";

const SWITCH =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nCapsule-Protocol: ?1\r\n\r\n";
/** What is wrong, how it is said, and the answer. */
const BAD_REQUESTS: readonly [
  what: string,
  request: string,
  status: number,
  code: string,
][] = [
  ["POST", connectTcp().replace("GET", "POST"), 426, "upgrade_wanted"],
  [
    "no Upgrade",
    `GET ${TCP_PATH}pi/7/ HTTP/1.1\r\nHost: r\r\n\r\n`,
    426,
    "upgrade_wanted",
  ],
  [
    "another Upgrade",
    connectTcp().replace("Upgrade: connect-tcp", "Upgrade: h2c"),
    426,
    "upgrade_wanted",
  ],
  [
    "an Upgrade that Connection does not name",
    connectTcp().replace("Connection: Upgrade\r\n", ""),
    426,
    "upgrade_wanted",
  ],
  [
    "HTTP/1.0, which has no upgrades",
    connectTcp().replace("HTTP/1.1", "HTTP/1.0"),
    426,
    "upgrade_wanted",
  ],
  ["port 0", connectTcp("pi/0"), 400, "bad_target"],
  ["port 65536", connectTcp("pi/65536"), 400, "bad_target"],
  ["a port with a leading zero", connectTcp("pi/07"), 400, "bad_target"],
  ["a leading zero in code", connectTcp("pi/%307"), 400, "bad_target"],
  ["a port that cannot be decoded", connectTcp("pi/%7"), 400, "bad_target"],
  ["a port that is no number", connectTcp("pi/ssh"), 400, "bad_target"],
  ["a negative port", connectTcp("pi/-7"), 400, "bad_target"],
  ["no port", connectTcp("pi"), 400, "bad_target"],
  ["no host", connectTcp("/7"), 400, "bad_target"],
  ["no slash at the end", connectTcp().replace("/7/", "/7"), 400, "bad_target"],
  ["a third segment", connectTcp("pi/7/8"), 400, "bad_target"],
  ["a host that cannot be decoded", connectTcp("%zz/7"), 400, "bad_target"],
  ["a host of two labels", connectTcp("a.pi/7"), 404, "unknown_server"],
  ["a host elsewhere", connectTcp("example.com/443"), 404, "unknown_server"],
  ["an address", connectTcp("127.0.0.1/22"), 404, "unknown_server"],
  ["an IPv6 address", connectTcp("%3A%3A1/22"), 404, "unknown_server"],
  ["a slash in the host", connectTcp("pi%2Fx/7"), 404, "unknown_server"],
  ["a line end in the host", connectTcp("pi%0D%0A/7"), 404, "unknown_server"],
  [
    "a body with a length",
    connectTcp("pi/7", "Content-Length: 5\r\n"),
    400,
    "bad_request",
  ],
  [
    "a body in chunks",
    connectTcp("pi/7", "Transfer-Encoding: chunked\r\n"),
    400,
    "bad_request",
  ],
  ["two Hosts", connectTcp("pi/7", "Host: other\r\n"), 400, "bad_request"],
  ["no Host", connectTcp().replace("Host: relay\r\n", ""), 400, "bad_request"],
  ["a port that is not offered", connectTcp("pi/22"), 403, "not_offered"],
  ["a CONNECT to port 0", connectTo("pi:0"), 400, "bad_target"],
  ["a CONNECT to port 07", connectTo("pi:07"), 400, "bad_target"],
  ["a CONNECT to port 65536", connectTo("pi:65536"), 400, "bad_target"],
  ["a CONNECT elsewhere", connectTo("example.com:443"), 404, "unknown_server"],
  ["a CONNECT to an address", connectTo("127.0.0.1:22"), 404, "unknown_server"],
  ["a CONNECT to port 22", connectTo("pi:22"), 403, "not_offered"],
];

/** Takes the relay's question for a stream off a tunnel. */
async function takeAsk(hidden: Raw, port = 7): Promise<string> {
  const question = await hidden.take("\r\n\r\n");
  expect(question).to.match(
    new RegExp(
      `^GET /\\.well-known/masque/tcp/localhost/${String(port)}/ HTTP/1\\.1\\r\\n`,
    ),
  );
  return question;
}

describe("a request for a TCP stream", () => {
  for (const [what, request, status, code] of BAD_REQUESTS) {
    it(`is answered with ${status} for ${what}`, async () => {
      const { relay } = await offerService(echo);
      const visitor = await visit(relay, request);
      const answer = await visitor.answer();
      expect(answer.status).to.equal(status);
      expect(answer.body).to.contain(`"code":"${code}"`);
      expect(answer.fields["proxy-status"]).to.match(
        new RegExp(`^rendezvous; error=\\w+; details="${code}"$`),
      );
      if (status !== 426) return;
      expect(answer.fields["upgrade"]).to.equal("connect-tcp, websocket");
      expect(answer.fields["connection"]).to.match(/^Upgrade(, close)?$/);
    });
  }

  for (const [form, request] of Object.entries({
    "connect-tcp": connectTcp("pi/22"),
    CONNECT: connectTo("pi:22"),
  })) {
    it(`by ${form} that is refused is the last on its connection: what was sent in advance is no request`, async () => {
      const { relay } = await offerService(echo);
      const visitor = await visit(
        relay,
        `${request}GET / HTTP/1.1\r\nHost: relay\r\n\r\n`,
      );
      const answer = await visitor.answer();
      expect(answer.status).to.equal(403);
      expect(answer.fields).to.include({ connection: "close" });
      await visitor.end();
      expect(visitor.received).to.equal("");
    });
  }

  it("may have its host and its port in percent-encoding", async () => {
    const { relay } = await offerService(echo);
    const visitor = await reach(relay, connectTcp("%70%69/%37"));
    visitor.write(data("hello"));
    await visitor.take(data("hello"));
  });

  it("is granted with the fields of the draft", async () => {
    const { relay } = await offerService(echo);
    const visitor = await visit(relay, connectTcp());
    const { fields, status } = await visitor.answer();
    expect(status).to.equal(101);
    expect(fields).to.include({
      connection: "Upgrade",
      upgrade: "connect-tcp",
      "capsule-protocol": "?1",
      "proxy-status": "rendezvous",
    });
    expect(fields).not.to.have.any.keys("content-length", "transfer-encoding");
  });

  it("is granted to CONNECT with Proxy-Status and no body", async () => {
    const { relay } = await offerService(echo);
    const visitor = await visit(relay, connectTo());
    const head = await visitor.take("\r\n\r\n");
    expect(head).to.match(/^HTTP\/1\.1 200 OK\r\n/);
    expect(head).to.match(/\r\nProxy-Status: rendezvous\r\n/);
    expect(head).not.to.match(/content-length|transfer-encoding/i);
  });

  for (const [what, host, settings] of [
    ["in upper case", "PI", {}],
    [
      "with the suffix for clients that want a dot",
      "pi.rendezvous.internal",
      {},
    ],
    ["below the base domain", "pi.example.com", { baseDomain: "example.com" }],
  ] as const) {
    it(`may name the server ${what}`, async () => {
      const { relay } = await offerService(echo, settings);
      const visitor = await reach(relay, connectTcp(`${host}/7`));
      visitor.write(data("hello"));
      await visitor.take(data("hello"));
      const other = await reach(relay, connectTo(`${host}:7`));
      other.write("hello");
      await other.take("hello");
    });
  }

  for (const request of [connectTcp, connectTo]) {
    it(`is told at once to continue, if it asks so, by ${request.name}`, async () => {
      const relay = await startRelay({ holdSeconds: 10 });
      const visitor = await visit(
        relay,
        request(undefined, "Expect: 100-continue\r\n"),
      );
      await visitor.take("HTTP/1.1 100 Continue\r\n\r\n");
      const hidden = await parkRawAgentLate(relay);
      await takeAsk(hidden);
      hidden.write(SWITCH);
      expect(await visitor.take("\r\n\r\n")).to.match(/^HTTP\/1.1 (101|200) /);
    });
  }

  it("keeps the capsules that came with it", async () => {
    const { relay } = await offerService(echo);
    const visitor = await visit(relay, connectTcp() + data("one"));
    visitor.write(data("two"));
    await visitor.take("\r\n\r\n");
    let came = "";
    while (came.length < 6)
      came += (await visitor.take(DATA_TYPE), await takeCapsule(visitor));
    expect(came).to.equal("onetwo");
  });

  it("keeps the octets that came with a CONNECT", async () => {
    const { relay } = await offerService(echo);
    const visitor = await visit(relay, `${connectTo()}one`);
    visitor.write("two");
    await visitor.take("\r\n\r\n");
    expect(await visitor.takeOctets(6)).to.equal("onetwo");
  });
});

/** The payload of a short capsule whose type was taken. */
async function takeCapsule(raw: Raw): Promise<string> {
  const length = (await raw.takeOctets(1)).charCodeAt(0);
  return raw.takeOctets(length);
}

/** Parks for visitors who wait already: the tunnel never stands idle. */
async function parkRawAgentLate(relay: TestRelay): Promise<Raw> {
  const { raw, nonce } = await parkRawUnproved(relay, "pi");
  return raw.write(pong(nonce));
}

const DATA_TYPE = "\xa0\x28\xd7\xf2";

describe("a TCP stream", () => {
  const forms = [
    { form: "connect-tcp", request: connectTcp(), data, final },
    {
      form: "CONNECT",
      request: connectTo(),
      data: (text: string) => text,
      final: () => "",
    },
  ] as const;

  for (const { form, request, data, final } of forms) {
    const close = (visitor: Raw): void => {
      visitor.write(final());
      if (form === "CONNECT") visitor.socket.end();
    };

    it(`by ${form} goes on towards the visitor when he has ended`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, request);
      const service = await next();
      const heard = readAll(service);
      visitor.write(data("question"));
      close(visitor);
      expect(await heard).to.equal("question");
      service.write("answer");
      await visitor.take(data("answer"));
      service.end();
      await visitor.end();
      expect(visitor.received).to.equal(final());
      visitor.socket.end();
      expect(await visitor.close()).to.equal("clean");
      await relay.until(() => relay.counts().connections === 0);
    });

    it(`by ${form} goes on towards the service when that has ended`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, request);
      const service = await next();
      const heard = readAll(service);
      service.end("greeting");
      await visitor.take(data("greeting") + final());
      if (form === "CONNECT") await visitor.end();
      else expect(visitor.ended).to.be.false;
      visitor.write(data("still here"));
      close(visitor);
      expect(await heard).to.equal("still here");
      await visitor.end();
    });

    it(`by ${form} is reset at the service when the visitor's is reset`, async () => {
      const { relay, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      const cut = once(await next(), "error");
      visitor.socket.resetAndDestroy();
      const [error] = (await cut) as [NodeJS.ErrnoException];
      expect(error.code).to.equal("ECONNRESET");
    });

    it(`by ${form} is reset at the visitor's when the service resets it`, async () => {
      const { relay, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      (await next()).resetAndDestroy();
      expect(await visitor.close()).to.equal("reset");
    });

    it(`by ${form} is reset at both ends when the agent dies`, async () => {
      const { relay, agent, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      await next();
      await agent.close();
      expect(await visitor.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  for (const [what, octets] of [
    ["no FINAL_DATA", ""],
    ["a type in part", "\xa0\x28"],
    ["a length in part", `${DATA_TYPE}\x40`],
    ["a capsule in part", `${DATA_TYPE}\x04`],
    ["a FINAL_DATA in part", final("some").slice(0, -4)],
    ["DATA after FINAL_DATA", final() + data("more")],
    ["FINAL_DATA after FINAL_DATA", final() + final()],
  ] as const) {
    it(`that ends with ${what} is a cut, and is passed on as a reset`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, connectTcp());
      const service = await next();
      const cut = new Promise<string>((resolve) => {
        service.on("error", (error: NodeJS.ErrnoException) => {
          resolve(error.code ?? "");
        });
      });
      visitor.write(data("some"));
      await once(service, "data");
      visitor.socket.end(octets, "latin1");
      expect(await cut).to.equal("ECONNRESET");
      expect(await visitor.close()).to.be.oneOf(["clean", "reset"]);
    });
  }

  it("passes over capsules of types that nobody knows", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    const heard = readAll(await next());
    // 0x4000 octets of type 0x29 * 3 + 0x17, reserved so that they are skipped (RFC 9297 5.4).
    const huge = `\x40\x92\x80\x00\x40\x00${"x".repeat(0x4000)}`;
    for (const octets of [
      ...[unknown("skip"), data("one"), huge, unknown(""), data("two")],
      ...[final("end"), unknown("skip")],
    ])
      visitor.write(octets);
    expect(await heard).to.equal("onetwoend");
  });

  it("takes empty DATA for heartbeats, and gives the service nothing", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    const heard = readAll(await next());
    visitor.write(data("") + data("a") + data("") + final());
    expect(await heard).to.equal("a");
  });

  it("holds megabytes back when the other side does not read", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTo());
    const service = await next();
    service.pause();
    const octets = Buffer.alloc(64 * 1024);
    // Until nothing moves any more: the kernel's buffers of three connections are full.
    let written = 0;
    while (written < 256 * 1024 * 1024) {
      written += octets.length;
      if (visitor.socket.write(octets)) continue;
      const moved = await Promise.race([
        once(visitor.socket, "drain").then(() => true),
        turns(200).then(() => false),
      ]);
      if (!moved) break;
    }
    expect(written).to.be.below(64 * 1024 * 1024);
    const { arrayBuffers } = process.memoryUsage();
    expect(arrayBuffers).to.be.below(64 * 1024 * 1024);
    visitor.socket.end();
    let came = 0;
    service.on("data", (more: Buffer) => (came += more.length));
    service.resume();
    await once(service, "end");
    expect(came).to.equal(written);
  });
});

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++)
    await new Promise((resolve) => setImmediate(resolve));
}

describe("the relay's question for a TCP stream", () => {
  it("is given up when the visitor leaves", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, connectTcp());
    await takeAsk(hidden);
    visitor.socket.destroy();
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
    expect(relay.counts()).to.include({ connections: 0, waiting: 0 });
  });

  it("says for whom it asks, and in whose name", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    await visit(relay, connectTo());
    const question = await takeAsk(hidden);
    expect(question).to.match(/\r\nHost: pi\r\n/);
    expect(question).to.match(/\r\nUpgrade: connect-tcp\r\n/);
    expect(question).to.match(/\r\nRendezvous-Dial: 7\r\n/);
    expect(question).to.match(/\r\nX-Forwarded-For: 127\.0\.0\.1\r\n/);
    expect(question).to.match(/\r\nVia: 1\.1 rendezvous-/);
  });

  it("is put once more when the tunnel breaks before the answer", async () => {
    const relay = await startRelay();
    const [one, two] = [
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
    ];
    const visitor = await visit(relay, connectTo());
    await takeAsk(two);
    two.socket.destroy();
    await takeAsk(one);
    one.write(`${SWITCH}${data("hello")}`);
    await visitor.take("\r\n\r\n");
    await visitor.take("hello");
  });

  it("is not put a third time", async () => {
    const relay = await startRelay();
    const hidden = [
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
    ];
    const visitor = await visit(relay, connectTo());
    for (const raw of hidden.slice(1).reverse()) {
      await takeAsk(raw);
      raw.socket.resetAndDestroy();
    }
    const answer = await visitor.answer();
    expect(answer.status).to.equal(502);
    expect(answer.body).to.contain("tunnel_lost");
    expect(relay.counts()).to.include({ idle: 1 });
  });

  it("may be answered octet by octet", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    hidden.socket.setNoDelay();
    const visitor = await visit(relay, connectTo());
    await takeAsk(hidden);
    for (const octet of SWITCH + data("hello")) hidden.write(octet);
    await visitor.take("\r\n\r\n");
    await visitor.take("hello");
  });

  for (const [what, answer, status, code] of [
    ["no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", 502, "bad_answer"],
    ["half a head", "HTTP/1.1 101 Switching", 502, "bad_answer"],
    [
      "an upgrade to something else",
      SWITCH.replace("connect-tcp", "websocket"),
      403,
      "not_offered",
    ],
    [
      "a page of some other server",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
      403,
      "not_offered",
    ],
    [
      "a code that is not ours",
      "HTTP/1.1 404 Not Found\r\nRendezvous-Failure: nonsense\r\n\r\n",
      403,
      "not_offered",
    ],
    [
      "the agent's own code",
      "HTTP/1.1 502 Bad Gateway\r\nRendezvous-Failure: target_down\r\n\r\n",
      502,
      "target_down",
    ],
  ] as const) {
    it(`is answered for the visitor when it gets ${what}`, async () => {
      const relay = await startRelay();
      const hidden = await parkRawAgent(relay, "pi");
      const visitor = await visit(relay, connectTcp());
      await takeAsk(hidden);
      hidden.socket.end(answer, "latin1");
      const told = await visitor.answer();
      expect(told.status).to.equal(status);
      expect(told.body).to.contain(`"code":"${code}"`);
      expect(told.fields).to.have.property("proxy-status");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("that is not answered within ANSWER_SECONDS ends in a 504", async () => {
    const relay = await startRelay({ answerSeconds: 0.3 });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, connectTcp());
    await takeAsk(hidden);
    const answer = await visitor.answer();
    expect(answer.status).to.equal(504);
    expect(answer.body).to.contain("no_answer");
    expect(answer.fields["proxy-status"]).to.contain("http_response_timeout");
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
  });
});

describe("a TCP visit without a fresh tunnel", () => {
  it("waits for one", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const visitor = await visit(relay, `${connectTo()}early`);
    await relay.until(() => relay.counts().waiting === 1);
    const hidden = await parkRawAgentLate(relay);
    await takeAsk(hidden);
    hidden.write(SWITCH);
    await visitor.take("\r\n\r\n");
    await hidden.take(data("early"));
  });

  it("waits no longer than HOLD_SECONDS", async () => {
    const relay = await startRelay({ holdSeconds: 0.3 });
    await parkRaw(relay, "pi").then((raw) => raw.socket.destroy());
    await relay.until(() => relay.counts().tunnels === 0);
    const visitor = await visit(relay, connectTcp());
    const answer = await visitor.answer();
    expect(answer.status).to.equal(503);
    expect(answer.fields).to.include.keys("retry-after", "proxy-status");
  });

  it("leaves the queue with the visitor", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const visitor = await visit(relay, connectTcp());
    await relay.until(() => relay.counts().waiting === 1);
    visitor.socket.destroy();
    await relay.until(() => relay.counts().waiting === 0);
  });

  it("makes room where there are only tunnels that a service is joined to", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const used = await parkRawAgent(relay, "pi");
    const first = await visit(
      relay,
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: r\r\n\r\n",
    );
    await used.take("\r\n\r\n");
    used.write("HTTP/1.1 204 No Content\r\n\r\n");
    await first.answer();
    await relay.until(() => relay.counts().idle === 1);
    const visitor = await visit(relay, connectTo());
    await used.end();
    used.socket.end();
    await takeAsk(await parkRawAgentLate(relay));
    visitor.socket.destroy();
  });

  it("gets room as soon as an exchange is over", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const used = await parkRawAgent(relay, "pi");
    const first = await visit(
      relay,
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: r\r\n\r\n",
    );
    await used.take("\r\n\r\n");
    const visitor = await visit(relay, connectTo());
    await relay.until(() => relay.counts().waiting === 1);
    used.write("HTTP/1.1 204 No Content\r\n\r\n");
    await first.answer();
    // Not kept for the next request of HTTP, for which it would stand idle for seconds.
    await used.end();
    used.socket.end();
    await takeAsk(await parkRawAgentLate(relay));
    visitor.socket.destroy();
  });
});

describe("a request for the path of connect-tcp that names a server itself", () => {
  const named = (line: string, host = "relay", more = ""): string =>
    `GET ${line} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n${more}\r\n`;
  const path = `${TCP_PATH}db/5432/`;

  for (const [how, request] of [
    ["the query", named(`${path}?rendezvous=pi`)],
    ["an absolute target", named(`http://pi${path}`, "pi")],
    ["the host", named(path, "pi.example.com")],
  ] as const) {
    it(`by ${how} belongs to that server, and is spliced`, async () => {
      const relay = await startRelay({ baseDomain: "example.com" });
      const hidden = await parkRaw(relay, "pi");
      const visitor = await visit(relay, request);
      const head = await hidden.take("\r\n\r\n");
      expect(head).to.match(/^GET \/\.well-known\/masque\/tcp\/db\/5432\/ /);
      expect(head).to.match(/\r\nUpgrade: connect-tcp\r\n/);
      hidden.write(`${SWITCH}anything`);
      await visitor.take("\r\n\r\n");
      await visitor.take("anything");
      visitor.write("at all");
      await hidden.take("at all");
    });
  }

  for (const [what, field] of [
    ["a cookie", "Cookie: rendezvous=other\r\n"],
    ["a login", `Authorization: Basic ${btoa("other:x")}\r\n`],
  ] as const) {
    it(`is not led away by ${what}`, async () => {
      const { relay } = await offerService(echo);
      const other = await parkRaw(relay, "other");
      const visitor = await reach(relay, connectTcp("pi/7", field));
      visitor.write(data("hello"));
      await visitor.take(data("hello"));
      expect(other.received).to.equal("");
    });
  }

  it("never passes for the relay's own question", async () => {
    const relay = await startRelay();
    let dialled = 0;
    const seen: IncomingMessage[] = [];
    const server = createServer();
    server.on("upgrade", (asked, socket: Socket) => {
      seen.push(asked);
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    });
    const port = await startTcp(() => ++dialled);
    await parkHere(relay, "pi", server, {
      tcp: new Map([[7, { host: "127.0.0.1", port }]]),
    });
    for (const name of ["Rendezvous-Dial", "rendezvous-dial"]) {
      const visitor = await visit(
        relay,
        named(`${TCP_PATH}localhost/7/?rendezvous=pi`, "r", `${name}: 7\r\n`),
      );
      expect((await visitor.answer()).status).to.equal(403);
    }
    expect(seen.map(({ headers }) => headers["rendezvous-dial"])).to.deep.equal(
      [undefined, undefined],
    );
    expect(dialled).to.equal(0);
  });
});
