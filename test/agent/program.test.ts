// The agent program: how many tunnels it keeps, what it says, and how it comes back.
import { expect } from "chai";
import { once } from "node:events";
import { createServer, get, type Server, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { afterThisTest } from "../support/cleanup.ts";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  parkProgram,
  startRelayHere,
} from "../support/parked.ts";
import {
  needs,
  scratchFile,
  startRendezvous,
  type Program,
} from "../support/programs.ts";
import { startRelay, until, type TestRelay } from "../support/relay.ts";
import { startTcp } from "../support/tcp.ts";

/** A service that answers when it is told to. */
async function startPatient(): Promise<{
  port: number;
  waiting: ServerResponse[];
}> {
  const waiting: ServerResponse[] = [];
  const port = await serve(
    createServer((request, answer) => {
      if (request.url === "/now") answer.end("now\n");
      else waiting.push(answer);
    }),
  );
  return { port, waiting };
}

async function serve(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** The agent program, parked on a relay of this process whose lot can be looked into. */
async function parkOn(
  relay: TestRelay,
  service: number,
  args: readonly string[] = [],
): Promise<Program> {
  const agent = startRendezvous(
    ["park", relay.issue("pi").url, String(service), ...args],
    NO_PROXIES,
  );
  await agent.prints(/pi is up/);
  return agent;
}

function visit(relay: TestRelay, path: string): Promise<number> {
  const request = get(`${relay.url}${path}?rendezvous=pi`, { agent: false });
  afterThisTest(() => request.destroy());
  return new Promise((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (answer) => {
      answer.resume().on("end", () => {
        resolve(answer.statusCode ?? 0);
      });
    });
  });
}

describe("the agent's tunnels", () => {
  it("are four idle ones by default", async () => {
    const relay = await startRelay();
    await parkOn(relay, await serve(createServer()));
    await relay.until(() => relay.counts().idle === 4);
    expect(relay.counts().tunnels).to.equal(4);
  });

  it("are as many as --spare says, and each that is claimed is replaced at once", async () => {
    const relay = await startRelay();
    const { port, waiting } = await startPatient();
    const agent = await parkOn(relay, port, ["--spare", "2"]);
    await relay.until(() => relay.counts().idle === 2);
    const visits = [visit(relay, "/a")];
    await until(() => waiting.length === 1);
    await relay.until(() => relay.counts().idle === 2);
    expect(relay.counts().tunnels).to.equal(3);
    visits.push(visit(relay, "/b"));
    await until(() => waiting.length === 2);
    await relay.until(() => relay.counts().idle === 2);
    expect(relay.counts().tunnels).to.equal(4);
    for (const answer of waiting) answer.end();
    expect(await Promise.all(visits)).to.deep.equal([200, 200]);
    expectNoCrash(agent);
  });

  async function growToMost(): Promise<void> {
    const relay = await startRelay({
      heartbeatSeconds: 1,
      maxTunnelsPerVisitor: 0,
    });
    const { port, waiting } = await startPatient();
    const agent = await parkOn(relay, port, ["--spare", "2", "--max", "10"]);
    await relay.until(() => relay.counts().idle === 2);
    const visits = Array.from({ length: 30 }, () => visit(relay, "/wait"));
    await relay.until(
      () => waiting.length === 10 && relay.counts().waiting === 20,
    );
    expect(relay.counts()).to.include({ tunnels: 10, idle: 0 });
    // A tunnel that has become free serves the next who waits.
    for (let served = 0; served < 30; served++) {
      await until(() => waiting.length > served);
      expect(relay.counts().tunnels).to.be.at.most(10);
      waiting[served]?.end();
    }
    expect(await Promise.all(visits)).to.deep.equal(Array(30).fill(200));
    expect(agent.output).not.to.include("not parked");
    await relay.until(
      () => relay.counts().tunnels === 2 && relay.counts().idle === 2,
    );
    expectNoCrash(agent);
  }

  async function rush(): Promise<void> {
    const relay = await startRelay({ heartbeatSeconds: 1 });
    const { port, waiting } = await startPatient();
    const agent = await parkOn(relay, port, ["--spare", "1", "--max", "16"]);
    const visits = Array.from({ length: 8 }, () => visit(relay, "/wait"));
    await until(() => waiting.length === 8);
    await relay.until(() => relay.counts().idle > 1);
    for (const answer of waiting) answer.end();
    await Promise.all(visits);
    await relay.until(() => {
      expect(relay.counts().tunnels).to.be.at.least(1);
      return relay.counts().tunnels === 1 && relay.counts().idle === 1;
    });
    expect(agent.output).not.to.include("not parked");
  }

  it("grow under demand to --max and no further, and are let go again after a rush, but never all of them", async function () {
    this.timeout(60_000);
    // Both wait for the 10 s after which an agent takes a rush for over.
    await Promise.all([growToMost(), rush()]);
  });
});

describe("what the agent prints", () => {
  it("is the way it parks by, and one line when it is up, with a URL that works", async function () {
    needs(this, "curl");
    for (const env of [{}, { BASE_DOMAIN: "localhost" }]) {
      const { port } = await startRelayHere(env);
      const service = await startPatient();
      const agent = await parkProgram("pi", port, service.port);
      const [, url = ""] = await agent.prints(/is up: (\S+) -> /);
      expect(
        (await curl(new URL("/now", url).href + new URL(url).search)).body,
      ).to.equal("now\n");
      expect(agent.output).to.equal(
        `pi parks by connect.\npi is up: ${url} -> localhost:${service.port}\n`,
      );
    }
  });

  it("is a line for each request with --verbose, on one connection or many", async () => {
    const relay = await startRelay();
    const { port } = await startPatient();
    const agent = await parkOn(relay, port, ["--verbose"]);
    for (let n = 0; n < 3; n++)
      expect(await visit(relay, "/now")).to.equal(200);
    await agent.prints(/(GET \/now 200 \d+ ms\s+){3}/);
    const upload = await fetch(`${relay.url}/now?rendezvous=pi`, {
      method: "POST",
      body: "x".repeat(100_000),
    });
    expect(upload.status).to.equal(200);
    await agent.prints(/POST \/now 200 \d+ ms/);
    expectNoCrash(agent);
  });
});

describe("an agent that offers TCP", () => {
  it("names the relay for dial, not its own name below BASE_DOMAIN, and dial tells who takes one for the other", async () => {
    const relay = await startRelay({ baseDomain: "example.com" });
    const agent = await parkOn(relay, 1, ["--tcp", "22"]);
    await agent.prints(
      /pi is up: npx rendezvous dial http:\/\/example\.com:\d+ pi 22 -> localhost:22\n/,
    );
    // Stands for the name service: whatever host is asked for, here is the relay.
    const proxy = await startTcp((client) => {
      client.once("data", () => {
        client.write("HTTP/1.1 200 OK\r\n\r\n");
        const server = connect(relay.port, "127.0.0.1");
        server.on("error", () => client.destroy());
        client.on("close", () => server.destroy());
        client.pipe(server).pipe(client);
      });
    });
    const dial = startRendezvous(["dial", "http://pi.example.com", "pi", "7"], {
      ...NO_PROXIES,
      HTTP_PROXY: `http://127.0.0.1:${proxy}`,
    });
    await dial.prints(
      /pi\.example\.com is pi itself\. Name the relay: `npx rendezvous dial http:\/\/example\.com pi 7`\.\n/,
    );
  });
});

describe("an agent whose service takes no connection", () => {
  it("says so when a visitor comes, and not again for the next ones", async () => {
    const relay = await startRelay();
    const closed = createServer();
    const port = await serve(closed);
    closed.close();
    await once(closed, "close");
    const agent = await parkOn(relay, port);
    for (let n = 0; n < 3; n++) expect(await visit(relay, "/")).to.equal(502);
    await agent.prints(
      new RegExp(`localhost:${port} takes no connection, .*ECONNREFUSED`),
    );
    expect(agent.output.split("takes no connection")).to.have.length(2);
    expectNoCrash(agent);
  });
});

describe("an agent that may open fewer tunnels than it keeps", () => {
  it("is parked all the same, and says nothing else until the relay has gone", async () => {
    const relay = await startRelay({ maxTunnelsPerServer: 3 });
    const { port } = await startPatient();
    const agent = await parkOn(relay, port, ["--via", "connect"]);
    await relay.until(() => relay.counts().idle === 3);
    // One more is refused by now, or never asked for.
    for (let n = 0; n < 3; n++)
      expect(await visit(relay, "/now")).to.equal(200);
    expect(agent.output).to.not.include("not parked");
    await Promise.all([relay.drain(), relay.drain()]);
    await agent.prints(/pi is not parked: the relay has gone/);
    expectNoCrash(agent);
  });
});

describe("a secret that was cut", () => {
  for (const command of ["park", "share", "doctor"]) {
    it(`is wrong usage of ${command}, from the URL and from a file`, async () => {
      const { secret } = issueFor("pi", 1);
      const cut = secret.slice(0, -1);
      const file = scratchFile(cut);
      const rest = command === "park" ? ["8080"] : [];
      for (const args of [
        [`http://pi:${cut}@127.0.0.1:1`, ...rest],
        ["http://pi@127.0.0.1:1", ...rest, "--secret-file", file],
      ]) {
        const program = startRendezvous([command, ...args], NO_PROXIES);
        expect(await program.exited).to.equal(2);
        expect(program.output).to.equal(
          "The secret is not base32 text as `npx rendezvous issue` prints it. Copy all of it.\n",
        );
      }
    });
  }
});

describe("an agent that is refused", () => {
  it("says why, and does not come back soon", async () => {
    const relay = await startRelay();
    const { secret } = relay.issue("another");
    const agent = startRendezvous(
      ["park", `http://pi:${secret}@127.0.0.1:${relay.port}`, "1"],
      NO_PROXIES,
    );
    const [line, seconds] = await agent.prints(
      /pi is not parked: .+Trying again in ([\d.]+) s\./,
    );
    expect(line).to.include("401");
    expect(line).to.include("the secret is wrong, or the clocks are apart");
    expect(Number(seconds)).to.be.within(15, 30);
    expect(agent.output).not.to.include(secret);
    expectNoCrash(agent);
  });

  it("because its id is revoked does not come back soon either", async () => {
    const relay = await startRelay({ revoked: ["pi"] });
    const { secret } = relay.issue("another");
    const agent = startRendezvous(
      ["park", `http://pi:${secret}@127.0.0.1:${relay.port}`, "1"],
      NO_PROXIES,
    );
    const [line, seconds] = await agent.prints(
      /pi is not parked: .+Trying again in ([\d.]+) s\./,
    );
    expect(line).to.include("403");
    expect(line).to.include("revoked");
    expect(Number(seconds)).to.be.within(15, 30);
  });
});

describe("an agent whose relay restarts", () => {
  it("comes back by itself, again and again, and says so", async function () {
    needs(this, "curl");
    this.timeout(40_000);
    const DRAIN_SECONDS = "1";
    let relay = await startRelayHere({ DRAIN_SECONDS });
    const PORT = String(relay.port);
    const { port } = await startPatient();
    const agent = await parkProgram("pi", relay.port, port);
    for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
      await relay.program.stop(signal);
      relay = await startRelayHere({ PORT, DRAIN_SECONDS });
      const { body } = await curl(`http://127.0.0.1:${PORT}/now?rendezvous=pi`);
      expect(body).to.equal("now\n");
    }
    await agent.prints(/(is up[^]+not parked[^]+){3}is up/);
    expectNoCrash(agent, relay.program);
  });
});
