// Requests for TCP streams: what is refused, what is granted and how, and those that another door takes.
import { expect } from "chai";
import { createServer, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { SWITCH, parkForWaiting, parkRaw, takeAsk } from "../support/hidden.ts";
import type { Raw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import {
  DATA,
  TCP_PATH,
  connectTcp,
  connectTo,
  data,
  echo,
  offerService,
  reach,
  visit,
} from "../support/streams.ts";
import { startTcp } from "../support/tcp.ts";

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

/** The payload of a short capsule whose type was taken. */
async function takeCapsule(raw: Raw): Promise<string> {
  const length = (await raw.takeOctets(1)).charCodeAt(0);
  return raw.takeOctets(length);
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
      const hidden = await parkForWaiting(relay, "pi");
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
      came += (await visitor.take(DATA), await takeCapsule(visitor));
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
