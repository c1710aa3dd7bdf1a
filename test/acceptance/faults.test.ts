// The agent, the relay and the local service are killed at every moment of a visit, and everything recovers by itself.
//   visitor: sockets -> relay ==tunnels==> agent -> hidden server: test/support/services/moody.ts
import { expect } from "chai";
import { afterThisTest } from "../support/cleanup.ts";
import {
  curl,
  expectNoCrash,
  parkProgram,
  startRelayHere,
  startService,
} from "../support/parked.ts";
import { freePort, needs, type Program } from "../support/programs.ts";
import { connectRaw, type Raw, type RawAnswer } from "../support/raw.ts";
import { until } from "../support/relay.ts";
import { socketsOf } from "../support/usage.ts";

type Victim = "agent" | "relay" | "service";

class Chain {
  readonly relayPort: number;
  readonly servicePort: number;
  relay: Program;
  agent: Program;
  service: Program;

  constructor(
    relay: { program: Program; port: number },
    agent: Program,
    service: { service: Program; port: number },
  ) {
    this.relay = relay.program;
    this.relayPort = relay.port;
    this.agent = agent;
    this.service = service.service;
    this.servicePort = service.port;
  }

  static async start(): Promise<Chain> {
    const [relay, service] = await Promise.all([
      startRelayHere(),
      startService("moody"),
    ]);
    const agent = await parkProgram("pi", relay.port, service.port);
    return new Chain(relay, agent, service);
  }

  async kill(victim: Victim): Promise<void> {
    await this[victim].stop("SIGKILL");
  }

  /** What was killed comes back at the same place; nobody else is touched. */
  async revive(victim: Victim): Promise<void> {
    if (victim === "relay") {
      const env = { PORT: String(this.relayPort) };
      this.relay = (await startRelayHere(env)).program;
    } else if (victim === "agent")
      this.agent = await parkProgram("pi", this.relayPort, this.servicePort);
    else {
      const revived = await startService("moody", this.servicePort);
      this.service = revived.service;
    }
  }

  async visit(text: string): Promise<Raw> {
    const visitor = await connectRaw(this.relayPort);
    // As most clients do; a relay that dies with nothing unread leaves an end and no reset.
    visitor.socket.on("end", () => visitor.socket.end());
    return visitor.write(text);
  }

  expectWell(): void {
    expectNoCrash(this.relay, this.agent, this.service);
  }
}

const ask = (path: string, fields = ""): string =>
  `GET ${path}?rendezvous=pi HTTP/1.1\r\nHost: x\r\n${fields}\r\n`;
const post = (path: string, begin: string): string =>
  `POST ${path}?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n${begin}`;

/** How each moment is reached. What comes to the visitor afterwards is read from what this gives. */
const MOMENTS: Readonly<Record<string, (chain: Chain) => Promise<Raw>>> = {
  "nobody is there": async (chain) => {
    const visitor = await chain.visit(ask("/first"));
    expect((await visitor.answer()).body).to.equal("/first");
    return visitor;
  },
  "a request's head is on its way": async (chain) =>
    chain.visit(ask("/late").slice(0, 20)),
  "a request's body is on its way": async (chain) => {
    const visitor = await chain.visit(post("/late", "the beginning"));
    await chain.service.prints(/has 13 octets of a body/);
    return visitor;
  },
  "an answer is waited for": async (chain) => {
    const visitor = await chain.visit(ask("/asked"));
    await chain.service.prints(/asked GET \/asked/);
    return visitor;
  },
  "an upload's answer is waited for": async (chain) => {
    const visitor = await chain.visit(post("/asked", "x".repeat(1000)));
    await chain.service.prints(/asked POST \/asked/);
    return visitor;
  },
  "an answer's head is on its way": async (chain) => {
    const visitor = await chain.visit(ask("/head"));
    await chain.service.prints(/asked GET \/head/);
    return visitor;
  },
  "an answer's body is on its way": async (chain) => {
    const visitor = await chain.visit(ask("/body"));
    await visitor.take("the beginning");
    return visitor;
  },
};

/** An answer, or how the connection ended without a whole one. */
async function outcome(visitor: Raw): Promise<RawAnswer | "cut"> {
  try {
    return await visitor.answer();
  } catch {
    return "cut";
  }
}

function codeOf(answer: RawAnswer | "cut"): string {
  if (answer === "cut") return "cut";
  if (answer.status === 200) return "200";
  const { code } = JSON.parse(answer.body) as { code: string };
  return `${answer.status} ${code}`;
}

/** What a visitor may get when this dies in that moment: each an answer or a cut, and never a whole answer that is none. */
const OUTCOMES: Readonly<
  Record<Victim, Readonly<Record<string, readonly string[]>>>
> = {
  service: {
    "a request's body is on its way": ["502 tunnel_lost"],
    // Tried once more, for it is safe to. The system closes the connections of who is killed one by one: it may still take the second.
    "an answer is waited for": ["502 local_service_down", "502 tunnel_lost"],
    "an upload's answer is waited for": ["502 tunnel_lost"],
    "an answer's head is on its way": ["502 bad_answer"],
    "an answer's body is on its way": ["cut"],
  },
  agent: {
    "a request's body is on its way": ["502 tunnel_lost"],
    "an answer is waited for": [],
    "an upload's answer is waited for": ["502 tunnel_lost"],
    // Its beginning may have died with the agent.
    "an answer's head is on its way": [],
    "an answer's body is on its way": ["cut"],
  },
  relay: Object.fromEntries(
    Object.keys(MOMENTS).map((moment) => [moment, ["cut"]]),
  ),
};

for (const victim of ["service", "agent", "relay"] as const) {
  describe(`the ${victim} is killed while`, () => {
    for (const [moment, reach] of Object.entries(MOMENTS)) {
      it(`${moment}: the visitor is told, and all recovers by itself`, async () => {
        const chain = await Chain.start();
        const visitor = await reach(chain);
        await chain.kill(victim);
        const expected = OUTCOMES[victim][moment];
        if (expected !== undefined && expected.length > 0)
          expect(expected).to.include(codeOf(await outcome(visitor)));

        await chain.revive(victim);
        if (expected?.length === 0) {
          // Tried once more: on a tunnel that dies in the same moment, or on one of the new agent's.
          const askedAgain = (): boolean =>
            chain.service.output.match(/asked GET/g)?.length === 2;
          await until(() => askedAgain() || visitor.received !== "");
          if (!askedAgain())
            expect(codeOf(await outcome(visitor))).to.be.oneOf([
              "502 tunnel_lost",
              "502 bad_answer",
            ]);
          visitor.socket.destroy();
        }
        // A request that had not come in whole may still do so.
        if (expected === undefined && victim !== "relay") {
          const rest = moment.includes("head")
            ? ask("/late").slice(20)
            : ask("/again");
          visitor.write(rest);
          const answer = await visitor.answer();
          expect(answer.status, answer.body).to.equal(200);
        }

        const after = await outcome(await chain.visit(ask("/afterwards")));
        expect(after).to.include({ status: 200, body: "/afterwards" });
        chain.expectWell();
      });
    }
  });
}

describe("sockets", function () {
  this.timeout(40_000);

  it("of relay and agent are as few after the worst as before", async () => {
    const chain = await Chain.start();
    const settled = { relay: 0, agent: 0 };
    // What is parked and the port; another agent's tunnels would be gone by then.
    await until(() => socketsOf(chain.relay) === 5);
    settled.relay = socketsOf(chain.relay);
    settled.agent = socketsOf(chain.agent);
    expect(settled).to.deep.equal({ relay: 5, agent: 4 });

    for (let round = 0; round < 3; round++) {
      const stuck: Raw[] = [];
      for (const reach of Object.values(MOMENTS))
        stuck.push(await reach(chain));
      // Some go by themselves, in good order or not; the others are cut off.
      stuck[1]?.socket.end();
      stuck[2]?.socket.resetAndDestroy();
      stuck[3]?.socket.end();
      stuck[4]?.socket.destroy();
      stuck[6]?.socket.resetAndDestroy();
      await chain.kill("service");
      for (const visitor of stuck.slice(1)) await outcome(visitor);
      const down = await chain.visit(ask("/down"));
      stuck.push(down);
      expect(codeOf(await outcome(down))).to.equal("502 local_service_down");
      for (const visitor of stuck) visitor.socket.destroy();
      await chain.revive("service");
      const up = await chain.visit(ask("/up"));
      expect((await up.answer()).body).to.equal("/up");
      up.socket.destroy();
    }
    await until(
      () =>
        socketsOf(chain.relay) === settled.relay &&
        socketsOf(chain.agent) === settled.agent,
    );
    chain.expectWell();
  });

  it("of a relay whose agent was killed are given back", async () => {
    const chain = await Chain.start();
    const stuck: Raw[] = [];
    for (const reach of Object.values(MOMENTS)) stuck.push(await reach(chain));
    await chain.kill("agent");
    for (const visitor of stuck) visitor.socket.destroy();
    await until(() => socketsOf(chain.relay) === 1);
    chain.expectWell();
  });

  it("of an agent whose relay was killed are given back, those to the service too", async () => {
    const chain = await Chain.start();
    const stuck: Raw[] = [];
    for (const reach of Object.values(MOMENTS)) stuck.push(await reach(chain));
    await chain.kill("relay");
    await until(() => socketsOf(chain.agent) === 0);
    await chain.service.prints(/closed, 0 left/);
    chain.expectWell();
  });
});

describe("a local service that is down", () => {
  it("is told to programs as a problem and to people as a page, and the agent lives", async function () {
    needs(this, "curl");
    const { program, port } = await startRelayHere();
    const servicePort = await freePort();
    const agent = await parkProgram("pi", port, servicePort);
    const url = `http://127.0.0.1:${port}/?rendezvous=pi`;

    const problem = await curl(url);
    expect(problem.status).to.equal(502);
    expect(problem.head).to.match(
      /^content-type: application\/problem\+json\r$/im,
    );
    expect(problem.head).to.match(/^retry-after: \d+\r$/im);
    expect(problem.head).to.match(/^proxy-status: rendezvous; error=/im);
    expect(JSON.parse(problem.body)).to.include({
      status: 502,
      code: "local_service_down",
    });

    const page = await curl("-H", "Accept: text/html", url);
    expect(page.status).to.equal(502);
    expect(page.head).to.match(/^content-type: text\/html; charset=utf-8\r$/im);
    expect(page.body).to.match(/<h1>Bad Gateway<\/h1>/);
    expect(page.body).to.include("local_service_down");

    const head = await curl("--head", url);
    expect([head.status, head.body]).to.deep.equal([502, ""]);
    const upload = await curl(
      ...["--data-binary", "@/usr/bin/env", "-H", "Expect:", url],
    );
    expect(upload.status).to.equal(502);

    expect(agent.child.exitCode).to.equal(null);
    await startService("moody", servicePort);
    const { body } = await curl(url);
    expect(body).to.equal("/");
    expectNoCrash(program, agent);
  });

  it("is told to a visitor whose body is too long to be read to its end", async () => {
    const { port } = await startRelayHere();
    await parkProgram("pi", port, await freePort());
    const visitor = await connectRaw(port);
    visitor.write(
      "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
    );
    const block = Buffer.alloc(64 * 1024);
    const pour = (): void => {
      while (visitor.socket.writable && visitor.socket.write(block));
    };
    visitor.socket.on("drain", pour);
    pour();
    afterThisTest(() => visitor.socket.destroy());
    expect(codeOf(await outcome(visitor))).to.equal("502 local_service_down");
  });
});
