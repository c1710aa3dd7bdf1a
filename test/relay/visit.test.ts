// Visits over HTTP as visitors and hidden servers see them, octet by octet where that matters.
import { expect } from "chai";
import { once } from "node:events";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
} from "node:http";
import { HttpProxyAgent } from "http-proxy-agent";
import { parkRaw, parkRawAgent } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPGRADE = "Connection: Upgrade\r\nUpgrade: chat\r\n";
const SWITCH = `HTTP/1.1 101 Switching Protocols\r\n${UPGRADE}\r\n`;
/** More than the socket buffers of both ends hold, several times. */
const FLOOD_OCTETS = 64 * 1024 * 1024;
const PIECE = Buffer.alloc(64 * 1024, "x");

const get = (target: string, fields = ""): string =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields}\r\n`;
const plain = (text: string): string =>
  text.replaceAll(/rendezvous-[0-9a-f]{8}/g, "RELAY");

/** What the hidden server `pi` sees of a request: the value of a field, and the whole head. */
async function seenBy(
  relay: TestRelay,
  sent: string,
): Promise<{
  head: string;
  field: (name: string) => string | undefined;
  visitor: Raw;
  hidden: Raw;
}> {
  const hidden = await parkRawAgent(relay, "pi");
  const visitor = await connectRaw(relay.port);
  visitor.write(sent);
  const head = await hidden.take("\r\n\r\n");
  const field = (name: string): string | undefined =>
    head
      .split("\r\n")
      .find((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))
      ?.slice(name.length + 1)
      .trim();
  return { head, field, visitor, hidden };
}

/** What the visitor sees of an answer. */
async function answered(
  answer: string,
  sent = get("/?rendezvous=pi"),
): Promise<{ visitor: Raw; hidden: Raw; relay: TestRelay }> {
  const relay = await startRelay();
  const { visitor, hidden } = await seenBy(relay, sent);
  hidden.write(answer);
  return { visitor, hidden, relay };
}

describe("a request", () => {
  for (const method of [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "M-SEARCH",
    "INVENTED",
    "get",
  ]) {
    it(`of method ${method} arrives as it is`, async () => {
      const relay = await startRelay();
      const { head, hidden, visitor } = await seenBy(
        relay,
        `${method} /a?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n`,
      );
      expect(head).to.match(new RegExp(`^${method} /a HTTP/1\\.1\r\n`));
      hidden.write(
        method === "HEAD" ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" : OK,
      );
      expect((await visitor.answer(method)).status).to.equal(200);
    });
  }

  it("keeps order, case and repeats of its fields, and loses those of this hop only", async () => {
    const relay = await startRelay();
    const { head } = await seenBy(
      relay,
      get(
        "/?rendezvous=pi",
        "X-b: 1\r\naccept: */*\r\nX-B: 2\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: gzip\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 3\r\nx-B: 1\r\nEmpty:\r\n",
      ),
    );
    expect(plain(head)).to.equal(
      'GET / HTTP/1.1\r\nHost: x\r\nX-b: 1\r\naccept: */*\r\nX-B: 2\r\nx-B: 1\r\nEmpty: \r\nVia: 1.1 RELAY\r\nForwarded: for=127.0.0.1;host="x";proto=http\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: x\r\n\r\n',
    );
  });

  it("says that its sender takes trailers, where he does", async () => {
    const relay = await startRelay();
    const { head } = await seenBy(
      relay,
      get("/?rendezvous=pi", "TE: trailers, gzip\r\nConnection: TE\r\n"),
    );
    expect(head).to.match(/\r\nTE: trailers\r\nConnection: TE\r\n\r\n$/);
  });

  it("brings its trailers", async () => {
    const relay = await startRelay();
    const { hidden, head } = await seenBy(
      relay,
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    expect(head)
      .to.include("\r\nTrailer: X-Sum\r\n")
      .and.include("\r\nTransfer-Encoding: chunked\r\n");
    expect(await hidden.take("\r\n\r\n")).to.equal(
      "2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
  });

  it("has its body passed on as it comes, before its end", async () => {
    const relay = await startRelay();
    const { hidden, visitor } = await seenBy(
      relay,
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n",
    );
    visitor.write("ab");
    expect(await hidden.take("ab")).to.equal("ab");
    visitor.write("cd");
    expect(await hidden.take("cd")).to.equal("cd");
  });

  it("that waits for 100 gets it from the hidden server, and then sends its body", async () => {
    const relay = await startRelay();
    const { hidden, visitor, field } = await seenBy(
      relay,
      "PUT /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    expect(field("Expect")).to.equal("100-continue");
    hidden.write("HTTP/1.1 100 Continue\r\n\r\n");
    expect((await visitor.answer()).status).to.equal(100);
    visitor.write("ab");
    await hidden.take("ab");
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("that was answered before its body was sent ends its connection without disturbing the tunnel's next exchange", async () => {
    const relay = await startRelay();
    const { hidden, visitor } = await seenBy(
      relay,
      "PUT /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    hidden.write(
      "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    expect((await visitor.answer()).status).to.equal(417);
    await visitor.end();
    await hidden.end();
    expect(relay.counts().idle).to.equal(0);
  });

  it("goes out again on the same tunnel once its answer is complete", async () => {
    const relay = await startRelay();
    const { hidden, visitor } = await seenBy(relay, get("/1?rendezvous=pi"));
    hidden.write(OK);
    await visitor.answer();
    expect(relay.counts()).to.include({ tunnels: 1, idle: 1 });
    visitor.write(get("/2?rendezvous=pi"));
    expect(await hidden.take("\r\n\r\n")).to.match(/^GET \/2 /);
    hidden.write(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    await visitor.answer();
    visitor.write(get("/3?rendezvous=pi"));
    expect(await hidden.take("\r\n\r\n")).to.match(/^GET \/3 /);
  });

  it("does not share its tunnel with the next one when it was answered before it was sent whole", async () => {
    const relay = await startRelay();
    const { hidden, visitor } = await seenBy(
      relay,
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab",
    );
    await hidden.take("ab");
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    expect(relay.counts()).to.include({ tunnels: 1, idle: 0 });
    visitor.write("cd");
    // A server that answers so early may take the rest for another request.
    expect(await hidden.take("cd")).to.equal("cd");
    await hidden.end();
    expect(relay.counts().idle).to.equal(0);
  });

  for (const method of ["GET", "DELETE", "OPTIONS"]) {
    it(`does not share its tunnel with the next one after a ${method} with a body, which servers may leave unread`, async () => {
      const relay = await startRelay();
      const { hidden, visitor } = await seenBy(
        relay,
        `${method} /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab`,
      );
      await hidden.take("ab");
      hidden.write(OK);
      expect((await visitor.answer()).body).to.equal("ok");
      await hidden.end();
      expect(relay.counts().idle).to.equal(0);
    });
  }

  it("shares its tunnel with the next one after a POST that was read and answered whole", async () => {
    const relay = await startRelay();
    const { hidden, visitor } = await seenBy(
      relay,
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
    );
    await hidden.take("ab");
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    visitor.write(get("/next?rendezvous=pi"));
    expect(await hidden.take("\r\n\r\n")).to.match(/^GET \/next /);
  });
});

describe("one connection of a visitor", () => {
  it("leads to two hidden servers and to the relay's own pages, and answers come in the order of the requests", async () => {
    const relay = await startRelay();
    const one = await parkRawAgent(relay, "one");
    const two = await parkRawAgent(relay, "two");
    const visitor = await connectRaw(relay.port);
    visitor.write(
      get("/1?rendezvous=one") +
        get("/2?rendezvous=two") +
        get("/-/health") +
        get("/3?rendezvous=one"),
    );
    expect(await one.take("\r\n\r\n")).to.match(/^GET \/1 /);
    expect(two.received).to.equal("");
    one.write(OK.replace("ok", "1!"));
    expect(await two.take("\r\n\r\n")).to.match(/^GET \/2 /);
    two.write(OK.replace("ok", "2!"));
    expect(await one.take("\r\n\r\n")).to.match(/^GET \/3 /);
    one.write(OK.replace("ok", "3!"));
    expect((await visitor.answer()).body).to.equal("1!");
    expect((await visitor.answer()).body).to.equal("2!");
    expect((await visitor.answer()).body).to.equal('{"status":"ok"}');
    expect((await visitor.answer()).body).to.equal("3!");
  });

  it("goes on after a failure that is not its own fault", async () => {
    const relay = await startRelay({ holdSeconds: 0.001 });
    await parkHere(relay, "pi", (_asked, answer) => answer.end("ok"));
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/?rendezvous=nobody") + get("/?rendezvous=pi"));
    expect((await visitor.answer()).status).to.equal(404);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("ends after a request that says so", async () => {
    const { visitor } = await answered(
      OK,
      get("/?rendezvous=pi", "Connection: close\r\n"),
    );
    expect((await visitor.answer()).fields["connection"]).to.equal("close");
    await visitor.end();
  });

  it("has its answer when the visitor has ended his direction after the request", async () => {
    const relay = await startRelay();
    const { visitor, hidden } = await seenBy(relay, get("/?rendezvous=pi"));
    visitor.socket.end();
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    await visitor.end();
  });
});

describe("an answer", () => {
  it("arrives as it is: its status, order, case and repeats of its fields, and its chunks", async () => {
    const { visitor } = await answered(
      "HTTP/1.1 299 What Is That\r\nX-b: 1\r\nServer: s\r\nX-B: 2\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n02\r\nbc\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    expect(plain(await visitor.take("\r\n\r\n"))).to.equal(
      "HTTP/1.1 299 What Is That\r\nX-b: 1\r\nServer: s\r\nX-B: 2\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nVia: 1.1 RELAY\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    expect(await visitor.take("X-Sum: 7\r\n\r\n")).to.equal(
      "1;x=y\r\na\r\n02\r\nbc\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
  });

  it("without a reason phrase arrives", async () => {
    const { visitor } = await answered(
      "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    );
    expect((await visitor.answer()).status).to.equal(200);
  });

  it("to HEAD keeps its Content-Length and has no body", async () => {
    const { visitor, relay } = await answered(
      "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
      "HEAD /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    expect((await visitor.answer("HEAD")).fields["content-length"]).to.equal(
      "1000",
    );
    expect(relay.counts().idle).to.equal(1);
  });

  for (const [status, field] of [
    ["204 No Content", ""],
    ["304 Not Modified", "Content-Length: 1000\r\n"],
    ["304 Not Modified", 'ETag: "x"\r\n'],
  ] as const) {
    it(`${status} ends with its head${field === "" ? "" : `, with ${field.slice(0, -2)}`}`, async () => {
      const { visitor, relay } = await answered(
        `HTTP/1.1 ${status}\r\n${field}\r\n`,
      );
      expect((await visitor.answer()).head).to.include(field);
      await relay.until(() => relay.counts().idle === 1);
      expect(visitor.ended).to.be.false;
    });
  }

  it("103 comes before the answer, fields and all", async () => {
    const { visitor } = await answered(
      `HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n${OK}`,
    );
    const hint = await visitor.answer();
    expect(hint.status).to.equal(103);
    expect(hint.fields["link"]).to.equal("</a.css>");
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("that ends with the stream ends the visitor's connection", async () => {
    const { visitor, hidden, relay } = await answered(
      "HTTP/1.1 200 OK\r\n\r\nab",
    );
    await visitor.take("\r\n\r\nab");
    hidden.write("cd").socket.end();
    await visitor.end();
    expect(visitor.received).to.equal("cd");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("426 says what to upgrade to", async () => {
    const { visitor } = await answered(
      "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: chat\r\nContent-Length: 0\r\n\r\n",
    );
    expect((await visitor.answer()).fields).to.include({
      connection: "Upgrade",
      upgrade: "chat",
    });
  });

  it("of HTTP/1.0 is the last on its tunnel", async () => {
    const { visitor, relay, hidden } = await answered(
      "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    const answer = await visitor.answer();
    expect(answer.head)
      .to.match(/^HTTP\/1\.1 200 OK\r\n/)
      .and.include("Via: 1.0 ");
    await hidden.end();
    expect(relay.counts().idle).to.equal(0);
    visitor.write(get("/-/health"));
    expect((await visitor.answer()).status).to.equal(200);
  });

  it("of events arrives event by event", async () => {
    const { visitor, hidden } = await answered(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    await visitor.take("\r\n\r\n");
    for (const event of ["a", "b", "c"]) {
      const chunk = `9\r\ndata: ${event}\n\n\r\n`;
      hidden.write(chunk);
      expect(await visitor.takeOctets(chunk.length)).to.equal(chunk);
    }
  });

  it("that announces Connection: close leaves the visitor's connection open", async () => {
    const { visitor, hidden } = await answered(
      OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
    );
    const { fields, body } = await visitor.answer();
    expect(body).to.equal("ok");
    expect(fields).to.not.have.property("connection");
    await hidden.end();
    visitor.write(get("/-/health"));
    expect((await visitor.answer()).status).to.equal(200);
  });

  it("has none of the relay's own fields but Via", async () => {
    const { visitor } = await answered(OK);
    expect(plain((await visitor.answer()).head)).to.equal(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 RELAY\r\n\r\n",
    );
  });
});

describe("a visitor who speaks HTTP/1.0", () => {
  const OLD = "GET /?rendezvous=pi HTTP/1.0\r\n\r\n";
  const OLD_KEPT =
    "GET /?rendezvous=pi HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  const CHUNKS =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x\r\ncde\r\n0\r\nX: y\r\n\r\n";

  it("has his connection closed after the answer", async () => {
    const { visitor } = await answered(OK, OLD);
    const { fields, body } = await visitor.answer();
    expect(body).to.equal("ok");
    expect(fields["connection"]).to.equal("close");
    await visitor.end();
  });

  it("keeps his connection when he asks for it", async () => {
    const { visitor, hidden } = await answered(OK, OLD_KEPT);
    expect((await visitor.answer()).fields["connection"]).to.equal(
      "keep-alive",
    );
    visitor.write(OLD_KEPT);
    await hidden.take("\r\n\r\n");
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  for (const sent of [OLD, OLD_KEPT]) {
    it(`gets a chunked answer without its chunks${sent === OLD ? "" : ", though he wanted to keep his connection"}`, async () => {
      const { visitor, relay } = await answered(CHUNKS, sent);
      const { fields, body } = await visitor.answer();
      expect(body).to.equal("abcde");
      expect(fields).to.include({ connection: "close" });
      expect(fields).to.not.have.any.keys(
        "transfer-encoding",
        "content-length",
      );
      await relay.until(() => relay.counts().idle === 1);
    });
    it(`gets the data of chunks that come in pieces${sent === OLD ? "" : ", though he wanted to keep his connection"}`, async () => {
      const { visitor, hidden } = await answered(CHUNKS.slice(0, -19), sent);
      await visitor.take("\r\n\r\n");
      hidden.write(CHUNKS.slice(-19, -9));
      hidden.write(CHUNKS.slice(-9));
      await visitor.end();
      expect(visitor.received).to.equal("abcde");
    });
  }

  it("gets no interim answers", async () => {
    const { visitor } = await answered(
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n${OK}`,
      OLD,
    );
    expect((await visitor.answer()).status).to.equal(200);
  });

  it("sends a body with its length", async () => {
    const relay = await startRelay();
    const { hidden } = await seenBy(
      relay,
      "POST /?rendezvous=pi HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
    );
    expect(await hidden.takeOctets(2)).to.equal("ab");
  });
});

describe("who the visitor is", () => {
  const CLAIMS =
    "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nVia: 1.1 router\r\n";
  const cases = [
    { trustProxy: 0, address: "127.0.0.1", proto: "http" },
    { trustProxy: 1, address: "2.2.2.2", proto: "https" },
    { trustProxy: 2, address: "1.1.1.1", proto: "https" },
  ] as const;
  for (const { trustProxy, address, proto } of cases) {
    it(`is told to the hidden server as far as ${trustProxy} routers in front can know it`, async () => {
      const relay = await startRelay({ trustProxy });
      const { head } = await seenBy(relay, get("/?rendezvous=pi", CLAIMS));
      expect(plain(head)).to.equal(
        `GET / HTTP/1.1\r\nHost: x\r\nVia: 1.1 router\r\nVia: 1.1 RELAY\r\nForwarded: for=${address};host="x";proto=${proto}\r\nX-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${proto}\r\nX-Forwarded-Host: x\r\n\r\n`,
      );
    });
  }

  it("is told in brackets where the address is one of IPv6", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const { field } = await seenBy(
      relay,
      get("/?rendezvous=pi", "X-Forwarded-For: 2001:db8::1\r\n"),
    );
    expect(field("Forwarded")).to.equal(
      'for="[2001:db8::1]";host="x";proto=http',
    );
    expect(field("X-Forwarded-For")).to.equal("2001:db8::1");
  });

  it("is the router's neighbour when the router's word is no address", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const { field } = await seenBy(
      relay,
      get(
        "/?rendezvous=pi",
        'X-Forwarded-For: unknown";x="y\r\nX-Forwarded-Proto: gopher\r\n',
      ),
    );
    expect(field("X-Forwarded-For")).to.equal("127.0.0.1");
    expect(field("X-Forwarded-Proto")).to.equal("http");
  });
});

describe("the relay's cookie", () => {
  const NAVIGATION = "Sec-Fetch-Mode: navigate\r\n";

  async function cookieFor(
    sent: string,
    settings = {},
  ): Promise<string | undefined> {
    const relay = await startRelay(settings);
    const { visitor, hidden } = await seenBy(relay, sent);
    hidden.write(OK);
    return (await visitor.answer()).fields["set-cookie"];
  }

  it("is set when a browser is led to a hidden server by the query", async () => {
    expect(await cookieFor(get("/?rendezvous=pi", NAVIGATION))).to.equal(
      "rendezvous=pi; Path=/; HttpOnly; SameSite=Lax",
    );
    expect(
      await cookieFor(get("/?rendezvous=PI", "Accept: text/html,*/*\r\n")),
    ).to.equal("rendezvous=pi; Path=/; HttpOnly; SameSite=Lax");
  });

  it("is Secure behind TLS", async () => {
    expect(
      await cookieFor(
        get("/?rendezvous=pi", `${NAVIGATION}X-Forwarded-Proto: https\r\n`),
        { trustProxy: 1 },
      ),
    ).to.match(/; Secure$/);
    expect(
      await cookieFor(
        get("/?rendezvous=pi", `${NAVIGATION}X-Forwarded-Proto: https\r\n`),
      ),
    ).to.not.match(/; Secure$/);
  });

  it("is not set for anything but a navigation that the query names, nor where it is turned off", async () => {
    expect(await cookieFor(get("/?rendezvous=pi", "Accept: */*\r\n"))).to.be
      .undefined;
    expect(
      await cookieFor(
        get(
          "/?rendezvous=pi",
          "Sec-Fetch-Mode: no-cors\r\nAccept: text/html\r\n",
        ),
      ),
    ).to.be.undefined;
    expect(await cookieFor(get("http://pi/", NAVIGATION))).to.be.undefined;
    expect(await cookieFor(get("/", `${NAVIGATION}Cookie: rendezvous=pi\r\n`)))
      .to.be.undefined;
    expect(
      await cookieFor(get("/?rendezvous=pi", NAVIGATION), {
        cookieNaming: false,
      }),
    ).to.be.undefined;
  });

  it("leads to the hidden server and is not forwarded, while other cookies are", async () => {
    const relay = await startRelay();
    const { head, field } = await seenBy(
      relay,
      get("/style.css", "Cookie: a=1; rendezvous=pi; b=2\r\n"),
    );
    expect(head).to.match(/^GET \/style\.css /);
    expect(field("Cookie")).to.equal("a=1; b=2");
    const alone = await seenBy(relay, get("/", "Cookie: rendezvous=pi\r\n"));
    expect(alone.field("Cookie")).to.be.undefined;
  });

  for (const cookie of [
    "rendezvous=other",
    "rendezvous =other; Path=/",
    "=rendezvous=other",
    "rendezvous\t=other",
    " rendezvous=other",
  ]) {
    it(`cannot be set by a hidden server as ${JSON.stringify(cookie)}`, async () => {
      const { visitor } = await answered(
        OK.replace(
          "\r\n\r\n",
          `\r\nSet-Cookie: ${cookie}\r\nSet-Cookie: rendezvousx=1\r\n\r\n`,
        ),
        get("/?rendezvous=pi", NAVIGATION),
      );
      expect((await visitor.answer()).fields["set-cookie"]).to.equal(
        "rendezvousx=1, rendezvous=pi; Path=/; HttpOnly; SameSite=Lax",
      );
    });
  }

  it("does not lead away from the relay's own pages, and one of them takes it back", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/-/leave", "Cookie: rendezvous=pi\r\n"));
    const { status, fields } = await visitor.answer();
    expect(status).to.equal(303);
    expect(fields["location"]).to.equal("/");
    expect(fields["set-cookie"]).to.match(
      /^rendezvous=; Path=\/; Expires=Thu, 01 Jan 1970 /,
    );
  });

  it("of a hidden server that is gone shows a way out", async () => {
    const relay = await startRelay({ holdSeconds: 0.001 });
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/", "Cookie: rendezvous=pi\r\nAccept: text/html\r\n"));
    expect((await visitor.answer()).body).to.include(
      '<a href="/-/leave">Leave pi</a>',
    );
  });
});

describe("a login that names a hidden server", () => {
  it("is asked for by ?rendezvous=T as the original does", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/?rendezvous=T"));
    const { status, fields } = await visitor.answer();
    expect(status).to.equal(401);
    expect(fields["www-authenticate"]).to.match(
      /^Digest realm="rendezvous", qop="auth, auth-int", nonce="[0-9a-f]{32}", opaque="[0-9a-f]{32}"$/,
    );
    visitor.write(get("/-/health"));
    expect((await visitor.answer()).status).to.equal(200);
  });

  const digest =
    'Digest username="pi", realm="rendezvous", nonce="00", uri="/", response="00"';
  const basic = `Basic ${Buffer.from("pi:any:password").toString("base64")}`;
  for (const login of [digest, basic]) {
    it(`is ${login.slice(0, 6).trim()}, with any password, and is not forwarded`, async () => {
      const relay = await startRelay();
      const { head, field } = await seenBy(
        relay,
        get("/a?rendezvous=T&b=1", `Authorization: ${login}\r\n`),
      );
      expect(head).to.match(/^GET \/a\?b=1 /);
      expect(field("Authorization")).to.be.undefined;
    });
  }

  it("is forwarded untouched where the request names its server otherwise", async () => {
    const relay = await startRelay();
    const { field } = await seenBy(
      relay,
      get("/?rendezvous=pi", `Authorization: ${digest}\r\n`),
    );
    expect(field("Authorization")).to.equal(digest);
  });
});

describe("the relay's own pages", () => {
  it("leave nothing behind when their visitors go without an answer", async () => {
    const relay = await startRelay();
    for (let i = 0; i < 50; i++) {
      const visitor = await connectRaw(relay.port);
      visitor.socket.write(get("/"), () => visitor.socket.resetAndDestroy());
      await visitor.close();
    }
    await relay.until(() => relay.counts().connections === 0);
    await relay.until(() => relay.counts().pages === 0);
  });

  const HELMET = [
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
  ];

  it("are a landing page, a health page and a 404, with helmet's fields", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/"));
    const landing = await visitor.answer();
    expect(landing.status).to.equal(200);
    expect(landing.body)
      .to.include("npx rendezvous park")
      .and.include("?rendezvous=ID");
    expect(landing.fields).to.include.keys(HELMET);
    visitor.write(get("/-/health"));
    const health = await visitor.answer();
    expect(health.body).to.equal('{"status":"ok"}');
    expect(health.fields).to.include.keys(HELMET);
    visitor.write(get("/nowhere"));
    const missing = await visitor.answer();
    expect(missing.status).to.equal(404);
    expect(missing.fields).to.include.keys(HELMET);
    expect(missing.fields).to.include({
      "content-type": "application/problem+json",
    });
    expect(missing.body).to.include('"code":"not_found"');
    visitor.write(get("/nowhere", "Accept: text/html\r\n"));
    expect((await visitor.answer()).body).to.match(/^<!doctype html>/);
  });

  it("answer HEAD, and a POST whose body nobody reads", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    expect((await visitor.answer("HEAD")).status).to.equal(200);
    visitor.write(
      "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
    );
    expect((await visitor.answer()).status).to.equal(404);
  });

  it("answer methods that nobody knows, and heads as large as may be", async () => {
    const relay = await startRelay();
    const unknown = await connectRaw(relay.port);
    unknown.write("INVENTED / HTTP/1.1\r\nHost: x\r\n\r\n");
    const { status, body } = await unknown.answer();
    expect(status).to.equal(501);
    expect(body).to.include('"code":"not_implemented"');
    const large = await connectRaw(relay.port);
    large.write(get("/-/health", `X: ${"x".repeat(60 * 1024)}\r\n`));
    expect((await large.answer()).status).to.equal(200);
  });

  for (const host of ["", "%%", "x:99999", "a,b"]) {
    it(`are shown for the Host ${JSON.stringify(host)} too`, async () => {
      const relay = await startRelay();
      const visitor = await connectRaw(relay.port);
      visitor.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      expect((await visitor.answer()).status).to.equal(200);
    });
  }

  it("never show what a Host would put into them", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write("GET / HTTP/1.1\r\nHost: a&'b\r\n\r\n");
    expect((await visitor.answer()).body).to.not.include("a&'b");
  });

  it("give their fields to no hidden server's answer", async () => {
    const { visitor } = await answered(OK, get("/-/health?rendezvous=pi"));
    const { fields, body } = await visitor.answer();
    expect(body).to.equal("ok");
    expect(fields).to.not.have.any.keys(HELMET);
  });
});

describe("an upgraded connection", () => {
  it("carries octets both ways, the early ones included", async () => {
    const relay = await startRelay();
    const { head, visitor, hidden } = await seenBy(
      relay,
      `${get("/?rendezvous=pi", UPGRADE)}early question`,
    );
    expect(head).to.match(/\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n$/);
    hidden.write(`${SWITCH}early answer`);
    expect(plain(await visitor.take("\r\n\r\n"))).to.equal(
      "HTTP/1.1 101 Switching Protocols\r\nVia: 1.1 RELAY\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
    );
    expect(await visitor.take("early answer")).to.equal("early answer");
    expect(await hidden.take("early question")).to.equal("early question");
    visitor.write("\0\xff\r\n\r\nGET");
    expect(await hidden.take("GET")).to.equal("\0\xff\r\n\r\nGET");
    hidden.write("\xfe");
    expect(await visitor.take("\xfe")).to.equal("\xfe");
  });

  async function upgraded(): Promise<{
    visitor: Raw;
    hidden: Raw;
    relay: TestRelay;
  }> {
    const both = await answered(SWITCH, get("/?rendezvous=pi", UPGRADE));
    await both.visitor.take("\r\n\r\n");
    return both;
  }

  it("passes a half-close of either side on, and the other direction goes on", async () => {
    const { visitor, hidden, relay } = await upgraded();
    visitor.write("last").socket.end();
    await hidden.end();
    expect(hidden.received).to.equal("last");
    hidden.write("still here");
    expect(await visitor.take("still here")).to.equal("still here");
    hidden.socket.end();
    await visitor.end();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("passes a half-close of the hidden server on first, too", async () => {
    const { visitor, hidden } = await upgraded();
    hidden.write("last").socket.end();
    await visitor.end();
    expect(visitor.received).to.equal("last");
    visitor.write("still here");
    expect(await hidden.take("still here")).to.include("still here");
  });

  for (const who of ["visitor", "hidden"] as const) {
    it(`passes a reset of the ${who === "visitor" ? "visitor" : "hidden server"} on`, async () => {
      const both = await upgraded();
      both[who].socket.resetAndDestroy();
      expect(
        await both[who === "visitor" ? "hidden" : "visitor"].close(),
      ).to.equal("reset");
      await both.relay.until(() => both.relay.counts().tunnels === 0);
    });
  }

  it("that the hidden server refuses is an ordinary answer, and the connection goes on", async () => {
    const { visitor } = await answered(OK, get("/?rendezvous=pi", UPGRADE));
    expect((await visitor.answer()).body).to.equal("ok");
    visitor.write(get("/-/health"));
    expect((await visitor.answer()).status).to.equal(200);
  });
});

describe("a visitor behind a proxy client", () => {
  it("is Node's http.request with an HttpProxyAgent", async () => {
    const relay = await startRelay();
    await parkHere(relay, "pi", (asked, answer) =>
      answer.end(`${asked.url ?? ""} ${asked.headers.host ?? ""}`),
    );
    const agent = new HttpProxyAgent(relay.url);
    for (const host of ["pi", "pi.rendezvous.internal"]) {
      const [answer] = (await once(
        httpRequest(`http://${host}/a?b=1`, { agent }).end(),
        "response",
      )) as [IncomingMessage];
      let body = "";
      for await (const octets of answer) body += String(octets);
      expect(body).to.equal(`/a?b=1 ${host}`);
    }
    agent.destroy();
  });
});

describe("a loop", () => {
  it("through a hidden server that leads back to the relay is answered with 508", async () => {
    const relay = await startRelay();
    const front = createServer((asked, answer) => {
      const back = httpRequest(
        `${relay.url}/?rendezvous=pi`,
        { headers: asked.headers },
        (found) => {
          answer.writeHead(found.statusCode ?? 0);
          found.pipe(answer);
        },
      );
      back.end();
    });
    await parkHere(relay, "pi", front);
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/?rendezvous=pi"));
    const { status, body } = await visitor.answer();
    expect(status).to.equal(508);
    expect(body).to.include('"code":"loop"');
  });
});

describe("somebody who does not read", () => {
  /** Writes until it is told to wait and nothing has moved for a while of writes; gives the octets that left. */
  async function flood(from: Raw): Promise<number> {
    let written = 0;
    while (written < FLOOD_OCTETS) {
      written += PIECE.length;
      if (from.socket.write(PIECE)) continue;
      const before = from.socket.bytesWritten - from.socket.writableLength;
      // Another program's chance to read: many turns of the event loop, and nothing has left since.
      let turns = 0;
      while (from.socket.writableNeedDrain && turns < 2000) {
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
      }
      if (
        from.socket.writableNeedDrain &&
        from.socket.bytesWritten - from.socket.writableLength === before
      )
        break;
    }
    return written;
  }

  for (const slow of ["visitor", "hidden"] as const) {
    it(`stops the other side's writes, and little is kept: the ${slow === "visitor" ? "visitor" : "hidden server"}`, async () => {
      const relay = await startRelay();
      const { visitor, hidden } = await seenBy(
        relay,
        `POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`,
      );
      const reader = slow === "visitor" ? visitor : hidden;
      const writer = slow === "visitor" ? hidden : visitor;
      if (slow === "visitor") {
        hidden.write(
          `HTTP/1.1 200 OK\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`,
        );
        await visitor.take("\r\n\r\n");
      }
      reader.socket.pause();
      const before = process.memoryUsage();
      const written = await flood(writer);
      expect(written).to.be.below(FLOOD_OCTETS / 2);
      const after = process.memoryUsage();
      expect(after.arrayBuffers - before.arrayBuffers).to.be.below(
        FLOOD_OCTETS / 4,
      );
      // Everything arrives once he reads again.
      reader.socket.resume();
      await reader.takeOctets(written);
      // And meanwhile nobody else was kept waiting.
      const other = await connectRaw(relay.port);
      other.write(get("/-/health"));
      expect((await other.answer()).status).to.equal(200);
    });
  }

  it("keeps nobody else waiting", async () => {
    const relay = await startRelay();
    const { visitor, hidden } = await seenBy(relay, get("/?rendezvous=pi"));
    hidden.write(`HTTP/1.1 200 OK\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`);
    await visitor.take("\r\n\r\n");
    visitor.socket.pause();
    await flood(hidden);
    const second = await parkRaw(relay, "pi");
    const other = await connectRaw(relay.port);
    other.write(get("/?rendezvous=pi"));
    await second.take("\r\n\r\n");
    second.write(OK);
    expect((await other.answer()).body).to.equal("ok");
  });

  it("but asks and asks has his requests wait, and gets every answer in the end", async () => {
    const relay = await startRelay();
    const large = "x".repeat(256 * 1024);
    let asked = 0;
    await parkHere(relay, "pi", (_request, answer) => {
      asked++;
      answer.end(large);
    });
    const visitor = await connectRaw(relay.port);
    visitor.socket.pause();
    const count = 64;
    visitor.write(get("/?rendezvous=pi").repeat(count));
    await relay.until(() => asked > 0);
    const health = await connectRaw(relay.port);
    for (let i = 0; i < 50; i++) {
      health.write(get("/-/health"));
      await health.answer();
    }
    expect(asked).to.be.below(count);
    visitor.socket.resume();
    for (let i = 0; i < count; i++)
      expect((await visitor.answer()).body).to.have.length(large.length);
    expect(asked).to.equal(count);
  });
});
