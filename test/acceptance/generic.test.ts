// The generic protocol by small programs that know nothing but its description.
//   responder -> relay <- initiator
import { expect } from "chai";
import { generateSync } from "otplib";
import { join } from "node:path";
import {
  curl,
  expectNoCrash,
  issueFor,
  startRelayHere,
} from "../support/parked.ts";
import { PROJECT, Program, freePort, needs, run } from "../support/programs.ts";
import { until } from "../support/relay.ts";
import { connectionsTo, offer, startEcho } from "../support/tcp.ts";

const script = (name: string): string[] => [
  ...["--import", "tsx"],
  join(PROJECT, "test/support/services", `${name}.ts`),
];

/** A responder that has sent its cookie, and waits. */
async function startResponder(port: number, how: string): Promise<Program> {
  const token = generateSync({ secret: issueFor("pi", port).secret });
  const responder = new Program(
    process.execPath,
    [...script("responder"), `127.0.0.1:${port}`, "pi", token, how],
    { cwd: PROJECT },
  );
  await responder.prints(/sent a cookie of R/);
  return responder;
}

const initiate = (
  port: number,
  how: string,
  input: string,
): Promise<{ code: number | null; output: string }> =>
  run(
    process.execPath,
    [...script("initiator"), `127.0.0.1:${port}`, "pi", how],
    { cwd: PROJECT, input },
  );

const HOWS = ["wrapped", "plain"] as const;

for (const how of HOWS) {
  describe(`the generic protocol, ${how === "plain" ? "on a port of its own" : "wrapped in CONNECT"}, by small programs`, () => {
    async function startGeneric(): Promise<{
      program: Program;
      port: number;
      genericPort: number;
    }> {
      const genericPort = await freePort();
      const relay = await startRelayHere(
        how === "plain" ? { GENERIC_PORT: String(genericPort) } : {},
      );
      return { ...relay, genericPort };
    }

    it("lets them meet, keeps what comes with the cookie line, and passes each end", async () => {
      const { program, port } = await startGeneric();
      const responder = await startResponder(port, how);
      const { code, output } = await initiate(port, how, "and late\n");
      expect([code, output]).to.deep.equal([
        0,
        "sent a cookie of I\n+OK\nEARLY AND LATE\nBYE\n",
      ]);
      expect(await responder.exited).to.equal(0);
      expect(responder.output).to.equal("sent a cookie of R\n+OK\n");
      expectNoCrash(program);
    });

    it("lets a visitor by CONNECT reach the responder", async function () {
      needs(this, "nc");
      const { program, port } = await startGeneric();
      const responder = await startResponder(port, how);
      const { code, output } = await run(
        "nc",
        ["-N", "-X", "connect", "-x", `127.0.0.1:${port}`, "pi", "22"],
        { input: "hello\n" },
      );
      expect([code, output]).to.deep.equal([0, "HELLO\nBYE\n"]);
      expect(await responder.exited).to.equal(0);
      expectNoCrash(program);
    });

    it("lets the initiator reach an agent that is parked by CONNECT", async () => {
      const genericPort = await freePort();
      const relay = await offer(
        ["--tcp", `80=127.0.0.1:${await startEcho()}`],
        how === "plain" ? { GENERIC_PORT: String(genericPort) } : {},
      );
      const { code, output } = await initiate(relay.port, how, "and late\n");
      expect([code, output]).to.deep.equal([
        0,
        "sent a cookie of I\n+OK\nearly and late\n",
      ]);
      expectNoCrash(relay.program, relay.agent);
    });

    it("tells the initiator that the responder has not come", async () => {
      const { program, port } = await startGeneric();
      await register(port);
      const { code, output } = await initiate(port, how, "");
      expect([code, output]).to.deep.equal([
        1,
        "sent a cookie of I\n-ERR not ready\n",
      ]);
      expectNoCrash(program);
    });
  });
}

describe("the generic protocol's own port", () => {
  it("takes nc as responder and as initiator", async function () {
    needs(this, "nc", "curl");
    const genericPort = await freePort();
    const { program, port } = await startRelayHere({
      GENERIC_PORT: String(genericPort),
    });
    const registered = await register(port);
    expect(registered.port).to.equal(genericPort);
    const place = ["127.0.0.1", String(genericPort)];
    const responder = new Program("nc", ["-N", ...place]);
    responder.child.stdin.write(`${registered.cookie}\n`);
    await until(() => connectionsTo(genericPort, "ESTABLISHED") > 0);
    const found = await curl(`http://127.0.0.1:${port}/?uuid=pi`);
    const { cookie } = (JSON.parse(found.body) as { result: Triple }).result;
    const initiator = new Program("nc", ["-N", ...place]);
    initiator.child.stdin.end(`${cookie}\nhello\n`);
    await responder.prints(/^\+OK\nhello\n$/);
    responder.child.stdin.end("hello yourself\n");
    expect(await initiator.exited).to.equal(0);
    expect(initiator.output).to.equal("+OK\nhello yourself\n");
    expect(await responder.exited).to.equal(0);
    expectNoCrash(program);
  });
});

interface Triple {
  readonly host: string;
  readonly port: number;
  readonly cookie: string;
}

/** Registers `pi` with a code as an authenticator app shows it. */
async function register(port: number): Promise<Triple> {
  const token = generateSync({ secret: issueFor("pi", port).secret });
  const { status, body } = await curl(
    ...["-X", "PUT", `http://127.0.0.1:${port}/?uuid=pi&response=${token}`],
  );
  expect(status, body).to.equal(200);
  return (JSON.parse(body) as { result: Triple }).result;
}
