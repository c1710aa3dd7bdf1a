// The programs as npm runs them: by a shell, which passes no signal on.
import { expect } from "chai";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import request from "supertest";
import { afterThisTest } from "../support/cleanup.ts";
import {
  NO_PROXIES,
  issueFor,
  startHello,
  startRelayHere,
} from "../support/parked.ts";
import { PROJECT, Program, freePort, scratch } from "../support/programs.ts";

const SECRET = "0123456789abcdef0123456789abcdef";

/** Starts a program of ours by `npm start`, and by a shell that stays between, as dash does. */
function startByNpm(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Program {
  const cwd = scratch();
  const line = ["node", join(PROJECT, "dist/bin", program), ...args];
  const start = `${line.map((word) => `'${word}'`).join(" ")} & echo pid $!; wait`;
  writeFileSync(
    join(cwd, "package.json"),
    JSON.stringify({ scripts: { start } }),
  );
  const npm = new Program("npm", ["start"], { cwd, env });
  afterThisTest(async () => {
    const [, pid] = await npm.prints(/^pid (\d+)/m);
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It is over.
    }
  });
  return npm;
}

describe("npm start that is ended by SIGTERM", () => {
  it("leaves no relay behind, which drains first", async () => {
    const port = await freePort();
    const npm = startByNpm("relay.js", [], {
      HOST: "127.0.0.1",
      PORT: String(port),
      RELAY_SECRET: SECRET,
    });
    await npm.prints(/"listening"/);
    npm.child.kill("SIGTERM");
    // Its output is closed by the last who has it.
    await npm.exited;
    expect(npm.output).to.match(/"draining"[^]*"bye"/);
    const refused = await new Promise((resolve) => {
      connect({ port, host: "127.0.0.1" })
        .on("error", resolve)
        .on("connect", () => {
          resolve(undefined);
        });
    });
    expect(refused).to.have.property("code", "ECONNREFUSED");
  });

  it("leaves no agent behind, so that its server is away", async () => {
    const { port } = await startRelayHere({ HOLD_SECONDS: "1" });
    const relay = `http://127.0.0.1:${port}`;
    const { url } = issueFor("pi", port);
    const service = String(await startHello());
    const npm = startByNpm("rendezvous.js", ["park", url, service], NO_PROXIES);
    await npm.prints(/is up/);
    await request(relay).get("/?rendezvous=pi").expect(200);
    npm.child.kill("SIGTERM");
    // Its output is closed by the last who has it.
    await npm.exited;
    await request(relay).get("/?rendezvous=pi").expect(503);
  });
});
