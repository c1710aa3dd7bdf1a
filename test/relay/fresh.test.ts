// TCP visits need a tunnel that has carried nothing yet: they wait for one, or have room made for one.
import { expect } from "chai";
import {
  SWITCH,
  parkForWaiting,
  parkRaw,
  parkRawAgent,
  takeAsk,
} from "../support/hidden.ts";
import { startRelay } from "../support/relay.ts";
import { connectTcp, connectTo, data, visit } from "../support/streams.ts";

describe("a TCP visit without a fresh tunnel", () => {
  it("waits for one", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const visitor = await visit(relay, `${connectTo()}early`);
    await relay.until(() => relay.counts().waiting === 1);
    const hidden = await parkForWaiting(relay, "pi");
    await takeAsk(hidden);
    hidden.write(SWITCH);
    await visitor.take("\r\n\r\n");
    await hidden.take(data("early"));
  });

  it("waits no longer than HOLD_SECONDS", async () => {
    const relay = await startRelay({ holdSeconds: 0.3 });
    await parkRaw(relay, "pi").then((raw) => raw.socket.destroy());
    await relay.until(() => relay.counts().tunnels === 0);
    const visitor = await visit(relay, connectTcp());
    const answer = await visitor.answer();
    expect(answer.status).to.equal(503);
    expect(answer.fields).to.include.keys("retry-after", "proxy-status");
  });

  it("leaves the queue with the visitor", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const visitor = await visit(relay, connectTcp());
    await relay.until(() => relay.counts().waiting === 1);
    visitor.socket.destroy();
    await relay.until(() => relay.counts().waiting === 0);
  });

  it("makes room where there are only tunnels that a service is joined to", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const used = await parkRawAgent(relay, "pi");
    const first = await visit(
      relay,
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: r\r\n\r\n",
    );
    await used.take("\r\n\r\n");
    used.write("HTTP/1.1 204 No Content\r\n\r\n");
    await first.answer();
    await relay.until(() => relay.counts().idle === 1);
    const visitor = await visit(relay, connectTo());
    await used.end();
    used.socket.end();
    await takeAsk(await parkForWaiting(relay, "pi"));
    visitor.socket.destroy();
  });

  it("gets room as soon as an exchange is over", async () => {
    const relay = await startRelay({ holdSeconds: 10 });
    const used = await parkRawAgent(relay, "pi");
    const first = await visit(
      relay,
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: r\r\n\r\n",
    );
    await used.take("\r\n\r\n");
    const visitor = await visit(relay, connectTo());
    await relay.until(() => relay.counts().waiting === 1);
    used.write("HTTP/1.1 204 No Content\r\n\r\n");
    await first.answer();
    // Not kept for the next request of HTTP, for which it would stand idle for seconds.
    await used.end();
    used.socket.end();
    await takeAsk(await parkForWaiting(relay, "pi"));
    visitor.socket.destroy();
  });
});
