// `rendezvous doctor` as users run it: lines to read, a document for programs, and exit codes.
import { expect } from "chai";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { afterThisTest } from "../support/cleanup.ts";
import { NO_PROXIES, issueFor, startRelayHere } from "../support/parked.ts";
import { freePort, scratchFile, startRendezvous } from "../support/programs.ts";
import { startRelay } from "../support/relay.ts";
import { selfSign, startTcp } from "../support/tcp.ts";

interface Report {
  readonly relay: string;
  readonly outcome: string;
  readonly use: string;
  readonly dial: string | null;
  readonly park: string | null;
  readonly checks: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

async function doctor(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  const program = startRendezvous(["doctor", ...args], {
    ...NO_PROXIES,
    RENDEZVOUS_URL: "",
    ...env,
  });
  const code = await program.exited;
  return { code, output: program.output };
}

async function report(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Report & { code: number | null }> {
  const { code, output } = await doctor([...args, "--json"], env);
  return { ...(JSON.parse(output) as Report), code };
}

/** The certificate of a relay at https://localhost, and the file that has it. */
async function makeCertificate() {
  const files = await selfSign("localhost");
  const [cert, key] = [files.cert, files.key].map((file) =>
    readFileSync(file, "utf8"),
  );
  return { tls: { cert: cert ?? "", key: key ?? "" }, file: files.cert };
}

describe("rendezvous doctor", () => {
  it("prints aligned lines, a last one with what will be used, and no secret", async () => {
    const { port } = await startRelayHere();
    const { url, secret } = issueFor("pi", port);
    const { code, output } = await doctor([url]);
    expect(code, output).to.equal(0);
    const lines = output.trimEnd().split("\n");
    expect(lines.at(-1)).to.equal(
      "The agent will use connect; dial will use upgrade.",
    );
    expect(lines.at(-2)).to.equal("");
    for (const line of lines.slice(0, -2))
      expect(line).to.match(/^(ok {4}|-{1} {5})[\w ]{15} \S/);
    expect(output).not.to.include(secret);
  });

  it("takes the relay and its secret from where park takes them", async () => {
    const { port } = await startRelayHere();
    const { url, secret } = issueFor("pi", port);
    const byVariable = await report([], { RENDEZVOUS_URL: url });
    expect(byVariable).to.include({ code: 0, park: "connect" });
    const byFile = await report([
      `http://pi@127.0.0.1:${port}`,
      ...["--secret-file", scratchFile(secret)],
    ]);
    expect(byFile).to.include({ code: 0, park: "connect" });
    const without = await report([`http://127.0.0.1:${port}`], {
      RENDEZVOUS_URL: url,
    });
    expect(without).to.include({ code: 0, dial: "upgrade", park: null });
    expect(without.checks["park"]).to.include({ mark: "-" });
  });

  it("has the same facts as one document", async () => {
    const { port } = await startRelayHere();
    const { url } = issueFor("pi", port);
    const found = await report([url, "--idle", "1"]);
    expect(found.relay).to.equal(`http://127.0.0.1:${port}`);
    expect(found).to.include({ outcome: "works", dial: "upgrade" });
    const { checks } = found;
    expect(checks["park websocket"]).to.include({ mark: "ok", result: "yes" });
    expect(checks["round trip"]?.["milliseconds"]).to.be.a("number");
    expect(checks["request head"]).to.include({ largestKibibytes: 60 });
    expect(checks["answers"]).to.include({ streamed: true });
    expect(checks["uploads"]).to.include({ streamed: true });
    expect(checks["clock"]?.["secondsAhead"]).to.be.closeTo(0, 5);
    expect(checks["visitor"]).to.include({ proto: "http", forwarded: 0 });
    expect(checks["idle connect"]).to.include({ survived: true, seconds: 1 });
  });

  it("ends with 3 where the secret is wrong, with 4 where nobody is, with 2 where it is misused", async () => {
    const { port } = await startRelayHere();
    const { secret } = issueFor("another", port);
    const refused = await doctor([`http://pi:${secret}@127.0.0.1:${port}`]);
    expect(refused.code).to.equal(3);
    expect(refused.output).to.match(/^no {4}park connect {4}401 /m);
    expect(refused.output).to.include(
      "The relay does not take this id and secret; dial will use upgrade",
    );
    const nobody = await freePort();
    const gone = await doctor([`http://127.0.0.1:${nobody}`]);
    expect(gone.code).to.equal(4);
    expect(gone.output).to.match(
      /^Nothing is to be reached at 127\.0\.0\.1:\d+: .+\.$/m,
    );
    const unnamed = await doctor([`http://${"x".repeat(70)}`]);
    expect(unnamed.code).to.equal(4);
    expect(unnamed.output).to.match(/^no {4}address /m);
    expect((await doctor([])).code).to.equal(2);
    const bad = await doctor([`http://pi:!!!@127.0.0.1:${port}`]);
    expect(bad.code).to.equal(2);
    expect(bad.output).to.include("The secret is not base32");
  });

  it("tells protocol and certificate, and what helps where it is not trusted", async () => {
    const { tls, file } = await makeCertificate();
    const relay = await startRelay({ tls });
    const { url } = relay.issue("pi");
    const trusted = await report([url, "--ca", file]);
    expect(trusted).to.include({ code: 0, dial: "upgrade", park: "connect" });
    expect(trusted.checks["TLS"]).to.include({
      protocol: "TLSv1.3",
      certificate: "localhost",
      // It is made for two days.
      mark: "warn",
    });
    expect(trusted.checks["visitor"]).to.include({ proto: "https" });
    const { code, output } = await doctor([url]);
    expect(code).to.equal(4);
    expect(output).to.match(/^no {4}TLS +.*self-signed.*--ca FILE/m);
  });

  it("says that the other scheme is meant", async () => {
    const { tls } = await makeCertificate();
    const secure = await startRelay({ tls });
    const byHttp = await doctor([`http://localhost:${secure.port}`]);
    expect(byHttp.code).to.equal(3);
    expect(byHttp.output).to.match(
      /^no {4}relay +400 .+this port speaks HTTPS: use an https: URL/m,
    );
    const plain = await startRelay();
    const byHttps = await doctor([`https://127.0.0.1:${plain.port}`]);
    expect(byHttps.code).to.equal(4);
    expect(byHttps.output).to.match(/^no {4}TLS +.+ http:\/\//m);
  });

  it("follows http to https", async () => {
    const { tls, file } = await makeCertificate();
    const relay = await startRelay({ tls });
    const server = createServer((request, answer) =>
      answer
        .writeHead(301, { Location: `${relay.url}${request.url ?? ""}` })
        .end(),
    );
    server.listen(0, "localhost");
    await once(server, "listening");
    afterThisTest(() => server.close());
    const { port } = server.address() as AddressInfo;
    const found = await report([`http://localhost:${port}`, "--ca", file]);
    expect(found).to.include({ code: 0, dial: "upgrade" });
    expect(found.checks["redirect"]).to.include({ to: relay.url });
  });

  it("goes through the environment's proxy, and shows no password of it", async () => {
    const relay = await startRelay();
    const proxy = await startTcp((socket) => {
      socket.once("data", (head: Buffer) => {
        expect(head.toString()).to.match(/^CONNECT /);
        const through = connect(relay.port, "127.0.0.1");
        through.on("error", () => undefined);
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        socket.pipe(through).pipe(socket);
      });
    });
    const { code, output } = await doctor(
      [`http://relay.example.com:${relay.port}`],
      { HTTP_PROXY: `http://me:HUNTER2@127.0.0.1:${proxy}` },
    );
    expect(code, output).to.equal(0);
    expect(output).to.match(
      new RegExp(`^ok {4}proxy +http://127\\.0\\.0\\.1:${proxy},`, "m"),
    );
    expect(output).not.to.include("HUNTER2");
  });

  it("can be stopped", async () => {
    const { port } = await startRelayHere();
    const program = startRendezvous(
      ["doctor", `http://127.0.0.1:${port}`, "--idle", "60"],
      NO_PROXIES,
    );
    await program.prints(/ visitor /);
    await program.stop("SIGINT");
    expect(program.child.signalCode).to.equal("SIGINT");
  });
});
