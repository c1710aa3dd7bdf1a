// Requests as hidden servers see them, octet by octet where that matters, and which of them may share a tunnel.
import { expect } from "chai";
import { createServer, request as httpRequest } from "node:http";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import { OK, get, plain, seenBy } from "../support/visits.ts";

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

  const POST =
    "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nConnection: X-Mine\r\nTransfer-Encoding: chunked\r\n\r\n";
  const HEAD_ONLY = [
    "X-Mine: 1",
    "Connection: close",
    "upgrade: websocket",
    "Forwarded: for=1.2.3.4",
    "X-Forwarded-For: 1.2.3.4",
    "x_forwarded-proto: https",
    "Via: 1.1 x",
    "Rendezvous-Dial: 22",
    "Rendezvous-Agent: 1",
    "Authorization: Bearer x",
    "Proxy-Authorization: Bearer x",
    "Cookie: rendezvous=pi",
    "Referer: http://x/?grant=x",
    "X-HTTP-Method-Override: DELETE",
    "X_Original_URL: /secret",
    "Destination: /secret",
    "Max-Forwards: 1",
    "Cache-Control: no-store",
    "Content-Type: text/html",
  ];

  it("loses trailers that belong in a head, however its octets are cut", async () => {
    const relay = await startRelay();
    const trailers = [...HEAD_ONLY, "x-checksum: 7", ...HEAD_ONLY, "X-B:"];
    const body = `2;a=b\r\nab\r\n0\r\n${trailers.join("\r\n")}\r\n\r\n`;
    const whole = await seenBy(relay, POST + body);
    expect(await whole.hidden.take("\r\n\r\n")).to.equal(
      "2;a=b\r\nab\r\n0\r\nx-checksum: 7\r\nX-B:\r\n\r\n",
    );
    whole.hidden.write(OK);
    expect((await whole.visitor.answer()).body).to.equal("ok");
    await relay.until(() => relay.counts().idle === 1);
    whole.hidden.socket.destroy();
    await relay.until(() => relay.counts().tunnels === 0);
    const cut = await seenBy(relay, POST);
    cut.visitor.socket.setNoDelay();
    for (const octet of body) {
      cut.visitor.write(octet);
      // Each one comes by itself.
      await new Promise(setImmediate);
    }
    expect(await cut.hidden.take("\r\n\r\n")).to.equal(
      "2;a=b\r\nab\r\n0\r\nx-checksum: 7\r\nX-B:\r\n\r\n",
    );
  });

  for (const field of HEAD_ONLY) {
    it(`does not bring ${field} as a trailer`, async () => {
      const relay = await startRelay();
      const { hidden } = await seenBy(relay, `${POST}0\r\n${field}\r\n\r\n`);
      expect(await hidden.take("\r\n\r\n")).to.equal("0\r\n\r\n");
    });
  }

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
