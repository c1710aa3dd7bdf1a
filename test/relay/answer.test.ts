// Answers as visitors see them, octet by octet where that matters.
import { expect } from "chai";
import { OK, answered, get, plain } from "../support/visits.ts";

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
