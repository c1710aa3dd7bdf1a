// The first minutes with the programs: what they print works when it is pasted, and what is wrong is said in one sentence.
import { expect } from "chai";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterThisTest } from "../support/cleanup.ts";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  parkProgram,
  startHello,
  startRelayHere,
  startService,
} from "../support/parked.ts";
import {
  PROJECT,
  Program,
  freePort,
  needs,
  run,
  scratch,
  startRelayProgram,
  startRendezvous,
} from "../support/programs.ts";
import { connectRaw } from "../support/raw.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const PROGRAM = join(PROJECT, "dist/bin/rendezvous.js");

/** What the machine that the tests run on may have set for its own purposes. */
const BARE: NodeJS.ProcessEnv = {
  ...NO_PROXIES,
  NODE_ENV: "",
  RELAY_SECRET: "",
  RELAY_SECRET_FILE: "",
};

/** Runs a relay that is expected not to start. */
async function refusedRelay(
  env: NodeJS.ProcessEnv,
): Promise<{ code: number | null; output: string }> {
  return run(process.execPath, [join(PROJECT, "dist/bin/relay.js")], {
    cwd: scratch(),
    env: { ...BARE, PORT: "0", ...env },
  });
}

async function rendezvous(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  return run(process.execPath, [PROGRAM, ...args], {
    cwd: scratch(),
    env: { ...BARE, ...env },
  });
}

describe("a relay with arguments", () => {
  async function relayWith(
    ...args: readonly string[]
  ): Promise<{ code: number | null; output: string }> {
    const program = join(PROJECT, "dist/bin/relay.js");
    return run(process.execPath, [program, ...args], {
      cwd: scratch(),
      env: { ...BARE, PORT: "0" },
    });
  }

  it("says where its settings are, and starts no relay", async () => {
    for (const flag of ["--help", "-h"]) {
      const { code, output } = await relayWith(flag);
      expect(code, output).to.equal(0);
      expect(output)
        .to.include("Settings are environment variables")
        .and.include("PORT (5000)")
        .and.not.include("listening");
    }
  });

  it("says by what it is told a port instead", async () => {
    const { code, output } = await relayWith("--port", "9999");
    expect(code).to.equal(2);
    expect(output).to.equal(
      "The relay takes no arguments. Its settings are environment variables: for another port set PORT. .env.example has all of them.\n",
    );
  });
});

describe("a relay without settings", () => {
  /** The commands that it prints, for a service on this port. */
  async function printed(service: number) {
    const relay = await startRelayProgram(BARE);
    const [, park = "", visit = ""] = await relay.program.prints(
      /^ {4}(npx rendezvous park .+ 8080)$[^]*^ {4}(curl .+)$/m,
    );
    expect(relay.program.output).to.include("There is no RELAY_SECRET");
    return { ...relay, park: park.replace(/8080$/, String(service)), visit };
  }

  it("prints commands that park and visit when they are pasted", async function () {
    needs(this, "sh", "curl");
    const { program, park, visit } = await printed(await startHello());
    const line = park.replace(
      "npx rendezvous",
      `exec "${process.execPath}" "${PROGRAM}"`,
    );
    const agent = new Program("sh", ["-c", line], {
      env: { ...BARE },
    });
    await agent.prints(/demo is up/);
    const { output } = await run("sh", [
      "-c",
      visit.replace("curl", "curl -s --noproxy '*'"),
    ]);
    expect(output).to.equal("hello\n");
    expectNoCrash(program, agent);
  });

  it("prints commands that work with npx in the project's directory", async function () {
    this.timeout(60_000);
    needs(this, "sh", "npx", "setsid", "curl");
    const { park, visit } = await printed(await startHello());
    // In a process group of its own: npx leaves its child behind when it is killed.
    const agent = new Program("setsid", ["sh", "-c", `exec ${park}`], {
      cwd: PROJECT,
      env: BARE,
    });
    afterThisTest(() => {
      if (agent.child.pid !== undefined && agent.child.exitCode === null)
        process.kill(-agent.child.pid, "SIGKILL");
    });
    await agent.prints(/demo is up/);
    const { output } = await run("sh", [
      "-c",
      visit.replace("curl", "curl -s --noproxy '*'"),
    ]);
    expect(output).to.equal("hello\n");
  });

  it("has pages of its own, and says where it is", async function () {
    needs(this, "curl");
    const { port } = await startRelayProgram(BARE);
    const at = `http://127.0.0.1:${port}`;
    const landing = await curl(`${at}/`);
    expect(landing.status).to.equal(200);
    expect(landing.body).to.include(`${at}/?rendezvous=ID`);
    const health = await curl(`${at}/-/health`);
    expect(JSON.parse(health.body)).to.deep.equal({ status: "ok" });
    expect((await curl(`${at}/-/nothing`)).status).to.equal(404);
  });
});

describe("a relay with wrong settings", () => {
  it("does not start in production without a secret, and says how to get one", async () => {
    const { code, output } = await refusedRelay({ NODE_ENV: "production" });
    expect(code).to.be.greaterThan(0);
    expect(output).to.match(
      /^RELAY_SECRET must be .*32 characters or more.*openssl rand -hex 32.*\.\n$/,
    );
  });

  it("does not start with a short secret, and does not repeat it", async () => {
    for (const env of [{ NODE_ENV: "production" }, {}]) {
      const { code, output } = await refusedRelay({
        ...env,
        RELAY_SECRET: "too-short",
      });
      expect(code).to.be.greaterThan(0);
      expect(output).to.match(
        /^RELAY_SECRET must be .*32 characters or more.*openssl rand -hex 32.*\.\n$/,
      );
      expect(output).not.to.include("too-short");
    }
  });

  it("reports all of them at once, one sentence each", async () => {
    const { code, output } = await refusedRelay({
      NODE_ENV: "production",
      PORT: "web",
      MAX_TUNNELS: "many",
      HOLD_SECONDS: "-1",
      BASE_DOMAIN: "not a domain",
      TRUST_PROXY: "yes",
      COOKIE_NAMING: "perhaps",
      REVOKED: "Not An Id!",
      PUBLIC_URL: "relay.example.com",
      LOG_LEVEL: "loud",
    });
    expect(code).to.be.greaterThan(0);
    const lines = output.trimEnd().split("\n");
    expect(lines.map((line) => line.split(" ", 1)[0])).to.have.members([
      "RELAY_SECRET",
      "PORT",
      "MAX_TUNNELS",
      "HOLD_SECONDS",
      "BASE_DOMAIN",
      "TRUST_PROXY",
      "COOKIE_NAMING",
      "REVOKED",
      "PUBLIC_URL",
      "LOG_LEVEL",
    ]);
    for (const line of lines) expect(line).to.match(/ must be .+\.$/);
  });

  it("says that its port is taken", async () => {
    const { port } = await startRelayHere();
    const { code, output } = await refusedRelay({
      HOST: "127.0.0.1",
      PORT: String(port),
      RELAY_SECRET,
    });
    expect(code).to.be.greaterThan(0);
    expect(output).to.match(/cannot listen on port \d+: .+ Set PORT /);
    expect(output).not.to.match(/^\s+at /m);
  });
});

describe("a relay that reads its secret from a file", () => {
  it("takes what `issue` makes from the same file", async function () {
    needs(this, "curl");
    const file = join(scratch(), "secret");
    writeFileSync(file, `${RELAY_SECRET}\n`);
    const { port } = await startRelayProgram({
      ...BARE,
      NODE_ENV: "production",
      RELAY_SECRET_FILE: file,
    });
    const { output } = await rendezvous(
      ["issue", "pi", "--json", "--relay", `http://127.0.0.1:${port}`],
      { RELAY_SECRET_FILE: file },
    );
    const { url, visit } = JSON.parse(output) as { url: string; visit: string };
    const agent = startRendezvous(
      ["park", url, String(await startHello())],
      BARE,
    );
    await agent.prints(/pi is up/);
    expect((await curl(visit)).body).to.equal("hello\n");
  });

  it("says that the file is not there", async () => {
    const { code, output } = await refusedRelay({
      NODE_ENV: "production",
      RELAY_SECRET_FILE: "/nowhere/secret",
    });
    expect(code).to.be.greaterThan(0);
    expect(output).to.include(
      "RELAY_SECRET_FILE is /nowhere/secret, which cannot be read",
    );
  });
});

describe("rendezvous issue", () => {
  const env = { RELAY_SECRET };

  it("prints the secret, the agent's command, the visitor's URL and a URI for an authenticator", async () => {
    const { code, output } = await rendezvous(
      ["issue", "pi", "--relay", "https://relay.example.com"],
      env,
    );
    expect(code).to.equal(0);
    const { secret } = issueFor("pi", 1);
    expect(output).to.include(`    ${secret}\n`);
    expect(output).to.include(
      `    npx rendezvous park https://pi:${secret}@relay.example.com 8080\n`,
    );
    expect(output).to.include(
      `    curl 'https://relay.example.com/?rendezvous=pi'\n`,
    );
    expect(output).to.match(
      new RegExp(`    otpauth://totp/rendezvous:pi\\?secret=${secret}\\S*\n`),
    );
  });

  it("prints the same for programs", async () => {
    const { code, output } = await rendezvous(
      ["issue", "Pi", "--json", "--relay", "https://relay.example.com"],
      { ...env, BASE_DOMAIN: "example.net" },
    );
    expect(code).to.equal(0);
    const issued = JSON.parse(output) as Record<string, string>;
    expect(Object.keys(issued)).to.deep.equal([
      "id",
      "secret",
      "url",
      "visit",
      "otpauth",
    ]);
    expect(issued["id"]).to.equal("pi");
    expect(issued["visit"]).to.equal("https://pi.example.net/");
  });

  it("refuses a revoked id, and prints the next generation of a renewed one", async () => {
    const gone = await rendezvous(["issue", "pi"], { ...env, REVOKED: "a,pi" });
    expect(gone.code).to.be.greaterThan(0);
    expect(gone.output).to.match(/^pi is revoked\. .*\n$/);
    const renewed = await rendezvous(["issue", "pi", "--json"], {
      ...env,
      REVOKED: "pi@1",
    });
    const { secret } = JSON.parse(renewed.output) as { secret: string };
    expect(secret).to.match(/^[A-Z2-7]{52}$/);
    expect(secret).not.to.equal(issueFor("pi", 1).secret);
  });

  it("refuses what is no id, and what is no relay", async () => {
    const { code, output } = await rendezvous(["issue", "not_an_id"], env);
    expect(code).to.be.greaterThan(0);
    expect(output).to.match(/^An id is one DNS label: .+\n$/);
    const bad = await rendezvous(["issue", "pi", "--relay", "nowhere"], {});
    expect(bad.code).to.be.greaterThan(0);
    expect(bad.output.trimEnd().split("\n")).to.have.length(2);
    expect(bad.output).to.include("RELAY_SECRET must be set");
    expect(bad.output).to.include("--relay must be a URL");
  });

  it("an id that is revoked cannot park, and the agent says why", async () => {
    const { port } = await startRelayHere({ REVOKED: "pi" });
    const agent = startRendezvous(
      ["park", issueFor("pi", port).url, "1"],
      BARE,
    );
    const { output } = await agent.prints(/not parked: .+/).then(() => agent);
    expect(output).to.include("revoked");
    expect(output).not.to.include(issueFor("pi", port).secret);
  });
});

describe("rendezvous park", () => {
  it("says all that is wrong with its command line", async () => {
    const { code, output } = await rendezvous([
      ...["park", "https://relay.example.com", "nonsense:"],
      ...["--spare", "none", "--ca", "/nowhere/ca.pem"],
    ]);
    expect(code).to.equal(2);
    expect(output.trimEnd().split("\n")).to.have.length(4);
    for (const part of ["id before its host", "service", "--spare", "ca.pem"])
      expect(output).to.include(part);
  });

  it("takes the URL from RENDEZVOUS_URL, and the secret from a file", async function () {
    needs(this, "curl");
    const { port } = await startRelayHere();
    const service = await startHello();
    const { url, secret, visit } = issueFor("pi", port);
    const byVariable = startRendezvous(["park", String(service)], {
      ...BARE,
      RENDEZVOUS_URL: url,
    });
    await byVariable.prints(/pi is up/);
    await byVariable.stop("SIGTERM");
    const file = join(scratch(), "secret");
    writeFileSync(file, `${secret}\n`);
    const byFile = startRendezvous(
      [
        ...["park", `http://pi@127.0.0.1:${port}`, `127.0.0.1:${service}`],
        ...["--secret-file", file],
      ],
      BARE,
    );
    await byFile.prints(/pi is up/);
    expect((await curl(visit)).body).to.equal("hello\n");
  });

  it("finishes what is under way when it is told to stop, and exits 0", async () => {
    const { port } = await startRelayHere();
    const moody = await startService("moody");
    const agent = await parkProgram("pi", port, moody.port);
    const visitor = await connectRaw(port);
    visitor.write("GET /slow?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
    await visitor.take("\r\n\r\nslow");
    agent.child.kill("SIGTERM");
    moody.service.child.stdin.write("go on\n");
    expect(await visitor.takeOctets(4)).to.equal("ness");
    expect(await agent.exited).to.equal(0);
    expectNoCrash(agent);
  });
});

describe("SIGTERM to the relay", () => {
  async function slowDownload() {
    const relay = await startRelayHere();
    const moody = await startService("moody");
    const agent = await parkProgram("pi", relay.port, moody.port);
    const visitor = await connectRaw(relay.port);
    visitor.write("GET /slow?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
    await visitor.take("\r\n\r\nslow");
    return { ...relay, ...moody, agent, visitor };
  }

  it("during a slow download lets it finish, and the relay exits 0", async () => {
    const { program, service, agent, visitor } = await slowDownload();
    program.child.kill("SIGTERM");
    await program.prints(/"draining"/);
    service.child.stdin.write("go on\n");
    expect(await visitor.takeOctets(4)).to.equal("ness");
    visitor.socket.end();
    expect(await program.exited).to.equal(0);
    expectNoCrash(program, agent);
  });

  it("and once more ends all at once", async () => {
    const { program, visitor } = await slowDownload();
    program.child.kill("SIGTERM");
    await program.prints(/"draining"/);
    const since = performance.now();
    program.child.kill("SIGTERM");
    await program.exited;
    expect(performance.now() - since).to.be.lessThan(5000);
    await visitor.end();
    expect(visitor.received).to.equal("");
  });

  it("with nothing under way ends it well before the deadline, and exits 0", async () => {
    const relay = await startRelayHere();
    const agent = await parkProgram("pi", relay.port, await freePort());
    const since = performance.now();
    relay.program.child.kill("SIGTERM");
    expect(await relay.program.exited).to.equal(0);
    expect(performance.now() - since).to.be.lessThan(2000);
    expect(relay.program.output).to.include('"bye"');
    expectNoCrash(relay.program, agent);
  });
});

describe("app.json and Procfile", () => {
  it("start the relay that `npm start` starts", () => {
    const { scripts } = JSON.parse(
      readFileSync(join(PROJECT, "package.json"), "utf8"),
    ) as { scripts: Record<string, string> };
    expect(readFileSync(join(PROJECT, "Procfile"), "utf8").trim()).to.equal(
      `web: ${scripts["start"] ?? ""}`,
    );
  });
});
