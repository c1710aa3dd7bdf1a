// TLS on the relay's port: who gets in, who is told why not, and what becomes of the certificate.
import { expect } from "chai";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect as connectPlain, type AddressInfo } from "node:net";
import { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import {
  connect,
  createServer as createTlsServer,
  type ConnectionOptions,
  type TLSSocket,
} from "node:tls";
import { park } from "../../app/agent/agent.ts";
import { dial } from "../../app/client/dial.ts";
import { WAYS } from "../../app/protocol.ts";
import { SettingsError, type Certificate } from "../../app/relay/options.ts";
import { createRelay } from "../../app/relay/relay.ts";
import { Link, UNOWNED } from "../../app/wire/link.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { hurryTimers } from "../support/clock.ts";
import {
  RELAY_SECRET,
  parkHere,
  startRelay,
  type TestRelay,
} from "../support/relay.ts";
import { offerService } from "../support/streams.ts";
import { selfSign } from "../support/tcp.ts";

/** What Node reads at a time, and a record of TLS 1.3 with one octet in it (RFC 8446 5.2). */
const READ_OCTETS = 64 * 1024;
const RECORD_OCTETS = 5 + 1 + 1 + 16;

async function makeCertificate(): Promise<Certificate> {
  const { cert, key } = await selfSign("localhost");
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}

/** A client, once its handshake is done. */
async function reach(
  relay: TestRelay,
  certificate: Certificate,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const socket = connect({
    port: relay.port,
    host: "127.0.0.1",
    servername: "localhost",
    ca: certificate.cert,
    ...options,
  });
  socket.allowHalfOpen = true;
  afterThisTest(() => socket.destroy());
  await once(socket, "secureConnect");
  return socket;
}

describe("TLS on the relay's port", () => {
  it("tells the hidden server that its visitor came by https, and from where", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    const hidden = createServer((request, answer) =>
      answer.end(
        `${String(request.headers["x-forwarded-proto"])} ${String(request.headers["x-forwarded-for"])}`,
      ),
    );
    await parkHere(relay, "pi", hidden, {
      ca: tls.cert,
    });
    const visitor = await reach(relay, tls);
    visitor.end(
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    expect(await text(visitor)).to.match(/\r\n\r\nhttps 127\.0\.0\.1$/);
  });

  it("is HTTP/1.1 whatever else a client can speak", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    const both = await reach(relay, tls, { ALPNProtocols: ["h2", "http/1.1"] });
    expect(both.alpnProtocol).to.equal("http/1.1");
    const failed = await reach(relay, tls, { ALPNProtocols: ["h2"] }).catch(
      (error: unknown) => error,
    );
    expect(failed).to.include({
      code: "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
    });
  });

  it("answers a visitor who has ended his direction", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    const visitor = await reach(relay, tls);
    visitor.end("GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await text(visitor)).to.match(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it("says in plain words that it wants https, to whoever comes without", async () => {
    const relay = await startRelay({ tls: await makeCertificate() });
    const plain = connectPlain(relay.port, "127.0.0.1");
    plain.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const answer = await text(plain);
    expect(answer).to.match(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).to.include("this port speaks HTTPS: use an https: URL");
  });

  it("closes on what is neither TLS nor HTTP, and serves the next", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    for (const octets of ["\x16\x03\x01\x00\x05hello", "\x16", ""]) {
      const stranger = connectPlain(relay.port, "127.0.0.1");
      stranger.on("error", () => undefined).end(octets, "latin1");
      stranger.resume();
      await once(stranger, "close");
    }
    const visitor = await reach(relay, tls);
    visitor.end("GET /-/health HTTP/1.0\r\n\r\n");
    expect(await text(visitor)).to.match(/^HTTP\/1\.1 200 OK\r\n/);
    await relay.until(() => relay.counts().connections === 0);
  });

  it("resets a connection that it cuts, so that no part is taken for the whole", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    const hidden = createServer((_request, answer) => {
      answer.writeHead(200, { Connection: "close" });
      answer.write("a part");
      visitorHasRead
        .then(() => answer.socket?.resetAndDestroy())
        .catch(() => undefined);
    });
    let read = (): void => undefined;
    const visitorHasRead = new Promise<void>((resolve) => {
      read = resolve;
    });
    hidden.listen(0, "127.0.0.1");
    await once(hidden, "listening");
    afterThisTest(() => hidden.close());
    const address = hidden.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    await parkHere(
      relay,
      "pi",
      { host: "127.0.0.1", port },
      {
        ca: tls.cert,
      },
    );
    const visitor = await reach(relay, tls);
    const failed = once(visitor, "end").then(
      () => "ended",
      (error: unknown) => error,
    );
    visitor.write("GET /?rendezvous=pi HTTP/1.0\r\n\r\n");
    let came = "";
    visitor.on("data", (octets: Buffer) => {
      came += octets.toString();
      if (came.includes("a part")) read();
    });
    expect(await failed).to.include({ code: "ECONNRESET" });
  });

  it("carries a TCP visit whose directions end one after the other", async () => {
    const tls = await makeCertificate();
    const { relay } = await offerService(
      (socket) => {
        socket.on("end", () => socket.end("after your end")).resume();
      },
      { tls },
      { ca: tls.cert },
    );
    const visitor = await reach(relay, tls);
    visitor.write("CONNECT pi:7 HTTP/1.1\r\nHost: pi:7\r\n\r\n");
    await once(visitor, "readable");
    expect(String(visitor.read())).to.match(/^HTTP\/1\.1 200 /);
    visitor.end("to be read");
    expect(await text(visitor)).to.equal("after your end");
  });

  it("resets a TCP visit whose service was cut", async () => {
    const tls = await makeCertificate();
    const { relay, next } = await offerService(
      (socket) => {
        socket.write("a part");
      },
      { tls },
      { ca: tls.cert },
    );
    const visitor = await reach(relay, tls);
    visitor.write("CONNECT pi:7 HTTP/1.1\r\nHost: pi:7\r\n\r\n");
    const service = await next();
    let came = "";
    const failed = once(visitor, "end").then(
      () => "ended",
      (error: unknown) => error,
    );
    visitor.on("data", (octets: Buffer) => {
      came += octets.toString();
      if (came.endsWith("a part")) service.resetAndDestroy();
    });
    expect(await failed).to.include({ code: "ECONNRESET" });
  });

  it("within TLS to a proxy ends where it cannot be reset", async () => {
    const tls = await makeCertificate();
    const relay = await startRelay({ tls });
    const proxy = createTlsServer(tls, (outer) => {
      const inner = connectPlain(relay.port, "127.0.0.1");
      outer.on("error", () => undefined).pipe(inner);
      inner.on("error", () => undefined).pipe(outer);
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    afterThisTest(() => proxy.close());
    const address = proxy.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    const outer = await reach(relay, tls, { port });
    const inner = await reach(relay, tls, { socket: outer });
    await relay.until(() => relay.counts().connections === 1);
    new Link(inner, UNOWNED).reset();
    await relay.until(() => relay.counts().connections === 0);
  });

  for (const via of [undefined, ...WAYS]) {
    it(`is refused by agent and dial where nobody vouches for it, who say what helps, by ${via ?? "all ways"}`, async () => {
      const relay = await startRelay({ tls: await makeCertificate() });
      const to = { relay: `https://localhost:${relay.port}`, id: "pi", via };
      const { secret } = relay.issue("pi");
      const agent = park(8080, { ...to, secret });
      afterThisTest(() => agent.close());
      const [reason] = (await once(agent, "trouble")) as [string, number];
      const words = `localhost:${relay.port} cannot be reached: self-signed certificate; --ca FILE trusts a certificate of your own`;
      expect(reason).to.equal(words);
      const failed = await dial({ ...to, port: 22 }).catch(
        (error: unknown) => error,
      );
      expect(failed).to.have.property("message", words);
    });
  }

  it("is read once, and no further, while nobody takes what its records have, however little that is", async () => {
    const tls = await makeCertificate();
    const server = createTlsServer(tls).listen(0, "127.0.0.1");
    await once(server, "listening");
    afterThisTest(() => server.close());
    const { port } = server.address() as AddressInfo;
    const accepted = once(server, "secureConnection");
    const wire = connectPlain(port, "127.0.0.1");
    const held = new Duplex({
      read: () => undefined,
      write: (octets: Buffer, _coding, taken) => {
        wire.write(octets);
        taken();
      },
    });
    wire.on("data", (octets) => held.push(octets));
    const sender = connect({
      socket: held,
      servername: "localhost",
      ca: tls.cert,
    });
    const [receiver] = (await accepted) as [TLSSocket];
    afterThisTest(() => {
      for (const end of [sender, wire, receiver]) end.destroy();
    });
    let came = 0;
    const data = (octets: Buffer): void => void (came += octets.length);
    const link = new Link(receiver, { ...UNOWNED, data });
    link.pause();
    const records = 10_000;
    wire.cork();
    for (let sent = 0; sent < records; sent++)
      // What waits together would leave in one record.
      await new Promise((resolve) => sender.write("a", resolve));
    wire.uncork();
    // Turns enough to read them all, for somebody who would.
    for (let turn = 0; turn < 100; turn++)
      await new Promise((resolve) => setImmediate(resolve));
    expect(receiver.readableLength)
      .to.be.above(0)
      .and.below(READ_OCTETS / RECORD_OCTETS);
    link.resume();
    while (came < records) await once(receiver, "data");
    expect(came).to.equal(records);
  });

  it("shows a new certificate to new connections and leaves the open ones alone", async () => {
    const [old, renewed] = [await makeCertificate(), await makeCertificate()];
    const relay = await startRelay({ tls: old });
    const before = await reach(relay, old);
    relay.setCertificate(renewed);
    const after = await reach(relay, renewed);
    expect(after.getPeerCertificate().serialNumber).to.not.equal(
      before.getPeerCertificate().serialNumber,
    );
    before.end("GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(await text(before)).to.match(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it("keeps the old certificate when the new one cannot be used", async () => {
    const [old, other] = [await makeCertificate(), await makeCertificate()];
    const relay = await startRelay({ tls: old });
    for (const bad of [
      { cert: other.cert, key: old.key },
      { cert: "nonsense", key: old.key },
      { cert: old.cert, key: "" },
    ]) {
      expect(() => {
        relay.setCertificate(bad);
      }).to.throw(
        SettingsError,
        /^TLS_CERT and TLS_KEY must be a certificate and its key, both in PEM: .+\. Leave both out for plain HTTP\.$/,
      );
    }
    await reach(relay, old);
  });

  it("does not begin with a certificate that cannot be used, nor take one for plain HTTP", async () => {
    const [one, other] = [await makeCertificate(), await makeCertificate()];
    const tls = { cert: one.cert, key: other.key };
    expect(() => createRelay({ relaySecret: RELAY_SECRET, tls })).to.throw(
      SettingsError,
      /key values mismatch/,
    );
    const plain = await startRelay();
    expect(() => {
      plain.setCertificate(one);
    }).to.throw(SettingsError, /made for plain HTTP/);
  });

  it("does not wait for the end of plain octets that come without end", async () => {
    const relay = await startRelay({ tls: await makeCertificate() });
    const plain = connectPlain(relay.port, "127.0.0.1");
    plain.on("error", () => undefined).resume();
    const gone = once(plain, "close");
    await once(plain, "connect");
    hurryTimers(10);
    const more = setInterval(() => plain.write("G"), 50);
    afterThisTest(() => {
      clearInterval(more);
    });
    await gone;
  });

  it("does not let somebody who says nothing hold up its end", async () => {
    const relay = await startRelay({ tls: await makeCertificate() });
    const silent = connectPlain(relay.port, "127.0.0.1");
    silent.on("error", () => undefined).resume();
    await once(silent, "connect");
    const gone = once(silent, "close");
    await relay.drain();
    await gone;
  });
});
