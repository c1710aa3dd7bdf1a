// Real routers before the relay: which ways pass, and everything that people do on them.
//   visitor, dial, agent -> router -> relay
import { expect } from "chai";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { park, type Agent } from "../../app/agent/agent.ts";
import type { ParkOptions } from "../../app/agent/options.ts";
import { reach } from "../../app/client/dial.ts";
import { proveEcho } from "../../app/client/search.ts";
import { DIAL_WAYS, WAYS, type Way } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import {
  issueFor,
  startRelayHere,
  type RunningRelay,
} from "../support/parked.ts";
import { PROJECT, isThere, needs, run } from "../support/programs.ts";
import type { RouterKind } from "../support/routers/router.ts";
import { ROUTERS } from "../support/routers/routers.ts";
import { makeSite, mix, readEvents, talk, upload } from "../support/site.ts";
import { dialCommand, startEcho, startSshd } from "../support/tcp.ts";

/** Shorter than any router's own, and longer than the heartbeats of the test's relay. */
const CUT_SECONDS = 3;
const NO_CUT_SECONDS = 60;
const SILENT_SECONDS = 2 * CUT_SECONDS + 1;
/** How long a way may take that passes, and one that does not. */
const PROOF_MILLISECONDS = 2500;
const LADDER_MILLISECONDS = 4000;
const VISITORS = 20;
const REQUESTS = 10_000;
const UPLOAD_MEGABYTES = 100;

interface Facts {
  readonly park: readonly Way[];
  readonly dial: readonly Way[];
  readonly webSocketVisit: boolean;
}

const ALL: Facts = { park: WAYS, dial: DIAL_WAYS, webSocketVisit: true };
const UPGRADES: Facts = {
  park: ["upgrade", "websocket"],
  dial: ["upgrade", "websocket"],
  webSocketVisit: true,
};
const WEBSOCKETS: Facts = {
  park: ["websocket"],
  dial: ["websocket"],
  webSocketVisit: true,
};

/** What passes each router. README shows it as a table. */
const FACTS: Readonly<Record<string, Facts>> = {
  nginx: UPGRADES,
  "nginx without Upgrade": { park: [], dial: [], webSocketVisit: false },
  "nginx with keepalive": UPGRADES,
  haproxy: { ...UPGRADES, dial: DIAL_WAYS },
  caddy: UPGRADES,
  apache: UPGRADES,
  "apache with wstunnel": WEBSOCKETS,
  varnish: ALL,
  "like Heroku": UPGRADES,
  "like Cloudflare": WEBSOCKETS,
};

interface Placed extends RunningRelay {
  readonly router: string;
}

async function place(kind: RouterKind, cutSeconds: number): Promise<Placed> {
  const relay = await startRelayHere({
    TRUST_PROXY: "1",
    HEARTBEAT_SECONDS: "1",
  });
  const router = await kind.start(relay.port, cutSeconds);
  return { ...relay, router: `http://127.0.0.1:${router.port}` };
}

/** An agent in this process that has not been waited for. */
function startAgent(
  id: string,
  relay: RunningRelay,
  url: string,
  target: Parameters<typeof park>[0],
  options: Partial<ParkOptions> = {},
): Agent {
  const { secret } = issueFor(id, relay.port);
  const agent = park(target, { relay: url, id, secret, ...options });
  afterThisTest(() => agent.close());
  return agent;
}

/** Whether a way to park leads anywhere. */
async function parks(via: Way, placed: Placed): Promise<boolean> {
  const agent = startAgent("pi", placed, placed.router, () => undefined, {
    via,
    spare: 1,
  });
  const stood = await new Promise<boolean>((resolve) => {
    agent.once("up", () => {
      resolve(true);
    });
    agent.once("trouble", () => {
      resolve(false);
    });
    // A deadline: what a router swallows has no event.
    setTimeout(() => {
      resolve(false);
    }, PROOF_MILLISECONDS);
  });
  await agent.close();
  return stood;
}

async function dials(way: Way, router: string): Promise<boolean> {
  const relay = { url: new URL(router) };
  const signal = AbortSignal.timeout(PROOF_MILLISECONDS);
  return proveEcho(way, relay, signal).then(
    () => true,
    () => false,
  );
}

/** Those of which the answer is yes, in the order given. */
async function thoseOf(
  ways: readonly Way[],
  passes: (way: Way) => Promise<boolean>,
): Promise<Way[]> {
  const answers = await Promise.all(ways.map(passes));
  return ways.filter((_, i) => answers[i]);
}

const yes = (is: boolean): string => (is ? "yes" : "no");

/** README's table. */
const TABLE = [
  "| router | CONNECT | Upgrade | WebSocket | agent parks by | dial goes by |",
  "| --- | --- | --- | --- | --- | --- |",
  ...Object.entries(FACTS).map(([name, { park: parked, dial }]) => {
    const [best = "nothing"] = parked;
    const [way = "nothing"] = dial;
    const connect = `${yes(parked.includes("connect"))} to park, ${yes(dial.includes("connect"))} to dial`;
    return `| ${name} | ${parked.includes("connect") === dial.includes("connect") ? yes(dial.includes("connect")) : connect} | ${yes(dial.includes("upgrade"))} | ${yes(dial.includes("websocket"))} | ${best} | ${way} |`;
  }),
];

/** Without the spaces that make columns. */
const plain = (line: string): string =>
  line.replaceAll(/\s*\|\s*/g, "|").trim();

describe("the table of routers", () => {
  it("stands in README", () => {
    console.log(TABLE.map((line) => `      ${line}`).join("\n"));
    const rows = new Set(
      readFileSync(join(PROJECT, "README.md"), "utf8").split("\n").map(plain),
    );
    for (const [i, line] of TABLE.entries()) {
      if (i !== 1) expect([...rows]).to.include(plain(line));
    }
  });
});

for (const kind of ROUTERS) {
  const facts = FACTS[kind.name] ?? ALL;

  describe(`through ${kind.name}`, () => {
    it("the ways to park and to dial pass that README names, and no others", async function () {
      needs(this, ...kind.programs);
      const placed = await place(kind, NO_CUT_SECONDS);
      const parked = await thoseOf(WAYS, (way) => parks(way, placed));
      const dialled = await thoseOf(DIAL_WAYS, (way) =>
        dials(way, placed.router),
      );
      expect({ parked, dialled }).to.deep.equal({
        parked: facts.park,
        dialled: facts.dial,
      });
    });

    it("agent and dial find the best way in time, and remember it", async function () {
      needs(this, ...kind.programs);
      const placed = await place(kind, NO_CUT_SECONDS);
      const echo = await startEcho();
      const tcp = new Map([[7, { host: "127.0.0.1", port: echo }]]);
      let since = performance.now();
      const agent = startAgent("pi", placed, placed.router, undefined, { tcp });
      const [best] = facts.park;
      if (best === undefined) {
        const [reason] = await new Promise<[string, number]>((resolve) => {
          agent.once("trouble", (...told) => {
            resolve(told);
          });
        });
        expect(reason).to.match(/connect: .*upgrade: .*websocket: /);
        return;
      }
      const [way] = await new Promise<[Way, unknown]>((resolve) => {
        agent.once("way", (...told) => {
          resolve(told);
        });
      });
      await agent.ready();
      expect(way).to.equal(best);
      expect(performance.now() - since).to.be.lessThan(LADDER_MILLISECONDS);
      const to = { relay: placed.router, id: "pi", port: 7 };
      since = performance.now();
      const first = await reach(to);
      expect(performance.now() - since).to.be.lessThan(LADDER_MILLISECONDS);
      expect(first.way).to.equal(facts.dial[0]);
      expect(first.tried).not.to.be.undefined;
      const second = await reach(to);
      expect(second.way).to.equal(first.way);
      expect(second.tried).to.be.undefined;
      first.pipe.reset();
      second.pipe.reset();
    });

    it(`visitors upload ${UPLOAD_MEGABYTES} MB, read events as they come, talk by WebSocket, and never get the answer of another`, async function () {
      this.timeout(120_000);
      needs(this, ...kind.programs);
      const placed = await place(kind, NO_CUT_SECONDS);
      const passable = facts.park.length > 0;
      const relay = passable
        ? placed.router
        : `http://127.0.0.1:${placed.port}`;
      const site = makeSite("pi");
      const agents = [
        startAgent("pi", placed, relay, site.server),
        startAgent("pa", placed, relay, makeSite("pa").server),
      ];
      await Promise.all(agents.map((agent) => agent.ready()));
      await readEvents(placed.router, site.more);
      expect(await talk(placed.router)).to.equal(
        facts.webSocketVisit ? "pi: hello" : "refused",
      );
      await upload(placed.router, UPLOAD_MEGABYTES);
      await mix(placed.router, ["pi", "pa"], VISITORS, REQUESTS);
    });
  });
}

describe("through each router that lets anything pass", () => {
  const kinds = ROUTERS.filter(
    ({ name, programs }) =>
      FACTS[name]?.park.length !== 0 && programs.every(isThere),
  );

  it("ssh logs in by dial", async function () {
    this.timeout(60_000);
    needs(this, "ssh", "sshd");
    const sshd = await startSshd();
    const logIn = async (kind: RouterKind): Promise<void> => {
      const placed = await place(kind, NO_CUT_SECONDS);
      const tcp = new Map([[22, { host: "127.0.0.1", port: sshd.port }]]);
      const agent = startAgent("pi", placed, placed.router, undefined, { tcp });
      await agent.ready();
      const { code, output } = await run("ssh", [
        ...sshd.options,
        ...dialCommand(placed.router),
        sshd.login,
        `echo by ${kind.name}`,
      ]);
      expect([output, code]).to.deep.equal([`by ${kind.name}\n`, 0]);
    };
    await Promise.all(kinds.map(logIn));
  });

  it(`${SILENT_SECONDS} s of silence lose nothing where it cuts after ${CUT_SECONDS} s: parked tunnels stay, and dialled streams go on`, async function () {
    this.timeout(60_000);
    const echo = await startEcho();
    const silent = async (kind: RouterKind): Promise<void> => {
      const placed = await place(kind, CUT_SECONDS);
      const tcp = new Map([[7, { host: "127.0.0.1", port: echo }]]);
      const agent = startAgent(
        "pi",
        placed,
        placed.router,
        makeSite("pi").server,
        { tcp, spare: 2 },
      );
      const troubles: string[] = [];
      agent.on("trouble", (reason) => troubles.push(reason));
      await agent.ready();
      const { pipe } = await reach({ relay: placed.router, id: "pi", port: 7 });
      let heard = "";
      const came = new Promise<string>((resolve) => {
        pipe.receiver = {
          data: (octets) => {
            heard += octets.toString();
            if (heard.length === "still here".length) resolve(heard);
          },
          end: () => {
            resolve(`${heard} (the end)`);
          },
          drain: () => undefined,
          gone: () => {
            resolve(`${heard} (a cut)`);
          },
        };
      });
      pipe.resume();
      // A necessary delay: the silence itself is what is tried.
      await new Promise((resolve) =>
        setTimeout(resolve, SILENT_SECONDS * 1000),
      );
      pipe.write(Buffer.from("still here"));
      expect(await came, kind.name).to.equal("still here");
      expect(troubles, kind.name).to.deep.equal([]);
      await mix(placed.router, ["pi"], 2, 10);
      pipe.reset();
    };
    await Promise.all(kinds.map(silent));
  });
});
