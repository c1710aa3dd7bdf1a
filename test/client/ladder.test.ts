// Which way dial() takes through the routers in front of a relay, and how long it remembers it.
import { expect } from "chai";
import { readFileSync } from "node:fs";
import { dial, reach } from "../../app/client/dial.ts";
import { DialError } from "../../app/client/ways.ts";
import type { Way } from "../../app/protocol.ts";
import { hurryTimers } from "../support/clock.ts";
import { until } from "../support/relay.ts";
import {
  answerOf,
  startRouter,
  type Kind,
  type Router,
  type Treatment,
} from "../support/router.ts";
import {
  echo,
  offerService,
  readAll,
  type Offered,
} from "../support/streams.ts";
import { selfSign } from "../support/tcp.ts";

/** A service behind a relay behind a router; the agent goes past it. */
async function start(
  treat: (kind: Kind, head: string) => Treatment,
  serve = echo,
): Promise<Offered & { router: Router }> {
  const offered = await offerService(serve);
  return { ...offered, router: await startRouter(offered.relay.port, treat) };
}

/** Sends hello through a dial, and gives what comes back. */
async function hello(relay: string): Promise<string> {
  const stream = await dial({ relay, id: "pi", port: 7 });
  stream.end("hello");
  return readAll(stream);
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it was not rejected");
    },
    (reason: unknown) => reason,
  );
}

const onConnect =
  (treatment: Treatment): ((kind: Kind) => Treatment) =>
  (kind) =>
    kind === "connect" ? treatment : "pass";

const REFUSED = answerOf("405 Method Not Allowed");
const PAGE = "<!doctype html><title>No</title>";

/** Takes Upgrade away, as if it had not been sent. */
const stripped = (head: string): Treatment => ({
  head: head.replace(/^(?:connection|upgrade):.*\r\n/gim, ""),
});

describe("a dial through a router", () => {
  for (const [what, treat, way] of [
    ["passes all", () => "pass", "upgrade"],
    [
      "refuses all upgrades",
      (kind) => (kind === "connect" ? "pass" : REFUSED),
      "connect",
    ],
    ["refuses CONNECT", onConnect(REFUSED), "upgrade"],
    [
      "answers CONNECT with a page",
      onConnect(answerOf("200 OK", PAGE)),
      "upgrade",
    ],
    ["cuts a CONNECT", onConnect({ answer: "" }), "upgrade"],
    [
      "takes Upgrade away",
      (kind, head) =>
        kind === "connect"
          ? REFUSED
          : kind === "upgrade"
            ? stripped(head)
            : "pass",
      "websocket",
    ],
  ] as readonly [string, (kind: Kind, head: string) => Treatment, Way][]) {
    it(`that ${what} goes by ${way}, and the next one goes nowhere else`, async () => {
      const { router, agent } = await start(treat);
      expect(await hello(router.url)).to.equal("hello");
      const { length } = router.asked;
      expect(await hello(router.url)).to.equal("hello");
      expect(router.asked.slice(length)).to.deep.equal([way]);
      await until(() => agent.counts.joined === 0);
    });
  }

  for (const [what, treatment] of [
    ["never answers an Upgrade", "hang"],
    ["swallows what follows an Upgrade", "deaf"],
  ] as readonly [string, Treatment][]) {
    it(`that ${what} goes by WebSocket when 3 s are over, and no tunnel stays claimed`, async () => {
      hurryTimers(10);
      const { router, agent } = await start((kind) =>
        kind === "upgrade" ? treatment : "pass",
      );
      const { pipe, way, tried } = await reach({
        relay: router.url,
        id: "pi",
        port: 7,
      });
      expect(way).to.equal("websocket");
      expect(String(tried?.get("upgrade"))).to.match(/in 3 s$/);
      // The one that was hoped for has been given up.
      await until(() => agent.counts.joined === 1);
      pipe.reset();
      await until(() => agent.counts.joined === 0);
    });
  }

  it("that passes nothing says what each way came to", async () => {
    const { router } = await start((kind) =>
      kind === "connect" ? REFUSED : answerOf("403 Forbidden", PAGE),
    );
    const error = await rejection(hello(router.url));
    expect(error).to.be.instanceOf(DialError).and.include({ status: 403 });
    expect(String(error)).to.match(
      /upgrade: .*403.*; websocket: .*403.*; connect: .*405/,
    );
  });

  it("tells the relay's own refusal, and looks for no other way", async () => {
    const { router } = await start(() => "pass");
    const other = dial({ relay: router.url, id: "pi", port: 8 });
    expect(await rejection(other)).to.include({
      status: 403,
      code: "not_offered",
    });
  });

  it("forgets the way that has stopped to lead there", async () => {
    let closed: Kind | undefined;
    const { router } = await start((kind) =>
      kind === closed ? REFUSED : "pass",
    );
    expect(await hello(router.url)).to.equal("hello");
    closed = "upgrade";
    expect(await hello(router.url)).to.equal("hello");
    closed = "websocket";
    const { length } = router.asked;
    expect(await hello(router.url)).to.equal("hello");
    expect(router.asked[length]).to.equal("websocket");
    closed = undefined;
    const after = router.asked.length;
    expect(await hello(router.url)).to.equal("hello");
    expect(router.asked.slice(after)).to.deep.equal(["upgrade"]);
  });

  it("keeps the way that it knows when the relay itself says no", async () => {
    const { router } = await start(onConnect(REFUSED));
    expect(await hello(router.url)).to.equal("hello");
    await rejection(dial({ relay: router.url, id: "pi", port: 8 }));
    const { length } = router.asked;
    expect(await hello(router.url)).to.equal("hello");
    expect(router.asked.slice(length)).to.deep.equal(["upgrade"]);
  });

  it("gives the octets that a service sends at once, whichever way is found", async () => {
    for (const treat of [() => "pass" as const, onConnect(REFUSED)]) {
      const { router } = await start(treat, (socket) => {
        socket.end("SSH-2.0-x\r\n");
      });
      const stream = await dial({ relay: router.url, id: "pi", port: 7 });
      expect(await readAll(stream)).to.equal("SSH-2.0-x\r\n");
      stream.end();
    }
  });

  it("follows a redirect to https on the same host, and remembers where it led", async () => {
    const { cert, key } = await selfSign("localhost");
    const ca = readFileSync(cert, "utf8");
    const tls = { cert: ca, key: readFileSync(key, "utf8") };
    const { relay } = await offerService(echo, { tls }, { ca });
    const location = `Location: https://localhost:${relay.port}/\r\n`;
    const router = await startRouter(relay.port, () =>
      answerOf("301 Moved Permanently", "", location),
    );
    const to = { relay: `http://localhost:${router.port}`, id: "pi", port: 7 };
    for (let i = 0; i < 2; i++) {
      const stream = await dial({ ...to, ca });
      stream.end("hello");
      expect(await readAll(stream)).to.equal("hello");
    }
    // Three ways to the echo, and the one that was hoped for.
    expect(router.asked).to.have.lengthOf(4);
  });

  it("does not follow a redirect to another host", async () => {
    const { router } = await start(() =>
      answerOf("302 Found", "", "Location: https://127.0.0.2:1/\r\n"),
    );
    const error = await rejection(hello(router.url));
    expect(String(error)).to.match(/302/);
    expect(error).to.be.instanceOf(DialError);
  });
});
