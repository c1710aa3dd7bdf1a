// Visitors who wait, tunnels that die under them, and a relay that leaves: every wait ends in an answer, and nothing is sent twice.
import { expect } from "chai";
import { connect, type AddressInfo } from "node:net";
import { once } from "node:events";
import {
  parkForWaiting,
  parkRaw,
  parkRawAgent,
  parkRawUnproved,
  pong,
} from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { OK, expectProblem, get } from "../support/visits.ts";

/** Long enough to be in it, short enough to wait for its end. */
const SHORT = 0.05;

const send = (method: string, body: string): string =>
  `${method} /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

async function visit(
  relay: TestRelay,
  sent = get("/?rendezvous=pi"),
): Promise<Raw> {
  return (await connectRaw(relay.port)).write(sent);
}

/** A visitor who has found no tunnel. */
async function waitingVisit(relay: TestRelay, sent?: string): Promise<Raw> {
  const { waiting } = relay.counts();
  const visitor = await visit(relay, sent);
  await relay.until(() => relay.counts().waiting > waiting);
  return visitor;
}

/** A visitor who asks, and takes nothing of the answers: the relay reads no more of him by now. That nothing moves has no event, hence the wait. */
async function deafVisitor(relay: TestRelay): Promise<Raw> {
  const visitor = await connectRaw(relay.port);
  visitor.socket.pause();
  const ask = get("/?rendezvous=nobody").repeat(1000);
  while (visitor.socket.write(ask) || (await drains(visitor)));
  return visitor;
}

function drains({ socket }: Raw): Promise<boolean> {
  return Promise.race([
    once(socket, "drain").then(() => true),
    new Promise<boolean>((resolve) => setTimeout(resolve, 300, false)),
  ]);
}

describe("a visitor for whom no tunnel is free", () => {
  it("is served in the order of arrival, the moment a tunnel parks or becomes free", async () => {
    const relay = await startRelay();
    const visitors = [];
    for (const path of ["/1", "/2", "/3"])
      visitors.push(await waitingVisit(relay, get(`${path}?rendezvous=pi`)));
    const hidden = await parkForWaiting(relay, "pi");
    for (const [i, visitor] of visitors.entries()) {
      expect(await hidden.take("\r\n\r\n")).to.match(
        new RegExp(`^GET /${i + 1} `),
      );
      hidden.write(OK);
      expect((await visitor.answer()).body).to.equal("ok");
    }
    expect(relay.counts()).to.include({ waiting: 0, idle: 1 });
  });

  it("gets no tunnel of another server", async () => {
    const relay = await startRelay();
    await waitingVisit(relay);
    await parkRawAgent(relay, "other");
    expect(relay.counts()).to.include({ waiting: 1, idle: 1 });
  });

  it("has his body sent once there is a tunnel, and not before", async () => {
    const relay = await startRelay();
    const visitor = await waitingVisit(
      relay,
      send("POST", "abcd").slice(0, -2),
    );
    visitor.write("cd");
    const hidden = await parkForWaiting(relay, "pi");
    await hidden.take("\r\n\r\n");
    expect(await hidden.takeOctets(4)).to.equal("abcd");
  });

  it("gets 503 at once when as many wait as may for one server", async () => {
    const relay = await startRelay({ maxWaitingPerServer: 1 });
    await waitingVisit(relay);
    await expectProblem(await visit(relay), 503, "busy", "2");
    await waitingVisit(relay, get("/?rendezvous=other"));
  });

  it("gets 503 at once when as many wait as may for all servers together", async () => {
    const relay = await startRelay({ maxWaiting: 1 });
    await waitingVisit(relay);
    await expectProblem(
      await visit(relay, get("/?rendezvous=other")),
      503,
      "busy",
      "2",
    );
  });

  it("gets 503 when all tunnels stay taken for HOLD_SECONDS", async () => {
    const relay = await startRelay({ holdSeconds: SHORT });
    const hidden = await parkRaw(relay, "pi");
    await visit(relay);
    await hidden.take("\r\n\r\n");
    await expectProblem(await visit(relay), 503, "busy", "2");
    expect(relay.counts().waiting).to.equal(0);
  });

  it("gets 503 when a server that was here does not come back within HOLD_SECONDS", async () => {
    const relay = await startRelay({ holdSeconds: SHORT });
    const hidden = await parkRaw(relay, "pi");
    hidden.socket.destroy();
    await relay.until(() => relay.counts().tunnels === 0);
    await expectProblem(await visit(relay), 503, "server_offline", "5");
  });

  it("frees his place when he leaves, and the next tunnel stays in the lot", async () => {
    const relay = await startRelay();
    const one = await waitingVisit(relay);
    const two = await waitingVisit(relay);
    one.socket.resetAndDestroy();
    two.socket.end();
    await relay.until(() => relay.counts().waiting === 0);
    const hidden = await parkRawAgent(relay, "pi");
    expect(hidden.received).to.equal("");
    expect(relay.counts().idle).to.equal(1);
  });
});

describe("a name that was never seen", () => {
  it("waits while the relay is new, for agents are on their way back", async () => {
    const relay = await startRelay();
    const visitor = await waitingVisit(relay);
    const hidden = await parkForWaiting(relay, "pi");
    await hidden.take("\r\n\r\n");
    hidden.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("gets 404 when that time is over, and from then on at once", async () => {
    const relay = await startRelay({ holdSeconds: 0.3 });
    await expectProblem(await waitingVisit(relay), 404, "unknown_server");
    const visitor = await visit(relay);
    await expectProblem(visitor, 404, "unknown_server");
    expect(relay.counts()).to.include({ waiting: 0, servers: 0 });
  });
});

describe("an exchange", () => {
  it("without a first octet of answer within ANSWER_SECONDS gets 504, and its tunnel is ended", async () => {
    const relay = await startRelay({ answerSeconds: SHORT });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    await expectProblem(visitor, 504, "no_answer");
    expect(await hidden.close()).to.equal("reset");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("is not sent again after 504, though another tunnel is there", async () => {
    const relay = await startRelay({ answerSeconds: SHORT });
    const other = await parkRawAgent(relay, "pi");
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    await expectProblem(visitor, 504, "no_answer");
    expect(other.received).to.equal("");
    expect(relay.counts().idle).to.equal(1);
  });

  for (const [when, answer] of [
    ["before its answer", ""],
    ["in its answer", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"],
  ] as const) {
    it(`is ended on the tunnel when the visitor leaves ${when}`, async () => {
      const relay = await startRelay();
      const hidden = await parkRawAgent(relay, "pi");
      const visitor = await visit(relay);
      await hidden.take("\r\n\r\n");
      if (answer !== "") {
        hidden.write(answer);
        await visitor.take("ok");
      }
      visitor.socket.resetAndDestroy();
      expect(await hidden.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("is ended on the tunnel when the visitor leaves in his own body", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, send("PUT", "abcd").slice(0, -2));
    await hidden.take("\r\n\r\nab");
    visitor.socket.end();
    expect(await hidden.close()).to.equal("reset");
    await visitor.end();
  });
});

describe("a tunnel that dies before the first octet of an answer", () => {
  /** Two tunnels; the first one returned is claimed first. */
  async function two(relay: TestRelay): Promise<[Raw, Raw]> {
    const second = await parkRawAgent(relay, "pi");
    return [await parkRawAgent(relay, "pi"), second];
  }

  for (const method of ["GET", "HEAD", "OPTIONS"]) {
    it(`is replaced by another one for ${method}`, async () => {
      const relay = await startRelay();
      const [dying, living] = await two(relay);
      const visitor = await visit(
        relay,
        `${method} /a?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n`,
      );
      await dying.take("\r\n\r\n");
      dying.socket.destroy();
      expect(await living.take("\r\n\r\n")).to.match(
        new RegExp(`^${method} /a `),
      );
      living.write("HTTP/1.1 204 No Content\r\n\r\n");
      expect((await visitor.answer(method)).status).to.equal(204);
    });
  }

  it("is replaced by one that parks later, while the visitor waits", async () => {
    const relay = await startRelay();
    const dying = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await dying.take("\r\n\r\n");
    dying.socket.destroy();
    await relay.until(() => relay.counts().waiting === 1);
    const living = await parkForWaiting(relay, "pi");
    await living.take("\r\n\r\n");
    living.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("gives up after the second one", async () => {
    const relay = await startRelay();
    const third = await parkRawAgent(relay, "pi");
    const [first, second] = await two(relay);
    const visitor = await visit(relay);
    for (const dying of [first, second]) {
      await dying.take("\r\n\r\n");
      dying.socket.destroy();
    }
    await expectProblem(visitor, 502, "tunnel_lost", "1");
    expect(third.received).to.equal("");
  });

  for (const method of ["POST", "PUT", "DELETE", "INVENTED"]) {
    it(`is not replaced for ${method}, which might be done twice`, async () => {
      const relay = await startRelay();
      const [dying, living] = await two(relay);
      const visitor = await visit(
        relay,
        `${method} /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n`,
      );
      await dying.take("\r\n\r\n");
      dying.socket.destroy();
      await expectProblem(visitor, 502, "tunnel_lost", "1");
      expect(living.received).to.equal("");
      expect(relay.counts().idle).to.equal(1);
    });
  }

  it("is replaced for a POST whose body is still to come, when it had been used before and may have been closed for idleness", async () => {
    const relay = await startRelay();
    const [stale, living] = await two(relay);
    const visitor = await visit(relay);
    await stale.take("\r\n\r\n");
    stale.write(OK);
    await visitor.answer();
    visitor.write(send("POST", "ab").slice(0, -2));
    await stale.take("\r\n\r\n");
    stale.socket.destroy();
    expect(await living.take("\r\n\r\n")).to.match(/^POST \/ /);
    visitor.write("ab");
    expect(await living.takeOctets(2)).to.equal("ab");
    living.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });

  it("is not replaced for a POST without a body, which may have been done, whatever the tunnel had carried before", async () => {
    const relay = await startRelay();
    const [stale, living] = await two(relay);
    const visitor = await visit(relay);
    await stale.take("\r\n\r\n");
    stale.write(OK);
    await visitor.answer();
    visitor.write(send("POST", ""));
    await stale.take("\r\n\r\n");
    stale.socket.destroy();
    await expectProblem(visitor, 502, "tunnel_lost", "1");
    expect(living.received).to.equal("");
  });

  for (const method of ["GET", "POST", "PUT"]) {
    it(`is never replaced for a ${method} of whose body an octet was sent`, async () => {
      const relay = await startRelay();
      const [stale, living] = await two(relay);
      const visitor = await visit(relay);
      await stale.take("\r\n\r\n");
      stale.write(OK);
      await visitor.answer();
      visitor.write(send(method, "ab").slice(0, -1));
      await stale.take("\r\n\r\na");
      stale.socket.destroy();
      await expectProblem(visitor, 502, "tunnel_lost", "1");
      expect(living.received).to.equal("");
      expect(relay.counts().idle).to.equal(1);
    });
  }
});

describe("a relay that leaves", () => {
  it("cuts nothing that is under way, request or answer", async () => {
    const relay = await startRelay({ drainSeconds: 1 });
    const [one, two] = [
      await parkRawAgent(relay, "one"),
      await parkRawAgent(relay, "two"),
    ];
    const down = await visit(relay, get("/?rendezvous=one"));
    await one.take("\r\n\r\n");
    one.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    await down.take("\r\n\r\nab");
    const up = await visit(
      relay,
      "PUT /?rendezvous=two HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab",
    );
    await two.take("\r\n\r\nab");
    const drained = relay.drain();
    one.write("cd");
    expect(await down.take("cd")).to.equal("cd");
    up.write("cd");
    await two.take("cd");
    two.write(OK);
    const answer = await up.answer();
    expect(answer.body).to.equal("ok");
    expect(answer.fields["connection"]).to.equal("close");
    for (const raw of [one, two, down, up]) {
      await raw.end();
      raw.socket.end();
    }
    await drained;
  });

  it("tells those who wait to come back", async () => {
    const relay = await startRelay({ drainSeconds: 1 });
    const visitor = await waitingVisit(relay);
    const drained = relay.drain();
    await expectProblem(visitor, 503, "draining", "1");
    await visitor.end();
    visitor.socket.end();
    await drained;
  });

  it("takes no new connection, and ends idle ones and idle tunnels", async () => {
    const relay = await startRelay({ drainSeconds: 0.2 });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, get("/-/health"));
    await visitor.answer();
    const drained = relay.drain();
    const late = connect({ port: relay.port, host: "127.0.0.1" });
    const [error] = (await once(late, "error")) as [NodeJS.ErrnoException];
    expect(error.code).to.equal("ECONNREFUSED");
    await visitor.end();
    await hidden.end();
    expect(hidden.received).to.equal("");
    await drained;
  });

  it("still serves a request that was on its way there on an open connection, and says that it is the last", async () => {
    const relay = await startRelay({ drainSeconds: 2 });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    hidden.write(OK);
    await visitor.answer();
    const gone = relay.drain();
    visitor.write(send("POST", "ab"));
    expect(await hidden.take("\r\n\r\nab")).to.match(/^POST \/ /);
    hidden.write(OK);
    const { body, fields } = await visitor.answer();
    expect([body, fields["connection"]]).to.deep.equal(["ok", "close"]);
    visitor.socket.end();
    await hidden.end();
    hidden.socket.end();
    await gone;
  });

  it("takes no tunnel that was not proved yet", async () => {
    const relay = await startRelay({ drainSeconds: 1 });
    const { raw, nonce } = await parkRawUnproved(relay, "pi");
    const drained = relay.drain();
    raw.write(pong(nonce));
    await raw.end();
    raw.socket.end();
    await drained;
  });

  it("lets no stranger decide how long it takes, and still gives an exchange its time", async () => {
    const drainSeconds = 4;
    const relay = await startRelay({
      drainSeconds,
      maxRequestsPerConnection: 0,
      holdSeconds: SHORT,
    });
    relay.genericServer.listen(0, "127.0.0.1");
    await once(relay.genericServer, "listening");
    const generic = relay.genericServer.address() as AddressInfo;
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    await visitor.take("ab");
    // None of them closes by itself.
    const idle = await visit(relay, get("/-/health"));
    await idle.answer();
    const half = "GET / HTTP/1.1\r\nHost: x\r\n";
    const post = (page: string): string =>
      `POST ${page} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n`;
    const [partial, mute, unfinished] = [
      await visit(relay, half),
      await visit(relay, post("/-/health")),
      await visit(relay, post("/-/stream")),
    ];
    const line = (await connectRaw(generic.port)).write("R");
    const echo = await visit(
      relay,
      "CONNECT rendezvous.internal:7 HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    expect((await mute.answer()).status).to.equal(404);
    await echo.take("HTTP/1.1 200 OK");
    const deaf = await deafVisitor(relay);
    const since = performance.now();
    const drained = relay.drain();
    expect(await line.take("\n")).to.equal("-ERR restarting\n");
    await expectProblem(partial, 503, "draining", "1");
    await expectProblem(unfinished, 503, "draining", "1");
    await relay.until(() => relay.counts().sockets === 2);
    deaf.socket.destroy();
    hidden.write("cd");
    expect(await visitor.take("cd")).to.equal("cd");
    for (const { socket } of [hidden, visitor]) socket.end();
    await drained;
    expect(performance.now() - since).to.be.below(0.9 * drainSeconds * 1000);
  });

  it("need not wait where no visitor is connected", async () => {
    const relay = await startRelay({ drainSeconds: 3600 });
    const tunnels = [
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
    ];
    const drained = relay.drain();
    for (const tunnel of tunnels) {
      await tunnel.end();
      tunnel.socket.end();
    }
    await drained;
  });

  it("closes what is left after DRAIN_SECONDS", async () => {
    const relay = await startRelay({ drainSeconds: SHORT });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    await relay.drain();
    await visitor.end();
    await hidden.end();
  });

  it("closes all at once when it is told a second time", async () => {
    const relay = await startRelay({ drainSeconds: 3600 });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay);
    await hidden.take("\r\n\r\n");
    const drained = relay.drain();
    await relay.drain();
    await drained;
    await visitor.end();
    await hidden.end();
  });
});
