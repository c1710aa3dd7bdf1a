// Who brings or takes too little is let go; who pauses because nobody waits for him is not.
import { expect } from "chai";
import { duplexPair, type Duplex } from "node:stream";
import { Connection } from "../../app/relay/connection.ts";
import { Link, UNOWNED } from "../../app/wire/link.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { advanceClock } from "../support/clock.ts";
import { parkRawAgent } from "../support/hidden.ts";
import type { Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { visit } from "../support/streams.ts";
import { OK, get, seenBy } from "../support/visits.ts";

const PIECE = Buffer.alloc(256 * 1024, "x");
const post = (fields = ""): string =>
  `POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n${fields}\r\n`;

/** A visitor who has sent this request, and the tunnel on which it has arrived. */
async function underWay(
  relay: TestRelay,
  sent: string,
): Promise<{ visitor: Raw; hidden: Raw }> {
  const hidden = await parkRawAgent(relay, "pi");
  const visitor = await visit(relay, sent);
  await hidden.take("\r\n\r\n");
  return { visitor, hidden };
}

/** Lets half a minute pass, and the relay look at its deadlines: somebody with half a head is told at the same time. */
async function sweep(relay: TestRelay): Promise<void> {
  advanceClock(31_000);
  const half = await visit(relay, "GET / HT");
  expect((await half.answer()).status).to.equal(408);
}

describe("a body", () => {
  it("that brings less than MIN_OCTETS_PER_SECOND for BODY_SECONDS gets 408, and its tunnel is ended", async () => {
    const relay = await startRelay({
      bodySeconds: 0.4,
      minOctetsPerSecond: 1000,
    });
    const { visitor, hidden } = await underWay(relay, post());
    const drip = setInterval(() => visitor.write("x"), 20);
    afterThisTest(() => {
      clearInterval(drip);
    });
    const answer = await visitor.answer();
    expect(answer.status).to.equal(408);
    expect(answer.body).to.include('"code":"request_timeout"');
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("that brings enough goes on, however long it takes", async () => {
    const relay = await startRelay({
      answerSeconds: 3600,
      headSeconds: 0.1,
      minOctetsPerSecond: 1,
    });
    const { visitor, hidden } = await underWay(relay, post());
    for (let i = 0; i < 4; i++) {
      visitor.write("x".repeat(250));
      await hidden.takeOctets(250);
      await sweep(relay);
    }
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("is not waited for while the hidden server takes none of it", async () => {
    const relay = await startRelay({
      answerSeconds: 3600,
      headSeconds: 0.1,
    });
    const { visitor, hidden } = await underWay(
      relay,
      post().replace("1000", String(64 * 1024 * 1024)),
    );
    hidden.socket.pause();
    for (let i = 0; i < 256; i++) visitor.write(PIECE);
    // Nothing has moved for many turns.
    for (let before = -1; visitor.socket.writableLength !== before;) {
      before = visitor.socket.writableLength;
      for (let turn = 0; turn < 500; turn++)
        await new Promise((resolve) => setImmediate(resolve));
    }
    await sweep(relay);
    await sweep(relay);
    hidden.socket.resume();
    await hidden.takeOctets(64 * 1024 * 1024);
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("is not waited for before the hidden server's 100, which its visitor waits for", async () => {
    const relay = await startRelay({ answerSeconds: 3600, headSeconds: 0.1 });
    const { visitor, hidden } = await underWay(
      relay,
      post("Expect: 100-continue\r\n"),
    );
    await sweep(relay);
    await sweep(relay);
    hidden.write("HTTP/1.1 100 Continue\r\n\r\n");
    await visitor.take("\r\n\r\n");
    visitor.write("x".repeat(1000));
    await hidden.takeOctets(1000);
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("may pause once the answer has begun, for then both may talk as they like", async () => {
    const relay = await startRelay({ headSeconds: 0.1 });
    const { visitor, hidden } = await underWay(relay, post());
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    await visitor.take("ab");
    await sweep(relay);
    await sweep(relay);
    visitor.write("x".repeat(1000));
    await hidden.takeOctets(1000);
    hidden.write("cd");
    await visitor.take("cd");
  });
});

describe("an answer", () => {
  it("of which nobody takes enough for STALL_SECONDS is cut, and its tunnel is ended", async () => {
    const relay = await startRelay({ stallSeconds: 1 });
    const { visitor, hidden } = await seenBy(relay, get("/?rendezvous=pi"));
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n");
    await visitor.take("\r\n\r\n");
    visitor.socket.pause();
    for (let i = 0; i < 256; i++) hidden.write(PIECE);
    expect(await hidden.close()).to.equal("reset");
    await relay.until(() => relay.counts().tunnels === 0);
    visitor.socket.resume();
    await visitor.end();
  });

  it("that pauses is never cut: nothing of it is there to be taken", async () => {
    const relay = await startRelay({ stallSeconds: 1, headSeconds: 0.1 });
    const { visitor, hidden } = await seenBy(relay, get("/?rendezvous=pi"));
    hidden.write(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
    );
    await visitor.take("data: 1\n\n");
    for (let i = 0; i < 3; i++) await sweep(relay);
    hidden.write("data: 2\n\n");
    await visitor.take("data: 2\n\n");
  });

  it("that is the last of its connection is not cut short while it is read, however slowly", () => {
    const [near, far]: [Duplex, Duplex] = duplexPair({ highWaterMark: 16 });
    afterThisTest(() => {
      near.destroy();
      far.destroy();
    });
    const options = {
      headSeconds: 30,
      stallSeconds: 59,
      minOctetsPerSecond: 1,
      maxRequestsPerConnection: 0,
      maxHeadOctets: 1024,
      maxHeadFields: 16,
    };
    const connection = new Connection(
      new Link(near, UNOWNED),
      options,
      () => undefined,
      () => undefined,
    );
    connection.answer(200, [], "x".repeat(1000));
    const now = performance.now();
    for (let seconds = 10; seconds < 100; seconds += 10) {
      connection.sweep(now + seconds * 1000);
      expect(near.destroyed).to.equal(seconds >= 70);
    }
  });
});
