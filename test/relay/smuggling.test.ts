// Messages that two readers could read in two ways: refused, or passed on so that only one way is left. A test for each attempt, on both legs.
import { expect } from "chai";
import { parkRaw, parkRawAgent } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import {
  SMUGGLED,
  GOOD,
  HOST,
  CHUNKED,
  get,
  post,
  REFUSED_HEADS,
  READ_WELL,
  REFUSED_BODIES,
  FORWARDED,
  REFUSED_ANSWERS,
  type Answer,
} from "../support/smuggling.ts";
import { expectProblem } from "../support/visits.ts";

interface Scene {
  readonly relay: TestRelay;
  readonly hidden: Raw;
  readonly visitor: Raw;
}

async function scene(): Promise<Scene> {
  const relay = await startRelay({
    holdSeconds: 0.001,
    baseDomain: "example.com",
  });
  const hidden = await parkRaw(relay, "pi");
  return { relay, hidden, visitor: await connectRaw(relay.port) };
}

/** The hidden server's first octets ever are those of an honest request: it has seen nothing before. */
async function expectUntouched({ relay, hidden }: Scene): Promise<void> {
  expect(relay.counts().idle).to.equal(1);
  const honest = await connectRaw(relay.port);
  honest.write(GOOD);
  expect(await hidden.take("\r\n\r\n")).to.match(/^GET \/good HTTP\/1\.1\r\n/);
}

describe("a request that could be read in two ways", () => {
  for (const [title, sent, status, code] of REFUSED_HEADS) {
    it(`is refused with ${status} for ${title}`, async () => {
      const now = await scene();
      const follows = !READ_WELL.has(title) && status !== 431;
      now.visitor.write(sent + (follows ? SMUGGLED : ""));
      await expectProblem(now.visitor, status, code);
      if (!READ_WELL.has(title)) await now.visitor.end();
      expect(now.visitor.received).to.equal("");
      await expectUntouched(now);
    });
  }

  for (const [title, body] of REFUSED_BODIES) {
    it(`is refused with 400 and never completed for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(post(CHUNKED));
      await hidden.take("\r\n\r\n");
      visitor.write(body + SMUGGLED);
      await expectProblem(visitor, 400, "bad_request");
      await visitor.end();
      expect(visitor.received).to.equal("");
      expect(await hidden.close()).to.equal("reset");
      expect(hidden.received).to.not.match(/smuggled|0\r\n\r\n/);
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("is refused before a line of its chunks has come whole, where a bare CR could end the line", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(post(CHUNKED));
    await hidden.take("\r\n\r\n");
    visitor.write("0\r\rGET /smuggled HTTP/1.1\rHost: x\r\r");
    await expectProblem(visitor, 400, "bad_request");
    expect(await hidden.close()).to.equal("reset");
    expect(hidden.received).to.equal("");
  });

  for (const [title, sent, seen] of FORWARDED) {
    it(`is passed on in one way for ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(sent);
      const octets = await hidden.takeOctets(
        seen.length + "rendezvous-12345678".length - "RELAY".length,
      );
      expect(octets.replace(/rendezvous-[0-9a-f]{8}/, "RELAY")).to.equal(seen);
      hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      expect((await visitor.answer()).body).to.equal("ok");
      await hidden.end();
      expect(hidden.received).to.equal("");
    });
  }

  it("is not read out of what follows a refused CONNECT", async () => {
    const now = await scene();
    now.visitor.write(
      `CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n${SMUGGLED}`,
    );
    await expectProblem(now.visitor, 404, "unknown_server");
    await now.visitor.end();
    expect(now.visitor.received).to.equal("");
    await expectUntouched(now);
  });

  it("is not read out of what follows a refused Upgrade by a hidden server: it is a request of its own", async () => {
    const { relay, hidden, visitor } = await scene();
    const second = await parkRaw(relay, "pi");
    visitor.write(
      get(`${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n`) + SMUGGLED,
    );
    // The tunnel that was parked last is claimed first.
    const head = await second.take("\r\n\r\n");
    expect(head).to.match(/Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n$/);
    second.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    expect((await visitor.answer()).status).to.equal(400);
    await second.end();
    expect(second.received).to.equal("");
    const separate = await hidden.take("\r\n\r\n");
    expect(separate).to.match(
      /^GET \/smuggled HTTP\/1\.1\r\n.*X: smuggled\r\nVia: /s,
    );
  });
});

describe("an answer that could be read in two ways", () => {
  for (const [title, sent] of REFUSED_ANSWERS) {
    it(`gives the visitor a 502 and ends the tunnel for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(sent);
      let answer = await visitor.answer();
      while (answer.status === 103) answer = await visitor.answer();
      expect(answer.status).to.equal(502);
      expect(answer.body)
        .to.include('"code":"bad_answer"')
        .and.not.include("forged");
      expect(await hidden.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
      expect(visitor.received).to.equal("");
    });
  }

  const truncated: readonly Answer[] = [
    ["inside the status line", "HTTP/1.1 20"],
    ["inside the head", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"],
    ["after an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n"],
  ];
  for (const [title, sent] of truncated) {
    it(`gives the visitor a 502 when it stops ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(sent).socket.end();
      let answer = await visitor.answer();
      if (answer.status === 103) answer = await visitor.answer();
      expect(answer.status).to.equal(502);
      expect(answer.body).to.include('"code":"bad_answer"');
    });
  }

  const cut: readonly (readonly [title: string, head: string, part: string])[] =
    [
      ["inside a body with a length", "Content-Length: 4\r\n", "ab"],
      ["before a body with a length", "Content-Length: 4\r\n", ""],
      ["inside a chunk", CHUNKED, "4\r\nab"],
      ["between two chunks", CHUNKED, "2\r\nab\r\n"],
      ["before the end of the trailer", CHUNKED, "0\r\nX: y\r\n"],
    ];
  for (const [title, head, part] of cut) {
    it(`is cut for the visitor when it stops ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(`HTTP/1.1 200 OK\r\n${head}\r\n${part}`);
      await visitor.take("\r\n\r\n");
      await visitor.takeOctets(part.length);
      hidden.socket.end();
      expect(await visitor.close()).to.equal("reset");
      expect(visitor.received).to.equal("");
    });
  }

  it("is cut for the visitor when it is reset before the end of the stream that ends it", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\n\r\nab");
    await visitor.take("\r\n\r\nab");
    hidden.socket.resetAndDestroy();
    expect(await visitor.close()).to.equal("reset");
  });

  const broken: readonly (readonly [
    title: string,
    head: string,
    first: string,
    then: string,
  ])[] = [
    [
      "a second answer behind a body with a length",
      "Content-Length: 4\r\n",
      "ab",
      "cdHTTP/1.1 200 OK\r\n\r\nforged",
    ],
    [
      "a second answer behind the last chunk",
      CHUNKED,
      "2\r\nab\r\n",
      "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nforged",
    ],
    [
      "a chunk's size that cannot be read",
      CHUNKED,
      "2\r\nab\r\n",
      "zz\r\nforged\r\n",
    ],
  ];
  for (const [title, head, first, then] of broken) {
    it(`is cut where it breaks, and nothing forged gets through, for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(`HTTP/1.1 200 OK\r\n${head}\r\n${first}`);
      await visitor.take("\r\n\r\n");
      await visitor.takeOctets(first.length);
      hidden.write(then);
      expect(await visitor.close()).to.equal("reset");
      expect(visitor.received).to.not.include("forged");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("never reaches the next visitor when octets come later on the idle tunnel", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect((await visitor.answer()).body).to.equal("ok");
    expect(relay.counts().idle).to.equal(1);
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
    await relay.until(() => relay.counts().tunnels === 0);
    const next = await parkRawAgent(relay, "pi");
    visitor.write(GOOD);
    await next.take("\r\n\r\n");
    next.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
    expect((await visitor.answer()).body).to.equal("next");
  });

  it("never reaches the next visitor when a HEAD is answered with a body", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write("HEAD /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect((await visitor.answer("HEAD")).status).to.equal(502);
    expect(await hidden.close()).to.equal("reset");
  });

  it("is the last one on its tunnel when an interim answer has said close", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write(
      "HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    expect((await visitor.answer()).head).not.to.match(/close/i);
    expect((await visitor.answer()).body).to.equal("ok");
    await hidden.end();
    expect(hidden.received).to.equal("");
  });

  it("does not pass on a 101 that comes before the request is complete", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(
      post("Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n", "ab"),
    );
    await hidden.take("\r\n\r\nab");
    hidden.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    );
    await expectProblem(visitor, 502, "bad_answer");
    await visitor.end();
  });

  it("loses the fields that its Connection names, cookies among them", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write(
      "HTTP/1.1 200 OK\r\nConnection: X-Hop, Set-Cookie\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
    );
    const { head } = await visitor.answer();
    expect(head.replace(/rendezvous-[0-9a-f]{8}/, "RELAY")).to.equal(
      "HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\n\r\n",
    );
  });
});
