// A visitor's connection: which requests it may carry, what ends it, and what HTTP/1.0 makes of it.
import { expect } from "chai";
import { parkRawAgent } from "../support/hidden.ts";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import { OK, answered, get, seenBy } from "../support/visits.ts";

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

  for (const path of ["/-/health", "/nothing"]) {
    it(`with hundreds of requests for ${path} at once keeps nobody else waiting, and all of them are answered`, async () => {
      const relay = await startRelay();
      const [crowd, other] = [
        await connectRaw(relay.port),
        await connectRaw(relay.port),
      ];
      for (const visitor of [crowd, other]) {
        visitor.write(get("/-/health"));
        await visitor.answer();
      }
      const count = 500;
      crowd.write(get(path).repeat(count));
      other.write(get("/-/health"));
      expect((await other.answer()).status).to.equal(200);
      const before = crowd.received.split("HTTP/1.1 ").length - 1;
      expect(before).to.be.below(count / 10);
      for (let i = 0; i < count; i++) await crowd.answer();
    });
  }

  it("with requests in hand when the visitor ends his direction answers all of them", async () => {
    const relay = await startRelay();
    const visitor = await connectRaw(relay.port);
    visitor.socket.end(get("/nothing").repeat(20));
    for (let i = 0; i < 20; i++)
      expect((await visitor.answer()).status).to.equal(404);
    await visitor.end();
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
