// The relay's own pages, and that they stay out of the way of hidden servers' answers.
import { expect } from "chai";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connectRaw } from "../support/raw.ts";
import { startRelay } from "../support/relay.ts";
import { OK, answered, get } from "../support/visits.ts";

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

  it("let a browser show them and do nothing else: no script, no frame, no form, no other host", async () => {
    const relay = await startRelay({ holdSeconds: 0.1 });
    const visitor = await connectRaw(relay.port);
    for (const target of [
      "/",
      "/nowhere",
      "/?rendezvous=n_o",
      "/?rendezvous=unknown-to-all",
      "http://nowhere.example/",
    ]) {
      visitor.write(get(target, "Accept: text/html\r\n"));
      const { fields, body } = await visitor.answer();
      const [, style = ""] = /<style>([^]*)<\/style>/.exec(body) ?? [];
      const hash = createHash("sha256").update(style).digest("base64");
      expect(
        fields["content-security-policy"]?.split(";"),
        target,
      ).to.have.members([
        "default-src 'none'",
        `style-src 'sha256-${hash}'`,
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
      ]);
      expect(fields, target).to.include({
        "x-content-type-options": "nosniff",
      });
    }
  });

  it("tell a visitor who he is, as far as the routers in front are trusted", async () => {
    for (const [trustProxy, address, proto] of [
      [0, "127.0.0.1", "http"],
      [1, "192.0.2.2", "https"],
    ] as const) {
      const relay = await startRelay({ trustProxy });
      const visitor = await connectRaw(relay.port);
      visitor.write(
        get(
          "/-/whoami",
          "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n",
        ),
      );
      const { status, fields, body } = await visitor.answer();
      expect(status).to.equal(200);
      expect(fields).to.include({ "cache-control": "no-store" });
      const { now, version, host, ...rest } = JSON.parse(body) as Record<
        string,
        unknown
      >;
      expect(rest).to.deep.equal({
        relay: "rendezvous",
        address,
        proto,
        forwarded: 2,
        trusted: trustProxy,
      });
      expect(version).to.match(/^\d+\.\d+\.\d+$/);
      expect(host).to.be.a("string");
      expect(now).to.be.closeTo(Date.now(), 10_000);
    }
  });

  it("stream a few pieces, and stop when nobody takes them", async () => {
    const relay = await startRelay();
    const answer = await fetch(`${relay.url}/-/stream`);
    expect(answer.headers.get("cache-control")).to.equal("no-store");
    const pieces: string[] = [];
    const text = new TextDecoder();
    for await (const piece of answer.body ?? [])
      pieces.push(text.decode(piece));
    expect(pieces.join("")).to.equal("1\n2\n3\n4\n5\n");
    expect(pieces).to.have.length.above(1);
    const visitor = await connectRaw(relay.port);
    visitor.write(get("/-/stream"));
    await once(visitor.socket, "readable");
    visitor.socket.resetAndDestroy();
    await relay.until(() => relay.counts().pages === 0);
  });

  it("answer an upload by its first octets, and one without any", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.write(
      "POST /-/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    );
    expect((await visitor.answer()).body).to.equal("1\n");
    const other = await connectRaw(relay.port);
    other.write(
      "POST /-/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    expect((await other.answer()).status).to.equal(200);
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
