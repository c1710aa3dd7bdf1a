// The relay's question to an agent for a TCP stream: what it says, how it may be answered, and when it is put again.
import { expect } from "chai";
import { SWITCH, parkRawAgent, takeAsk } from "../support/hidden.ts";
import { startRelay } from "../support/relay.ts";
import { connectTcp, connectTo, data, visit } from "../support/streams.ts";

describe("the relay's question for a TCP stream", () => {
  it("is given up when the visitor leaves", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, connectTcp());
    await takeAsk(hidden);
    visitor.socket.destroy();
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
    expect(relay.counts()).to.include({ connections: 0, waiting: 0 });
  });

  it("says for whom it asks, and in whose name", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    await visit(relay, connectTo());
    const question = await takeAsk(hidden);
    expect(question).to.match(/\r\nHost: pi\r\n/);
    expect(question).to.match(/\r\nUpgrade: connect-tcp\r\n/);
    expect(question).to.match(/\r\nRendezvous-Dial: 7\r\n/);
    expect(question).to.match(/\r\nX-Forwarded-For: 127\.0\.0\.1\r\n/);
    expect(question).to.match(/\r\nVia: 1\.1 rendezvous-/);
  });

  it("is put once more when the tunnel breaks before the answer", async () => {
    const relay = await startRelay();
    const [one, two] = [
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
    ];
    const visitor = await visit(relay, connectTo());
    await takeAsk(two);
    two.socket.destroy();
    await takeAsk(one);
    one.write(`${SWITCH}${data("hello")}`);
    await visitor.take("\r\n\r\n");
    await visitor.take("hello");
  });

  it("is not put a third time", async () => {
    const relay = await startRelay();
    const hidden = [
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
      await parkRawAgent(relay, "pi"),
    ];
    const visitor = await visit(relay, connectTo());
    for (const raw of hidden.slice(1).reverse()) {
      await takeAsk(raw);
      raw.socket.resetAndDestroy();
    }
    const answer = await visitor.answer();
    expect(answer.status).to.equal(502);
    expect(answer.body).to.contain("tunnel_lost");
    expect(relay.counts()).to.include({ idle: 1 });
  });

  it("may be answered octet by octet", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    hidden.socket.setNoDelay();
    const visitor = await visit(relay, connectTo());
    await takeAsk(hidden);
    for (const octet of SWITCH + data("hello")) hidden.write(octet);
    await visitor.take("\r\n\r\n");
    await visitor.take("hello");
  });

  for (const [what, answer, status, code] of [
    ["no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", 502, "bad_answer"],
    ["half a head", "HTTP/1.1 101 Switching", 502, "bad_answer"],
    [
      "an upgrade to something else",
      SWITCH.replace("connect-tcp", "websocket"),
      403,
      "not_offered",
    ],
    [
      "a page of some other server",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
      403,
      "not_offered",
    ],
    [
      "a code that is not ours",
      "HTTP/1.1 404 Not Found\r\nRendezvous-Failure: nonsense\r\n\r\n",
      403,
      "not_offered",
    ],
    [
      "the agent's own code",
      "HTTP/1.1 502 Bad Gateway\r\nRendezvous-Failure: target_down\r\n\r\n",
      502,
      "target_down",
    ],
  ] as const) {
    it(`is answered for the visitor when it gets ${what}`, async () => {
      const relay = await startRelay();
      const hidden = await parkRawAgent(relay, "pi");
      const visitor = await visit(relay, connectTcp());
      await takeAsk(hidden);
      hidden.socket.end(answer, "latin1");
      const told = await visitor.answer();
      expect(told.status).to.equal(status);
      expect(told.body).to.contain(`"code":"${code}"`);
      expect(told.fields).to.have.property("proxy-status");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("that is not answered within ANSWER_SECONDS ends in a 504", async () => {
    const relay = await startRelay({ answerSeconds: 0.3 });
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await visit(relay, connectTcp());
    await takeAsk(hidden);
    const answer = await visitor.answer();
    expect(answer.status).to.equal(504);
    expect(answer.body).to.contain("no_answer");
    expect(answer.fields["proxy-status"]).to.contain("http_response_timeout");
    await hidden.close();
    await relay.until(() => relay.counts().tunnels === 0);
  });
});
