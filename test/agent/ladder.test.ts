// Which way the agent takes through the routers in front of a relay, and what it says of the others.
import { expect } from "chai";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { park, type Agent } from "../../app/agent/agent.ts";
import type { Way } from "../../app/protocol.ts";
import type { RelaySettings } from "../../app/relay/options.ts";
import type { Tried } from "../../app/wire/ladder.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { hurryTimers } from "../support/clock.ts";
import { connectRaw } from "../support/raw.ts";
import { startRelay, until, type TestRelay } from "../support/relay.ts";
import {
  answerOf,
  startRouter,
  type Kind,
  type Router,
  type Treatment,
} from "../support/router.ts";
import { selfSign } from "../support/tcp.ts";

interface Scene {
  readonly relay: TestRelay;
  readonly router: Router;
  readonly agent: Agent;
  /** What the agent found, in the order of its searches. */
  readonly found: { way: Way; tried: Tried<Way> }[];
  readonly troubles: string[];
}

/** An agent of `pi` behind a router, not waited for. */
async function start(
  treat: (kind: Kind) => Treatment,
  {
    via,
    spare = 1,
    settings,
  }: { via?: Way; spare?: number; settings?: Partial<RelaySettings> } = {},
): Promise<Scene> {
  const relay = await startRelay(settings);
  const router = await startRouter(relay.port, treat);
  const agent = park((_asked, answer) => answer.end("hello"), {
    relay: router.url,
    id: "pi",
    secret: relay.issue("pi").secret,
    spare,
    via,
  });
  afterThisTest(() => agent.close());
  return { relay, router, agent, ...listen(agent) };
}

function listen(agent: Agent): Pick<Scene, "found" | "troubles"> {
  const found: Scene["found"] = [];
  const troubles: string[] = [];
  agent.on("way", (way, tried) => found.push({ way, tried }));
  agent.on("trouble", (reason) => troubles.push(reason));
  return { found, troubles };
}

/** What a visitor of `pi` gets. */
async function visit(port: number): Promise<string> {
  const visitor = await connectRaw(port);
  visitor.write("GET /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
  return (await visitor.answer()).body;
}

const onConnect =
  (treatment: Treatment): ((kind: Kind) => Treatment) =>
  (kind) =>
    kind === "connect" ? treatment : "pass";

const PAGE = "<!doctype html><title>No</title>";

describe("an agent behind a router", () => {
  it("that passes all parks by CONNECT, and asks for nothing else afterwards", async () => {
    const { relay, router, found } = await start(() => "pass", { spare: 3 });
    await relay.until(() => relay.counts().idle === 3);
    expect(found.map(({ way }) => way)).to.deep.equal(["connect"]);
    expect(relay.counts().tunnels).to.equal(3);
    const kinds = router.asked.filter((kind) => kind !== "connect");
    expect(kinds).to.have.lengthOf.at.most(2);
  });

  for (const [what, treatment, told] of [
    ["400", answerOf("400 Bad Request"), /answered 400|refused \(400\)/],
    ["403 and a page", answerOf("403 Forbidden", PAGE), /403/],
    ["405", answerOf("405 Method Not Allowed"), /405/],
    ["426", answerOf("426 Upgrade Required"), /426/],
    ["501", answerOf("501 Not Implemented"), /501/],
    ["502", answerOf("502 Bad Gateway", PAGE), /502/],
    ["a cut", { answer: "" }, /./],
    ["no HTTP", { answer: "SSH-2.0-x\r\n" }, /./],
    ["a 200 and a page", answerOf("200 OK", PAGE), /one direction|no tunnel/],
    [
      "a 200 and a page, on a connection that stays",
      {
        answer: `HTTP/1.1 200 OK\r\nContent-Length: ${PAGE.length}\r\n\r\n${PAGE}`,
        stays: true,
      },
      /one direction|no tunnel/,
    ],
  ] as readonly [string, Treatment, RegExp][]) {
    it(`that answers CONNECT with ${what} parks by Upgrade`, async () => {
      const { relay, found } = await start(onConnect(treatment));
      await relay.until(() => relay.counts().idle === 1);
      expect(found).to.have.lengthOf(1);
      expect(found[0]?.way).to.equal("upgrade");
      expect(found[0]?.tried.get("connect")).to.match(told);
      expect(await visit(relay.port)).to.equal("hello");
    });
  }

  it("that never answers CONNECT is up by Upgrade in less than 4 s", async () => {
    const began = performance.now();
    const { relay, found, router } = await start(onConnect("hang"));
    await relay.until(() => relay.counts().idle === 1);
    expect(performance.now() - began).to.be.below(4000);
    expect(found[0]?.way).to.equal("upgrade");
    expect(String(found[0]?.tried.get("connect"))).to.match(/in 3 s$/);
    expect(router.asked).to.include("connect");
    expect(await visit(relay.port)).to.equal("hello");
  });

  it("that swallows what follows a CONNECT parks by Upgrade, and the relay hears no visitor's request there", async () => {
    hurryTimers(20);
    const { relay, found } = await start(onConnect("deaf"), { spare: 2 });
    await relay.until(() => relay.counts().idle === 2);
    expect(found.map(({ way }) => way)).to.deep.equal(["upgrade"]);
    for (let i = 0; i < 3; i++)
      expect(await visit(relay.port)).to.equal("hello");
    await relay.until(() => relay.counts().tunnels === 2);
  });

  it("that takes Upgrade away parks by WebSocket", async () => {
    const { relay, found } = await start((kind) => {
      if (kind === "connect") return answerOf("405 Method Not Allowed");
      const head = `GET /-/park/pi HTTP/1.1\r\nHost: x\r\n\r\n`;
      return kind === "upgrade" ? { head } : "pass";
    });
    await relay.until(() => relay.counts().idle === 1);
    expect(found[0]?.way).to.equal("websocket");
    expect([...(found[0]?.tried.values() ?? [])].join()).to.match(/405.*426/);
    expect(await visit(relay.port)).to.equal("hello");
  });

  it("that passes nothing says once what each way came to", async () => {
    const { troubles } = await start((kind) =>
      answerOf(kind === "connect" ? "405 No" : "503 No"),
    );
    await until(() => troubles.length > 0);
    expect(troubles[0]).to.match(/connect: .*405.*; upgrade: .*503.*; websock/);
  });

  for (const [what, treatment] of [
    ["is deaf", "deaf"],
    [
      "says nothing after its 200",
      { answer: "HTTP/1.1 200 OK\r\n\r\n", stays: true },
    ],
  ] as readonly [string, Treatment][]) {
    it(`whose only way ${what} gives up after a while, and tries again`, async () => {
      hurryTimers(50);
      const { troubles, router } = await start(
        (kind) => (kind === "connect" ? treatment : answerOf("403 Forbidden")),
        { settings: { heartbeatSeconds: 60 } },
      );
      await until(() => troubles.length > 0);
      expect(troubles[0]).to.match(/connect: .*one direction only/);
      const { length } = router.asked;
      await until(() => router.asked.length > length);
    });
  }

  for (const via of ["connect", "upgrade", "websocket"] as const) {
    it(`goes by ${via} alone when it is told to`, async () => {
      const { relay, router, found } = await start(() => "pass", {
        via,
        spare: 2,
      });
      await relay.until(() => relay.counts().idle === 2);
      expect(new Set(router.asked)).to.deep.equal(new Set([via]));
      expect(found.map(({ way }) => way)).to.deep.equal([via]);
      expect(await visit(relay.port)).to.equal("hello");
    });
  }

  it("takes the relay's own refusal for the last word", async () => {
    const relay = await startRelay();
    const router = await startRouter(relay.port, (kind) =>
      kind === "connect" ? "pass" : "hang",
    );
    const agent = park(8080, {
      relay: router.url,
      id: "pi",
      secret: relay.issue("other").secret,
    });
    afterThisTest(() => agent.close());
    const [reason, seconds] = (await once(agent, "trouble")) as [
      string,
      number,
    ];
    expect(reason).to.equal(
      "the relay refused (401): the secret is wrong, or the clocks are apart; ask the relay's owner for the secret that holds now",
    );
    expect(seconds).to.be.above(14);
  });

  it("finds the way anew after it has stopped to lead there", async () => {
    hurryTimers(10);
    let closed: Kind | undefined;
    const { relay, router, found, agent } = await start((kind) =>
      kind === closed ? answerOf("403 Forbidden") : "pass",
    );
    await relay.until(() => relay.counts().idle === 1);
    closed = "connect";
    router.cut();
    await until(() => found.length === 2);
    await relay.until(() => relay.counts().idle === 1);
    expect(found.map(({ way }) => way)).to.deep.equal(["connect", "upgrade"]);
    closed = "upgrade";
    router.cut();
    await until(() => found.length === 3);
    expect(found[2]?.way).to.equal("connect");
    await until(() => agent.counts.idle === 1);
  });
});

describe("an agent whose relay is away", () => {
  it("asks on one connection, by the way that it knows, and soon, and is there when the relay is", async () => {
    let away = false;
    const { relay, router, agent } = await start(
      () => (away ? { answer: "" } : "pass"),
      { spare: 4 },
    );
    const delays: number[] = [];
    await relay.until(() => relay.counts().idle === 4);
    agent.on("trouble", (_reason, seconds) => delays.push(seconds));
    const before = router.asked.length;
    hurryTimers(20);
    away = true;
    router.cut();
    await until(() => delays.length === 4);
    // The loss was the first trouble; the next search goes all ways again.
    expect(router.asked.slice(before)).to.deep.equal(Array(3).fill("connect"));
    await until(() => delays.length === 20);
    expect(Math.max(...delays)).to.be.at.most(1.5);
    away = false;
    await relay.until(() => relay.counts().idle === 4);
  });

  it("comes back when a 429 says so", async () => {
    const { agent } = await start(() =>
      answerOf("429 Too Many Requests", "", "Retry-After: 100\r\n"),
    );
    const [, seconds] = (await once(agent, "trouble")) as [string, number];
    expect(seconds).to.be.within(100, 101);
  });
});

describe("a redirect of the relay's URL", () => {
  it("to https on the same host is followed once and kept", async () => {
    const { cert, key } = await selfSign("localhost");
    const ca = readFileSync(cert, "utf8");
    const tls = { cert: ca, key: readFileSync(key, "utf8") };
    const relay = await startRelay({ tls });
    const fields = `Location: https://localhost:${relay.port}/-/park/pi\r\n`;
    const router = await startRouter(relay.port, () =>
      answerOf("301 Moved Permanently", PAGE, fields),
    );
    const agent = park((_asked, answer) => answer.end("hello"), {
      relay: `http://localhost:${router.port}`,
      id: "pi",
      secret: relay.issue("pi").secret,
      spare: 3,
      ca,
    });
    afterThisTest(() => agent.close());
    const { found, troubles } = listen(agent);
    const visit = await agent.ready();
    await relay.until(() => relay.counts().idle === 3);
    expect(visit.href).to.equal(
      `https://localhost:${relay.port}/?rendezvous=pi`,
    );
    expect(found.map(({ way }) => way)).to.deep.equal(["connect"]);
    expect(troubles).to.deep.equal([]);
    expect(router.asked).to.have.lengthOf(3);
  });

  for (const [what, location] of [
    ["to another host", "https://127.0.0.2/-/park/pi"],
    ["to http", "http://127.0.0.1:1/-/park/pi"],
    ["that is none", "https://["],
  ] as const) {
    it(`${what} is not followed`, async () => {
      const { troubles } = await start(() =>
        answerOf("302 Found", "", `Location: ${location}\r\n`),
      );
      await until(() => troubles.length > 0);
      expect(troubles[0]).to.match(/302/);
    });
  }
});
