// The relay program and its list of revocations: SIGHUP, a file that changes, and a file that is spoilt.
import { expect } from "chai";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  expectNoCrash,
  issueFor,
  parkProgram,
  startHello,
  startRelayHere,
} from "../support/parked.ts";
import {
  PROJECT,
  Program,
  run,
  scratch,
  scratchFile,
} from "../support/programs.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const statusOf = async (port: number, id: string): Promise<number> => {
  const answer = await fetch(`http://127.0.0.1:${port}/?rendezvous=${id}`);
  await answer.text();
  return answer.status;
};

describe("the relay program's list of revocations", () => {
  it("is read again on SIGHUP: an agent of it loses its tunnels, another does not", async () => {
    const REVOKED_FILE = scratchFile("");
    const { program, port } = await startRelayHere({ REVOKED_FILE });
    const hello = await startHello();
    const agent = await parkProgram("pi", port, hello);
    const other = await parkProgram("tau", port, hello);
    expect(await statusOf(port, "pi")).to.equal(200);
    writeFileSync(REVOKED_FILE, "pi\n");
    program.child.kill("SIGHUP");
    await program.prints(/"entries":1,"ended":[1-9].*revocations has/);
    expect(await statusOf(port, "pi")).to.equal(503);
    expect(await statusOf(port, "tau")).to.equal(200);
    await agent.prints(/revoked/);
    expectNoCrash(program, other);
  });

  it("is read again when its file is replaced, and the next secret is good then", async () => {
    const REVOKED_FILE = join(scratch(), "revoked");
    writeFileSync(REVOKED_FILE, "tau");
    const env = { REVOKED: "rho", REVOKED_FILE, RELAY_SECRET };
    const { program, port } = await startRelayHere(env);
    const hello = await startHello();
    await parkProgram("pi", port, hello);
    writeFileSync(`${REVOKED_FILE}.new`, "tau\npi@1\n");
    renameSync(`${REVOKED_FILE}.new`, REVOKED_FILE);
    await program.prints(/"entries":3,"ended":[1-9].*revocations has/);
    // `issue` reads the same file.
    const { output } = await run(
      process.execPath,
      [join(PROJECT, "dist/bin/rendezvous.js"), "issue", "pi", "--json"],
      { env },
    );
    const { secret } = JSON.parse(output) as { secret: string };
    expect(secret).to.not.equal(issueFor("pi", port).secret);
    const next = new Program(process.execPath, [
      join(PROJECT, "dist/bin/rendezvous.js"),
      "park",
      `http://pi:${secret}@127.0.0.1:${port}`,
      String(hello),
    ]);
    await next.prints(/ is up: /);
    expect(await statusOf(port, "pi")).to.equal(200);
    expectNoCrash(program, next);
  });

  it("stays when its file is spoilt or has gone, and the log says so", async () => {
    const REVOKED_FILE = scratchFile("pi");
    const { program, port } = await startRelayHere({ REVOKED_FILE });
    const stays =
      "the new list of revocations cannot be used, the old one stays";
    writeFileSync(REVOKED_FILE, "p.i");
    program.child.kill("SIGHUP");
    await program.prints(
      new RegExp(`"level":50,.*got \\\\"p\\.i\\\\".*"${stays}"`),
    );
    rmSync(REVOKED_FILE);
    program.child.kill("SIGHUP");
    await program.prints(new RegExp(`"level":50,.*ENOENT.*"${stays}"`));
    expect(await statusOf(port, "pi")).to.equal(404);
    writeFileSync(REVOKED_FILE, "");
    program.child.kill("SIGHUP");
    await program.prints(/"entries":0,.*revocations has/);
    await parkProgram("pi", port, await startHello());
  });

  it("keeps a relay from starting when its file is missing or wrong", async () => {
    for (const [REVOKED_FILE, problem] of [
      ["/nowhere/revoked", "REVOKED_FILE must be a file that the relay can"],
      [scratchFile("pi@zero"), "REVOKED_FILE must name a file of ids like"],
    ] as const) {
      const { code, output } = await run(
        process.execPath,
        [join(PROJECT, "dist/bin/relay.js")],
        { cwd: scratch(), env: { RELAY_SECRET, REVOKED_FILE, PORT: "0" } },
      );
      expect(code).to.equal(1);
      expect(output).to.include(problem).and.match(/\.\n$/);
    }
  });
});

describe("SIGHUP", () => {
  it("ends no relay, not even one without files", async () => {
    const { program } = await startRelayHere();
    program.child.kill("SIGHUP");
    await program.prints(/"SIGHUP: the files are read again"/);
    program.child.kill("SIGTERM");
    program.child.kill("SIGHUP");
    expect(await program.exited).to.equal(0);
    expect(program.output).to.include('"bye"');
    expectNoCrash(program);
  });
});
