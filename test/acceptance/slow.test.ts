// slowhttptest in its four modes, all at once: visitors from elsewhere are served as if nobody were slow.
import { expect } from "chai";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterThisTest } from "../support/cleanup.ts";
import {
  expectNoCrash,
  parkProgram,
  startRelayHere,
} from "../support/parked.ts";
import { Program, needs } from "../support/programs.ts";
import { socketsOf } from "../support/usage.ts";

const ATTACK_SECONDS = 10;
const CONNECTIONS = 200;
/** So many of each mode a second: the machine is to be busy with other things than with accepting. */
const CONNECTIONS_PER_SECOND = 50;
/** Whoever is served is served in this time, on a machine that does other things too. */
const PROMPT_MILLISECONDS = 8000;
/** The most that an agent parks, and some visitors. */
const TUNNELS = 80;
/** Not where the attackers come from. */
const VISITOR = "127.0.0.2";
const LARGE = "x".repeat(4 * 1024 * 1024);

/** What each mode is given besides what all are. */
const MODES: Readonly<Record<string, readonly string[]>> = {
  "slow heads": ["-H", "-i", "1", "-x", "8"],
  "slow bodies": ["-B", "-i", "1", "-s", "8192", "-x", "8"],
  ranges: ["-R", "-t", "HEAD", "-a", "5", "-b", "3000"],
  "slow reading": ["-X", "-w", "1", "-y", "512", "-n", "1", "-z", "32"],
};

/** One visit, on a connection of its own or on one that was used before. */
async function visit(
  url: string,
  agent: Agent | false = false,
): Promise<number | undefined> {
  const asked = request(url, {
    localAddress: VISITOR,
    agent,
    signal: AbortSignal.timeout(PROMPT_MILLISECONDS),
  }).end();
  const [answer] = (await once(asked, "response")) as [
    { statusCode?: number; resume: () => void },
  ];
  answer.resume();
  return answer.statusCode;
}

describe("a relay that is attacked slowly in every way at once", () => {
  it("serves visitors from elsewhere, each promptly, and has nothing left of the attack afterwards", async function () {
    this.timeout(60_000);
    needs(this, "slowhttptest");
    const relay = await startRelayHere({
      HEAD_SECONDS: "2",
      BODY_SECONDS: "2",
      STALL_SECONDS: "2",
    });
    const service = createServer((asked, answer) => {
      asked.resume().on("error", () => undefined);
      answer.end(asked.url === "/large" ? LARGE : "hello\n");
    }).listen(0, "127.0.0.1");
    await once(service, "listening");
    const { port } = service.address() as AddressInfo;
    afterThisTest(() => {
      service.closeAllConnections();
      service.close();
    });
    const agent = await parkProgram("pi", relay.port, port);
    const url = `http://127.0.0.1:${relay.port}`;
    expect(await visit(`${url}/?rendezvous=pi`)).to.equal(200);

    const attacks = Object.entries(MODES).map(([mode, args]) => {
      const target = args.includes("-X") ? "/large" : "/";
      const common = [
        "-c",
        CONNECTIONS,
        "-r",
        CONNECTIONS_PER_SECOND,
        "-l",
        ATTACK_SECONDS,
      ];
      const all = [...args, ...common, "-u", `${url}${target}?rendezvous=pi`];
      return { mode, program: new Program("slowhttptest", all.map(String)) };
    });
    let underWay = attacks.length;
    for (const { program } of attacks)
      void program.exited.then(() => underWay--);
    const statuses = new Map<number | undefined, number>();
    const kept = new Agent({ keepAlive: true, maxSockets: 1 });
    afterThisTest(() => {
      kept.destroy();
    });
    for (let i = 0; underWay > 0; i++) {
      const connection = i % 10 === 0 ? false : kept;
      const status = await visit(`${url}/?rendezvous=pi`, connection);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    expect([...statuses.keys()]).to.deep.equal([200]);
    expect(statuses.get(200)).to.be.above(20);
    for (const { mode, program } of attacks)
      expect(program.output, mode).to.match(
        /Hit test time limit|No open connections left/,
      );
    while (socketsOf(relay.program) > TUNNELS)
      await visit(`${url}/?rendezvous=pi`);
    expectNoCrash(relay.program, agent);
  });
});
