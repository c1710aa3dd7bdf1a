// A relay that is stopped and started again, and one that is replaced by another, under load: whoever has not begun waits, and whoever has is served.
import { expect } from "chai";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import {
  Agent as HttpAgent,
  createServer,
  request as httpRequest,
} from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { join } from "node:path";
import { park, type Agent } from "../../app/agent/agent.ts";
import { WAYS } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { issueFor, startRelayHere } from "../support/parked.ts";
import {
  Program,
  freePort,
  listening,
  needs,
  scratch,
} from "../support/programs.ts";
import { until } from "../support/relay.ts";

/** Within this an agent is back, on a machine that has other things to do too. */
const BACK_MILLISECONDS = 2000 + 1000;
const HOLD_MILLISECONDS = 10 * 1000;

/** A hidden server: /slow takes its time, and all else gives back what it got. */
async function startService(): Promise<number> {
  const server = createServer((request, answer) => {
    if (request.url === "/slow") {
      let left = 40;
      const drip = setInterval(() => {
        answer.write(`data: ${left}\n\n`);
        if (--left > 0) return;
        clearInterval(drip);
        answer.end();
      }, 50);
      return;
    }
    request.pipe(answer);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

interface Parked {
  readonly agent: Agent;
  readonly id: string;
  /** When it came up last, and how often it has failed since it began. */
  upAt: number;
  troubles: number;
}

async function parkAll(port: number): Promise<Parked[]> {
  const service = await startService();
  return Promise.all(
    WAYS.map(async (via) => {
      const id = `by-${via}`;
      const agent = park(
        { host: "127.0.0.1", port: service },
        {
          ...{ relay: `http://127.0.0.1:${port}`, id, via },
          secret: issueFor(id, port).secret,
        },
      );
      afterThisTest(() => agent.close());
      const parked: Parked = { agent, id, upAt: 0, troubles: 0 };
      agent.on("up", () => (parked.upAt = performance.now()));
      agent.on("trouble", () => parked.troubles++);
      await agent.ready();
      return parked;
    }),
  );
}

/** Resolves once somebody listens there: as a visitor who tries again when he is refused, and only then. */
async function admitted(port: number): Promise<void> {
  for (;;) {
    const socket = connect({ port, host: "127.0.0.1" });
    const came = await new Promise<string>((resolve) => {
      socket.on("connect", () => {
        resolve("in");
      });
      socket.on("error", (error: NodeJS.ErrnoException) => {
        resolve(error.code ?? "");
      });
    });
    socket.destroy();
    if (came === "in") return;
    expect(came).to.equal("ECONNREFUSED");
    // That somebody else's port begins to listen has no event.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

interface Visited {
  readonly outcome: string;
  readonly milliseconds: number;
}

/** One request; `ok` when its answer is whole and right. */
function visit(
  port: number,
  target: string,
  { body, agent }: { body?: string; agent?: HttpAgent } = {},
): Promise<Visited> {
  const began = performance.now();
  const request = httpRequest({
    ...{ host: "127.0.0.1", port, path: target, agent: agent ?? false },
    method: body === undefined ? "GET" : "POST",
  });
  request.end(body);
  return new Promise((resolve) => {
    const end = (outcome: string): void => {
      resolve({ outcome, milliseconds: performance.now() - began });
    };
    request.on("error", (error) => {
      end(`${request.method} ${target}: ${String(error)}`);
    });
    request.on("response", (answer) => {
      let text = "";
      answer.on("data", (octets) => (text += String(octets)));
      answer.on("error", (error) => {
        end(`${request.method} ${target}: ${String(error)}`);
      });
      answer.on("end", () => {
        const wanted = target.startsWith("/slow")
          ? text.split("\n\n").length === 41
          : text === (body ?? "");
        end(
          answer.statusCode === 200 && answer.complete && wanted
            ? "ok"
            : `${request.method} ${target}: ${answer.statusCode} ${text}`,
        );
      });
    });
  });
}

describe("a relay that is stopped and started again under load", function () {
  this.timeout(60_000);

  for (const [signal, troubles, outage] of [
    ["SIGTERM", 2, "a second"],
    ["SIGKILL", 7, "seconds"],
  ] as const) {
    it(`by ${signal}, ${outage} later, has its agents back in 2 s, and fails no request that begins then`, async () => {
      const env = { DRAIN_SECONDS: "1" };
      const { program, port } = await startRelayHere(env);
      const parked = await parkAll(port);
      const before = parked.map(({ id }) => visit(port, `/?rendezvous=${id}`));
      for (const { outcome } of await Promise.all(before))
        expect(outcome).to.equal("ok");
      for (const one of parked) one.troubles = 0;
      await program.stop(signal);
      // Each agent has asked several times: that is how long the outage lasts.
      await until(() => parked.every((one) => one.troubles > troubles));
      const visits = Array.from({ length: 30 }, async (_, n) => {
        await admitted(port);
        const { id } = parked[n % parked.length] ?? { id: "" };
        return visit(
          port,
          `/?rendezvous=${id}`,
          n % 2 ? { body: "hello" } : {},
        );
      });
      for (const one of parked) one.upAt = 0;
      await startRelayHere({ ...env, PORT: String(port) });
      const listenedAt = performance.now();
      await until(() => parked.every(({ upAt }) => upAt > 0));
      const last = Math.max(...parked.map(({ upAt }) => upAt));
      expect(last - listenedAt).to.be.below(BACK_MILLISECONDS);
      for (const { outcome, milliseconds } of await Promise.all(visits)) {
        expect(outcome).to.equal("ok");
        expect(milliseconds).to.be.below(HOLD_MILLISECONDS);
      }
    });
  }
});

/** HAProxy before two relays: the second takes over when the first listens no more. */
async function startHaproxy(one: number, other: number): Promise<number> {
  const port = await freePort();
  const file = join(scratch(), "haproxy.cfg");
  writeFileSync(
    file,
    `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
  retries 5
  option redispatch 1
frontend visitors
  bind 127.0.0.1:${port}
  default_backend relays
backend relays
  server one 127.0.0.1:${one} check inter 200ms fall 1 observe layer4 error-limit 1 on-error mark-down
  server other 127.0.0.1:${other} check inter 200ms backup
`,
  );
  new Program("haproxy", ["-db", "-f", file]);
  await listening(port);
  return port;
}

describe("a relay that is replaced by another behind a router", function () {
  this.timeout(60_000);

  it("finishes what is under way, and no request fails that comes meanwhile", async function () {
    needs(this, "haproxy");
    const env = { DRAIN_SECONDS: "8" };
    const [old, young] = [await startRelayHere(env), await startRelayHere(env)];
    const port = await startHaproxy(old.port, young.port);
    const parked = await parkAllVia(port);
    const ids = parked.map(({ id }) => id);
    const failed: string[] = [];
    let served = 0;
    let isOver = false;
    const keep = (visited: Visited): void => {
      served++;
      if (visited.outcome !== "ok") failed.push(visited.outcome);
      if (visited.milliseconds > HOLD_MILLISECONDS)
        failed.push(`late by ${visited.milliseconds}`);
    };
    const agent = new HttpAgent({ keepAlive: true });
    afterThisTest(() => {
      agent.destroy();
    });
    const visitor = async (n: number): Promise<void> => {
      for (let turn = 0; !isOver; turn++) {
        const path = `/?rendezvous=${ids[(n + turn) % ids.length] ?? ""}`;
        const body = turn % 3 === 0 ? "x".repeat(turn * 100) : undefined;
        keep(
          await visit(
            port,
            path,
            body === undefined ? { agent } : { agent, body },
          ),
        );
        // A steady load, not as much as the machine can do.
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const slow = ids.map((id) => visit(port, `/slow?rendezvous=${id}`));
    const visitors = Array.from({ length: 10 }, (_, n) => visitor(n));
    await until(() => served > 200);
    for (const one of parked) one.upAt = 0;
    old.program.child.kill("SIGTERM");
    await Promise.all([
      ...slow.map(async (one) => {
        keep(await one);
      }),
    ]);
    await old.program.exited;
    const then = served;
    await until(() => served > then + 200);
    isOver = true;
    await Promise.all(visitors);
    expect(failed).to.deep.equal([]);
    expect(old.program.output).to.match(/"bye"/);
    expect(old.program.child.exitCode).to.equal(0);
  });
});

/** CONNECT does not pass every router. */
async function parkAllVia(port: number): Promise<Parked[]> {
  const service = await startService();
  return Promise.all(
    ["pi", "pa"].map(async (id) => {
      const agent = park(
        { host: "127.0.0.1", port: service },
        {
          ...{ relay: `http://127.0.0.1:${port}`, id, via: "upgrade" },
          secret: issueFor(id, port).secret,
        },
      );
      afterThisTest(() => agent.close());
      const parked: Parked = { agent, id, upAt: 0, troubles: 0 };
      agent.on("up", () => (parked.upAt = performance.now()));
      await agent.ready();
      return parked;
    }),
  );
}
