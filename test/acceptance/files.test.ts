// A relay that may open few files: it serves whoever is there, turns others away, and takes new ones again later.
import { expect } from "chai";
import { PROJECT, Program, freePort } from "../support/programs.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { RELAY_SECRET } from "../support/relay.ts";
import { cpuSecondsOf } from "../support/usage.ts";
import { get } from "../support/visits.ts";

/** Enough for Node, and for some connections. */
const FILES = 256;
/** More than there can be files. */
const CROWD = 400;

async function startWithFewFiles(
  env: NodeJS.ProcessEnv,
): Promise<{ program: Program; port: number }> {
  const port = await freePort();
  const program = new Program(
    "sh",
    ["-c", `ulimit -n ${FILES}; exec "$0" dist/bin/relay.js`, process.execPath],
    {
      cwd: PROJECT,
      env: {
        RELAY_SECRET,
        HOST: "127.0.0.1",
        PORT: String(port),
        HEAD_SECONDS: "1",
        RATE_PER_ADDRESS: "0",
        ...env,
      },
    },
  );
  await program.prints(/"listening"/);
  return { program, port };
}

async function statusOf(raw: Raw): Promise<number | undefined> {
  raw.socket.once("end", () => raw.socket.destroy());
  raw.write(get("/-/health"));
  try {
    return (await raw.answer()).status;
  } catch {
    // Closed without a word.
    return undefined;
  }
}

describe("a relay that has no file left for a connection", () => {
  for (const [what, env, told] of [
    ["turns new ones away", { MAX_CONNECTIONS: "0" }, undefined],
    ["tells new ones so where MAX_CONNECTIONS is set", {}, 503],
  ] as const)
    it(`${what}, serves those that are there without spinning, and takes new ones when some have left`, async () => {
      const { program, port } = await startWithFewFiles(env);
      const early = await connectRaw(port);
      expect(await statusOf(early)).to.equal(200);
      const crowd = [];
      for (let i = 0; i < CROWD; i++) crowd.push(await connectRaw(port));
      // So many at once are not all told; a moment later there is time for it.
      let late = await statusOf(await connectRaw(port));
      while (late !== told) late = await statusOf(await connectRaw(port));
      const before = cpuSecondsOf(program);
      // A second later, by the relay's own clock.
      early.write("GET / HTTP/1.1\r\nHo");
      const answer = await early.answer();
      expect(answer.status).to.equal(408);
      expect(cpuSecondsOf(program) - before).to.be.below(0.5);
      for (const { socket } of crowd) socket.destroy();
      for (;;) {
        const again = await connectRaw(port);
        const status = await statusOf(again);
        again.socket.destroy();
        if (status === 200) break;
      }
      expect(program.output).to.not.match(/"level":[56]0|cannot listen/);
      const warned = program.output.includes("fewer open files");
      expect(warned).to.equal(told !== undefined);
    });
});
