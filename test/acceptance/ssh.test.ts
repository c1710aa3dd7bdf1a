// visitor: ssh and scp -> rendezvous dial -> (nginx) -> relay ==tunnels==> agent -> hidden server: sshd
import { expect } from "chai";
import { once } from "node:events";
import { statSync } from "node:fs";
import { join } from "node:path";
import { expectNoCrash } from "../support/parked.ts";
import { Program, needs, run, scratch } from "../support/programs.ts";
import {
  dialCommand,
  offer,
  startNginxBefore,
  startSshd,
} from "../support/tcp.ts";
import { memoryOf } from "../support/usage.ts";

const GIGABYTE = 1024 * 1024 * 1024;
const MOST_MEGABYTES = 150;
/** After so long without an octet nginx cuts. */
const CUT_SECONDS = 5;
/** A program on a busy machine may miss one. */
const HEARTBEAT_SECONDS = 2;
const IDLE_SECONDS = 2 * CUT_SECONDS + 1;
const VIAS = ["connect-tcp", "websocket"] as const;

async function sumOf(file: string): Promise<string> {
  const { output } = await run("openssl", ["dgst", "-sha256", "-r", file]);
  return output.split(" ")[0] ?? "";
}

describe("ssh by `rendezvous dial`", () => {
  it("logs in and runs a command, whose input, output and exit status pass", async function () {
    needs(this, "ssh", "sshd");
    const sshd = await startSshd();
    const relay = await offer(["--tcp", `22=127.0.0.1:${sshd.port}`]);
    const { code, output } = await run(
      "ssh",
      [
        ...sshd.options,
        ...dialCommand(relay.url),
        sshd.login,
        "tr a-z A-Z; exit 7",
      ],
      { input: "hello\n" },
    );
    expect([code, output]).to.deep.equal([7, "HELLO\n"]);
    expectNoCrash(relay.program, relay.agent);
  });

  it("ends when the server goes, though nobody types", async function () {
    needs(this, "ssh", "sshd");
    const sshd = await startSshd();
    const relay = await offer(["--tcp", `22=127.0.0.1:${sshd.port}`]);
    const ssh = new Program("ssh", [
      ...sshd.options,
      ...dialCommand(relay.url),
      sshd.login,
      // The parent of the session's shell holds the connection.
      'echo in; kill -9 "$PPID"; sleep 30',
    ]);
    expect(await ssh.exited, ssh.output).to.equal(255);
    expectNoCrash(relay.program, relay.agent);
  });

  it("copies 1 GB by scp whole, while the relay stays small", async function () {
    this.timeout(60_000);
    needs(this, "ssh", "scp", "sshd", "openssl");
    const sshd = await startSshd();
    const relay = await offer(["--tcp", `22=127.0.0.1:${sshd.port}`]);
    const own = scratch();
    const file = join(own, "file");
    const made = await run("openssl", ["rand", "-out", file, String(GIGABYTE)]);
    expect(made.code, made.output).to.equal(0);
    const since = performance.now();
    const { code, output } = await run("scp", [
      ...sshd.options,
      ...dialCommand(relay.url),
      file,
      `${sshd.login}:${join(own, "copy")}`,
    ]);
    expect([code, output]).to.deep.equal([0, ""]);
    const seconds = (performance.now() - since) / 1000;
    const { most } = memoryOf(relay.program);
    console.log(
      `      in ${seconds.toFixed(1)} s; the relay took ${most.toFixed(0)} MB at most`,
    );
    expect(statSync(join(own, "copy")).size).to.equal(GIGABYTE);
    const sums = await Promise.all([sumOf(file), sumOf(join(own, "copy"))]);
    expect(sums[0]).to.match(/^\w{64}$/);
    expect(sums[1]).to.equal(sums[0]);
    expect(most).to.be.lessThan(MOST_MEGABYTES);
    expectNoCrash(relay.program, relay.agent);
  });
});

describe(`ssh through nginx that cuts after ${CUT_SECONDS} idle seconds`, () => {
  /** Logs in, says nothing for `seconds`, and then a line. */
  async function idle(
    heartbeatSeconds: number,
    via: string,
    seconds: number,
  ): Promise<{ code: number | null; output: string }> {
    const sshd = await startSshd();
    const relay = await offer(["--tcp", `22=127.0.0.1:${sshd.port}`], {
      HEARTBEAT_SECONDS: String(heartbeatSeconds),
    });
    const nginx = await startNginxBefore(relay.port, CUT_SECONDS);
    const ssh = new Program("ssh", [
      ...sshd.options,
      ...dialCommand(`http://127.0.0.1:${nginx}`, "--via", via),
      sshd.login,
      `echo in; sleep ${seconds}; echo awake; read line; echo "got $line"`,
    ]);
    await ssh.prints(/^in$/m);
    await Promise.race([ssh.exited, once(ssh.child.stdout, "data")]);
    ssh.child.stdin.on("error", () => undefined).end("a line\n");
    const code = await ssh.exited;
    expectNoCrash(relay.program, relay.agent);
    return { code, output: ssh.output };
  }

  it("keeps idle sessions open, over connect-tcp and over WebSocket; where heartbeats are too seldom they are cut, and say so", async function () {
    this.timeout(40_000);
    needs(this, "ssh", "sshd", "nginx");
    const [kept, lost] = await Promise.all([
      Promise.all(
        VIAS.map((via) => idle(HEARTBEAT_SECONDS, via, IDLE_SECONDS)),
      ),
      Promise.all(VIAS.map((via) => idle(25, via, 30))),
    ]);
    for (const { code, output } of kept) {
      expect(output).to.equal("in\nawake\ngot a line\n");
      expect(code).to.equal(0);
    }
    for (const { code, output } of lost) {
      expect(output).to.include("in\npi:22: the connection was cut.\n");
      expect(code).to.equal(255);
    }
  });
});
