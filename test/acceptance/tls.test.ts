// A relay that speaks TLS by itself, as on a VPS: real clients through it, and a certificate that is renewed under it.
import { expect } from "chai";
import { once } from "node:events";
import {
  copyFileSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { WAYS } from "../../app/protocol.ts";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  startHello,
  startRelayHere,
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
import { RELAY_SECRET } from "../support/relay.ts";
import {
  dialCommand,
  selfSign,
  startDial,
  startEcho,
  startSshd,
} from "../support/tcp.ts";

interface Files {
  readonly cert: string;
  readonly key: string;
}

/** A relay with a certificate for localhost, and where curl and the others find it. */
async function startSecureRelay(env: NodeJS.ProcessEnv = {}) {
  const files = await selfSign("localhost");
  const relay = await startRelayHere({
    TLS_CERT: files.cert,
    TLS_KEY: files.key,
    ...env,
  });
  return { ...relay, ...files, url: `https://localhost:${relay.port}` };
}

/** The agent of `pi`, once it is up. */
async function parkSecurely(
  relay: { readonly port: number; readonly cert: string },
  ...args: readonly (string | number)[]
): Promise<Program> {
  const { url } = issueFor("pi", relay.port, {
    scheme: "https",
    host: "localhost",
  });
  const agent = startRendezvous(
    ["park", url, ...args.map(String), "--ca", relay.cert],
    NO_PROXIES,
  );
  await agent.prints(/ is up: /);
  return agent;
}

/** The serial number of the certificate that new connections see. */
async function serialAt(port: number): Promise<string> {
  const socket = connect({
    port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
  });
  await once(socket, "secureConnect");
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

async function refusedRelay(
  env: NodeJS.ProcessEnv,
): Promise<{ code: number | null; output: string }> {
  return run(process.execPath, [join(PROJECT, "dist/bin/relay.js")], {
    cwd: scratch(),
    env: { RELAY_SECRET, RELAY_SECRET_FILE: "", PORT: "0", ...env },
  });
}

describe("a relay with TLS_CERT and TLS_KEY", () => {
  it("serves curl, by its own name and as an https: proxy", async function () {
    needs(this, "openssl", "curl");
    const relay = await startSecureRelay();
    const agent = await parkSecurely(relay, await startHello());
    const [, visit = ""] = await agent.prints(/is up: (\S+)/);
    expect(visit).to.equal(`${relay.url}/?rendezvous=pi`);
    expect((await curl("--cacert", relay.cert, visit)).body).to.equal(
      "hello\n",
    );
    const proxy = ["--proxy", relay.url, "--proxy-cacert", relay.cert];
    expect((await curl(...proxy, "http://pi/")).body).to.equal("hello\n");
    // CONNECT pi:80, and TLS for the relay only.
    const tunnelled = await curl("--proxytunnel", ...proxy, "http://pi/");
    expect(tunnelled.body).to.include("hello\n");
    expectNoCrash(relay.program, agent);
  });

  it("tells curl without TLS what it wants", async function () {
    needs(this, "openssl", "curl");
    const relay = await startSecureRelay();
    const { status, body } = await curl(`http://localhost:${relay.port}/`);
    expect(status).to.equal(400);
    expect(body).to.include("this port speaks HTTPS");
  });

  for (const way of WAYS) {
    it(`carries a TCP visit by ${way}`, async function () {
      needs(this, "openssl");
      const relay = await startSecureRelay();
      const port = await startEcho();
      const agent = await parkSecurely(relay, "--tcp", `7=127.0.0.1:${port}`);
      const dial = startDial(
        ...[relay.url, "pi", 7, "--via", way, "--ca", relay.cert],
      );
      const sent = "there and back\n".repeat(20_000);
      dial.child.stdin.end(sent);
      expect(await dial.exited).to.equal(0);
      expect(dial.output === sent, dial.output.slice(0, 200)).to.be.true;
      expectNoCrash(relay.program, agent, dial);
    });
  }

  it("carries ssh", async function () {
    needs(this, "openssl", "ssh", "ssh-keygen", "sshd");
    const relay = await startSecureRelay();
    const sshd = await startSshd();
    await parkSecurely(relay, "--tcp", `22=127.0.0.1:${sshd.port}`);
    const { code, output } = await run(
      "ssh",
      [
        ...dialCommand(relay.url, "--ca", relay.cert),
        ...[...sshd.options, "-p", "22", sshd.login, "wc -c"],
      ],
      { env: NO_PROXIES, input: "x".repeat(1_000_000) },
    );
    expect(code, output).to.equal(0);
    expect(output).to.equal("1000000\n");
  });

  it("prints https: commands in its first steps", async function () {
    needs(this, "openssl");
    const { cert, key } = await selfSign("localhost");
    const { program, port } = await startRelayProgram({
      ...{ NODE_ENV: "", RELAY_SECRET: "", RELAY_SECRET_FILE: "" },
      ...{ TLS_CERT: cert, TLS_KEY: key },
    });
    await program.prints(
      new RegExp(`npx rendezvous park https://demo:\\w+@localhost:${port} `),
    );
  });
});

describe("a certificate that is renewed", () => {
  it("is taken on SIGHUP, and a parked tunnel does not notice", async function () {
    needs(this, "openssl", "curl");
    const relay = await startSecureRelay();
    const agent = await parkSecurely(relay, await startHello());
    const before = await serialAt(relay.port);
    const renewed = await selfSign("localhost");
    copyFileSync(renewed.cert, relay.cert);
    copyFileSync(renewed.key, relay.key);
    relay.program.child.kill("SIGHUP");
    await relay.program.prints(/"the certificate has changed"/);
    expect(await serialAt(relay.port)).to.not.equal(before);
    // The agent does not trust the new one: what serves is a tunnel that was there before.
    const { body } = await curl(
      ...["--cacert", renewed.cert, `${relay.url}/?rendezvous=pi`],
    );
    expect(body).to.equal("hello\n");
    expectNoCrash(relay.program, agent);
  });

  it("is taken when its file is replaced, without a signal", async function () {
    needs(this, "openssl");
    const [old, renewed] = [
      await selfSign("localhost"),
      await selfSign("localhost"),
    ];
    // As certbot does it: the names are links, and a renewal moves other links into their place.
    const own = scratch();
    const live: Files = {
      cert: join(own, "live", "fullchain.pem"),
      key: join(own, "live", "privkey.pem"),
    };
    mkdirSync(join(own, "live"));
    const point = ({ cert, key }: Files): void => {
      for (const [target, name] of [
        [key, live.key],
        [cert, live.cert],
      ] as const) {
        symlinkSync(target, `${name}.new`);
        renameSync(`${name}.new`, name);
      }
    };
    point(old);
    const relay = await startRelayHere({
      TLS_CERT: live.cert,
      TLS_KEY: live.key,
    });
    const before = await serialAt(relay.port);
    point(renewed);
    await relay.program.prints(/"the certificate has changed"/);
    expect(await serialAt(relay.port)).to.not.equal(before);
    expectNoCrash(relay.program);
  });

  it("that cannot be used is logged, and the old one stays until there is a good one", async function () {
    needs(this, "openssl");
    const relay = await startSecureRelay();
    const before = await serialAt(relay.port);
    writeFileSync(relay.cert, "no certificate at all");
    relay.program.child.kill("SIGHUP");
    await relay.program.prints(
      /"level":50,.+"the new certificate cannot be used, the old one stays"/,
    );
    expect(await serialAt(relay.port)).to.equal(before);
    const renewed = await selfSign("localhost");
    copyFileSync(renewed.key, relay.key);
    copyFileSync(renewed.cert, relay.cert);
    relay.program.child.kill("SIGHUP");
    await relay.program.prints(/"the certificate has changed"/);
    expect(await serialAt(relay.port)).to.not.equal(before);
  });
});

describe("a relay does not start", () => {
  it("with only one of TLS_CERT and TLS_KEY", async () => {
    for (const [given, missing] of [
      ["TLS_CERT", "TLS_KEY"],
      ["TLS_KEY", "TLS_CERT"],
    ] as const) {
      const { code, output } = await refusedRelay({ [given]: "/etc/x.pem" });
      expect(code).to.equal(1);
      expect(output).to.equal(
        `${missing} must be set where ${given} is: certificate and key are two files. Leave both out for plain HTTP.\n`,
      );
    }
  });

  it("with a certificate that cannot be read", async () => {
    const { code, output } = await refusedRelay({
      TLS_CERT: "/nowhere/cert.pem",
      TLS_KEY: "/nowhere/key.pem",
    });
    expect(code).to.equal(1);
    expect(output).to.equal(
      "TLS_CERT must be a file that the relay can read: ENOENT: no such file or directory, open '/nowhere/cert.pem'. Leave TLS_CERT and TLS_KEY out for plain HTTP.\n",
    );
  });

  it("with a key of another certificate", async function () {
    needs(this, "openssl");
    const [one, other] = [
      await selfSign("localhost"),
      await selfSign("localhost"),
    ];
    const port = await freePort();
    const { code, output } = await refusedRelay({
      PORT: String(port),
      TLS_CERT: one.cert,
      TLS_KEY: other.key,
    });
    expect(code).to.equal(1);
    expect(output).to.match(
      /^TLS_CERT and TLS_KEY must be a certificate and its key, both in PEM: .*key values mismatch\. Leave both out for plain HTTP\.\n$/,
    );
  });
});
