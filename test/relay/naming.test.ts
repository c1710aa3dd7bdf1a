// Hidden servers named by cookie, by login, and through a proxy client.
import { expect } from "chai";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { HttpProxyAgent } from "http-proxy-agent";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import { OK, answered, get, plain, seenBy } from "../support/visits.ts";

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

describe("an answer at an address that names nobody", () => {
  const COOKIE = "Cookie: rendezvous=pi\r\n";
  const LOGIN = `Authorization: Basic ${Buffer.from("pi:").toString("base64")}\r\n`;
  const PUBLIC = "Cache-Control: public, max-age=3600\r\n";

  /** The fields of the answer to a request, with what stands in the hidden server's head. */
  async function fieldsOf(
    sent: string,
    fields: string,
    { status = "200 OK", settings = {} } = {},
  ): Promise<string> {
    const relay = await startRelay(settings);
    const { visitor, hidden } = await seenBy(relay, sent);
    hidden.write(`HTTP/1.1 ${status}\r\n${fields}Content-Length: 0\r\n\r\n`);
    return plain(await visitor.take("\r\n\r\n"));
  }

  for (const [way, name] of [
    ["a cookie", COOKIE],
    ["a login", LOGIN],
  ] as const) {
    for (const [what, method, status] of [
      ["", "GET", "200 OK"],
      [" to HEAD", "HEAD", "200 OK"],
      [" that has not changed", "GET", "304 Not Modified"],
      [" that is none", "GET", "404 Not Found"],
    ] as const) {
      it(`is kept by no shared cache, and by the browser's own for this name only: by ${way}${what}`, async () => {
        const sent = get("/cache.js", name).replace("GET", method);
        const head = await fieldsOf(sent, `ETag: "1"\r\n${PUBLIC}`, { status });
        expect(head).to.equal(
          `HTTP/1.1 ${status}\r\nETag: "1"\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\nVary: Authorization, Cookie\r\nCache-Control: private, max-age=3600\r\n\r\n`,
        );
      });
    }
  }

  for (const [own, vary] of [
    ["Vary: Accept-Encoding\r\n", "Authorization, Cookie, Accept-Encoding"],
    ["Vary: cookie\r\nvary: A, b\r\n", "Authorization, Cookie, A, b"],
    ["Vary: A, *\r\n", "*"],
    ["Vary: x, *\r\nVary: y\r\n", "*"],
    ["Vary:\r\n", "Authorization, Cookie"],
  ] as const) {
    it(`joins its own ${JSON.stringify(own)} to one field`, async () => {
      const head = await fieldsOf(get("/", COOKIE), own);
      expect(head.match(/^Vary: .*$/gim)).to.deep.equal([`Vary: ${vary}`]);
    });
  }

  for (const [own, vary, caching] of [
    ['Vary: x"\r\n', "", ""],
    ['Vary: A, "\r\nVary: B\r\n', ", A, B", ""],
    ['Vary: "*", A b, C\x80, D\r\n', ", D", ""],
    ['Cache-Control: max-age=600, x="\r\n', "", ", no-store"],
    ['Cache-Control: x="\\"\r\n', "", ", no-store"],
    ['Cache-Control: x="\\\r\n', "", ", no-store"],
    ['Cache-Control: x="\r\nVary: x"\r\n', "", ", no-store"],
    ['Cache-Control: a="\r\nCache-Control: b"\r\n', "", ', a=", b"'],
    ["Cache-Control: no-cache; no-store\r\n", "", ", no-store"],
    ["Cache-Control: max-age=\r\n", "", ", no-store"],
  ] as const) {
    it(`does not lose what caches are told in ${JSON.stringify(own)}`, async () => {
      const head = await fieldsOf(get("/", COOKIE), own);
      expect(head).to.equal(
        `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\nVary: Authorization, Cookie${vary}\r\nCache-Control: private${caching}\r\n\r\n`,
      );
    });
  }

  for (const [own, caching] of [
    ["PUBLIC , S-Maxage=60,max-age=5", "private, max-age=5"],
    ['private="set-cookie", no-cache', "private, no-cache"],
    [
      'x="\\", y", no-store,, \tz="\x80",',
      'private, x="\\", y", no-store, z="\x80"',
    ],
    ["no-cache\r\ncache-control: no-store", "private, no-cache, no-store"],
    ["", "private"],
  ] as const) {
    it(`has its own Cache-Control, ${JSON.stringify(own)}, but for what is said to shared caches`, async () => {
      const line = `Cache-Control: ${own}\r\n`;
      const head = await fieldsOf(get("/", COOKIE), line);
      expect(head.match(/^Cache-Control: .*$/gim)).to.deep.equal([
        `Cache-Control: ${caching}`,
      ]);
    });
  }

  it("tells shared caches nothing behind the back of Cache-Control", async () => {
    const head = await fieldsOf(
      get("/", COOKIE),
      "CDN-Cache-Control: public\r\nExample-cache-control: max-age=60\r\nSurrogate-Control: max-age=60\r\nEdge-Control: cache-maxage=60\r\nX-Accel-Expires: 60\r\nX-Accel-Buffering: no\r\n",
    );
    expect(head).to.equal(
      "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\nVary: Authorization, Cookie\r\nCache-Control: private\r\n\r\n",
    );
  });

  it("does not depend on cookies where they name nobody", async () => {
    const settings = { cookieNaming: false };
    const head = await fieldsOf(get("/", LOGIN), "", { settings });
    expect(head).to.include("\r\nVary: Authorization\r\n");
  });

  it("of the relay's own is kept by nobody for a hidden server's", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    for (const method of ["GET", "HEAD"]) {
      visitor.write(get("/").replace("GET", method));
      const { fields } = await visitor.answer(method);
      expect(fields["vary"]).to.equal("Authorization, Cookie");
      expect(fields["cache-control"]).to.equal("private");
    }
    for (const target of ["/?rendezvous=T", "/nowhere", "/?uuid=pi"]) {
      visitor.write(get(target));
      const { fields } = await visitor.answer();
      expect(fields["cache-control"], target).to.equal("no-store");
    }
  });

  it("is as it was where query or host name the server", async () => {
    const fields = `Vary: A\r\nVary: B\r\n${PUBLIC}CDN-Cache-Control: public\r\n`;
    for (const sent of [
      get("/?rendezvous=pi", COOKIE),
      get("http://pi/", COOKIE),
      get("/", COOKIE).replace("Host: x", "Host: pi.example.com"),
    ]) {
      const settings = { baseDomain: "example.com" };
      const head = await fieldsOf(sent, fields, { settings });
      expect(head).to.equal(
        `HTTP/1.1 200 OK\r\n${fields}Content-Length: 0\r\nVia: 1.1 RELAY\r\n\r\n`,
      );
    }
  });
});
