// Networks whose only way out is a proxy, and relays behind TLS.
//   agent -> proxy: squid, tinyproxy -> TLS: haproxy, node:tls -> relay
import { expect } from "chai";
import { once } from "node:events";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type AddressInfo } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterThisTest } from "../support/cleanup.ts";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  startHello,
  startRelayHere,
} from "../support/parked.ts";
import {
  Program,
  freePort,
  listening,
  needs,
  run,
  scratch,
  startRendezvous,
} from "../support/programs.ts";

/** The agent of `pi`, towards a relay that may be reached by another port and scheme than its own. */
function startAgentTo(
  relay: { port: number; scheme?: string; host?: string },
  service: number,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Program {
  const { url } = issueFor("pi", relay.port, relay);
  return startRendezvous(["park", url, String(service), ...args], {
    ...NO_PROXIES,
    ...env,
  });
}

async function startSquid(
  rules = "http_access allow all",
): Promise<{ port: number; log: () => string }> {
  const port = await freePort();
  const own = scratch();
  // squid gives up root.
  chmodSync(own, 0o777);
  writeFileSync(
    join(own, "squid.conf"),
    `http_port 127.0.0.1:${port}
${rules}
cache deny all
pid_filename none
access_log stdio:${own}/access.log
cache_log ${own}/cache.log
coredump_dir ${own}
shutdown_lifetime 0 seconds
`,
  );
  new Program("squid", ["-N", "-f", join(own, "squid.conf")]);
  await listening(port);
  return { port, log: () => readFileSync(join(own, "access.log"), "utf8") };
}

async function startTinyproxy(): Promise<number> {
  const port = await freePort();
  const file = join(scratch(), "tinyproxy.conf");
  writeFileSync(
    file,
    `Port ${port}
Listen 127.0.0.1
Timeout 600
MaxClients 100
BasicAuth somebody password
`,
  );
  new Program("tinyproxy", ["-d", "-c", file]);
  await listening(port);
  return port;
}

interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Certificate and key in one file, as haproxy wants them. */
  readonly both: string;
}

/** A private authority, and a certificate of it for this machine. */
async function certify(
  names = "DNS:localhost,IP:127.0.0.1",
): Promise<Certificates> {
  const own = scratch();
  const file = (name: string): string => join(own, name);
  writeFileSync(
    file("leaf.ext"),
    `subjectAltName=${names}\nbasicConstraints=CA:FALSE\n`,
  );
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  for (const args of [
    [
      "req",
      "-x509",
      ...curve,
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=A private authority",
      "-keyout",
      file("ca.key"),
      "-out",
      file("ca.pem"),
    ],
    [
      "req",
      ...curve,
      "-nodes",
      "-subj",
      "/CN=localhost",
      "-keyout",
      file("key.pem"),
      "-out",
      file("leaf.csr"),
    ],
    [
      "x509",
      "-req",
      "-in",
      file("leaf.csr"),
      "-days",
      "2",
      "-CA",
      file("ca.pem"),
      "-CAkey",
      file("ca.key"),
      "-CAcreateserial",
      "-extfile",
      file("leaf.ext"),
      "-out",
      file("cert.pem"),
    ],
  ]) {
    const { code, output } = await run("openssl", args);
    expect(code, output).to.equal(0);
  }
  writeFileSync(
    file("both.pem"),
    readFileSync(file("cert.pem"), "utf8") +
      readFileSync(file("key.pem"), "utf8"),
  );
  return {
    ca: file("ca.pem"),
    cert: file("cert.pem"),
    key: file("key.pem"),
    both: file("both.pem"),
  };
}

/** haproxy before the relay, which takes TLS off and looks at nothing else. */
async function startHaproxy(
  relayPort: number,
  { both }: Certificates,
): Promise<number> {
  const port = await freePort();
  const file = join(scratch(), "haproxy.cfg");
  writeFileSync(
    file,
    `global
  maxconn 200
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
frontend tls
  bind 127.0.0.1:${port} ssl crt ${both} alpn h2,http/1.1
  default_backend relay
backend relay
  server relay 127.0.0.1:${relayPort}
`,
  );
  new Program("haproxy", ["-db", "-f", file]);
  await listening(port);
  return port;
}

/** The same by hand, and what clients have offered. */
async function startTerminator(
  relayPort: number,
  { cert, key }: Certificates,
): Promise<{ port: number; offered: string[][] }> {
  const offered: string[][] = [];
  const server = createTlsServer(
    {
      cert: readFileSync(cert),
      key: readFileSync(key),
      allowHalfOpen: true,
      ALPNCallback: ({ protocols }) => {
        offered.push(protocols);
        return protocols.includes("http/1.1") ? "http/1.1" : undefined;
      },
    },
    (inner) => {
      const outer = connect(relayPort, "127.0.0.1");
      inner.on("error", () => outer.destroy()).pipe(outer);
      outer.on("error", () => inner.destroy()).pipe(inner);
    },
  );
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => server.close());
  return { port: (server.address() as AddressInfo).port, offered };
}

describe("an agent whose only way out is a proxy", () => {
  it("parks on an http: relay through squid", async function () {
    needs(this, "squid", "curl");
    const relay = await startRelayHere();
    const squid = await startSquid();
    const agent = startAgentTo(relay, await startHello(), [], {
      HTTP_PROXY: `http://127.0.0.1:${squid.port}`,
    });
    await agent.prints(/is up/);
    const { body } = await curl(issueFor("pi", relay.port).visit);
    expect(body).to.equal("hello\n");
    expectNoCrash(relay.program, agent);
    // squid writes a line when a tunnel has ended.
    await relay.program.stop("SIGKILL");
    await agent.prints(/not parked/);
    expect(squid.log()).to.match(
      new RegExp(`TCP_TUNNEL/200 \\d+ CONNECT 127.0.0.1:${relay.port} `),
    );
  });

  it("parks on an https: relay through squid", async function () {
    needs(this, "squid", "openssl", "haproxy", "curl");
    const relay = await startRelayHere();
    const certificates = await certify();
    const port = await startHaproxy(relay.port, certificates);
    const squid = await startSquid();
    const agent = startAgentTo(
      { port, scheme: "https", host: "localhost" },
      await startHello(),
      ["--ca", certificates.ca],
      { HTTPS_PROXY: `http://127.0.0.1:${squid.port}` },
    );
    const [, visit = ""] = await agent.prints(/is up: (\S+)/);
    expect(visit).to.equal(`https://localhost:${port}/?rendezvous=pi`);
    const { body } = await curl(
      ...["--http1.1", "--cacert", certificates.ca, visit],
    );
    expect(body).to.equal("hello\n");
    expectNoCrash(relay.program, agent);
    await relay.program.stop("SIGKILL");
    await agent.prints(/not parked/);
    expect(squid.log()).to.include(`CONNECT localhost:${port} `);
  });

  it("checks the certificate of an https: relay that is named by its address", async function () {
    needs(this, "squid", "openssl");
    const relay = await startRelayHere({ LOG_LEVEL: "debug" });
    const squid = await startSquid();
    const env = { HTTPS_PROXY: `http://127.0.0.1:${squid.port}` };
    for (const [names, outcome] of [
      ["DNS:localhost,IP:127.0.0.1", /is up/],
      ["DNS:localhost,IP:127.0.0.2", /not parked: .+altnames/],
    ] as const) {
      const certificates = await certify(names);
      const { port } = await startTerminator(relay.port, certificates);
      const agent = startAgentTo(
        { port, scheme: "https" },
        await startHello(),
        ["--ca", certificates.ca],
        env,
      );
      await agent.prints(outcome);
      expectNoCrash(agent);
    }
  });

  it("parks through a proxy that wants a password", async function () {
    needs(this, "tinyproxy", "curl");
    const relay = await startRelayHere();
    const proxy = await startTinyproxy();
    const agent = startAgentTo(relay, await startHello(), [], {
      http_proxy: `http://somebody:password@127.0.0.1:${proxy}`,
    });
    await agent.prints(/is up/);
    const { body } = await curl(issueFor("pi", relay.port).visit);
    expect(body).to.equal("hello\n");
    expectNoCrash(relay.program, agent);
  });

  it("goes directly where NO_PROXY says so", async function () {
    needs(this, "curl");
    const relay = await startRelayHere();
    const agent = startAgentTo(relay, await startHello(), [], {
      HTTP_PROXY: `http://127.0.0.1:${await freePort()}`,
      NO_PROXY: "127.0.0.1",
    });
    await agent.prints(/is up/);
    const { body } = await curl(issueFor("pi", relay.port).visit);
    expect(body).to.equal("hello\n");
  });

  it("says which proxy is not there, and not how to log in to it", async () => {
    const relay = await startRelayHere();
    const place = `127.0.0.1:${await freePort()}`;
    const agent = startAgentTo(relay, await startHello(), [], {
      HTTP_PROXY: `http://somebody:HUNTER2@${place}`,
    });
    const [line] = await agent.prints(/pi is not parked: .+/);
    expect(line).to.include(
      `the proxy http://${place} on the way to 127.0.0.1:${relay.port} cannot be reached: connect ECONNREFUSED`,
    );
    expect(agent.output).to.not.include("HUNTER2");
    expectNoCrash(agent);
  });

  it("says that the proxy refuses, and that it was the proxy", async function () {
    needs(this, "squid");
    const relay = await startRelayHere();
    const squid = await startSquid("http_access deny all");
    const agent = startAgentTo(relay, await startHello(), [], {
      HTTP_PROXY: `http://127.0.0.1:${squid.port}`,
    });
    const [line] = await agent.prints(/pi is not parked: .+/);
    expect(line).to.include("403");
    expect(line).to.include("proxy");
    expectNoCrash(agent);
  });
});

describe("an agent before a relay behind TLS", () => {
  for (const host of ["localhost", "127.0.0.1"]) {
    it(`parks at ${host} when it is told to trust the private authority, and offers http/1.1 alone`, async function () {
      needs(this, "openssl", "curl");
      const relay = await startRelayHere();
      const certificates = await certify();
      const terminator = await startTerminator(relay.port, certificates);
      const agent = startAgentTo(
        { port: terminator.port, scheme: "https", host },
        await startHello(),
        ["--ca", certificates.ca],
        {},
      );
      const [, visit = ""] = await agent.prints(/is up: (\S+)/);
      expect(terminator.offered).not.to.be.empty;
      for (const protocols of terminator.offered)
        expect(protocols).to.deep.equal(["http/1.1"]);
      const { body } = await curl(
        ...["--http1.1", "--cacert", certificates.ca, visit],
      );
      expect(body).to.equal("hello\n");
      expectNoCrash(relay.program, agent);
    });
  }

  it("parks behind haproxy", async function () {
    needs(this, "openssl", "haproxy", "curl");
    const relay = await startRelayHere();
    const certificates = await certify();
    const port = await startHaproxy(relay.port, certificates);
    const agent = startAgentTo(
      { port, scheme: "https", host: "localhost" },
      await startHello(),
      ["--ca", certificates.ca],
      {},
    );
    const [, visit = ""] = await agent.prints(/is up: (\S+)/);
    const { body } = await curl(
      ...["--http1.1", "--cacert", certificates.ca, visit],
    );
    expect(body).to.equal("hello\n");
    expectNoCrash(relay.program, agent);
  });

  it("refuses a certificate of nobody it trusts, says why, and never shows its token", async function () {
    needs(this, "openssl");
    const relay = await startRelayHere({ LOG_LEVEL: "debug" });
    const terminator = await startTerminator(relay.port, await certify());
    const agent = startAgentTo(
      { port: terminator.port, scheme: "https", host: "localhost" },
      await startHello(),
      [],
      {},
    );
    await agent.prints(/pi is not parked: .+certificate.+ Trying again in /);
    expect(agent.output).not.to.include("is up");
    expect(relay.program.output).not.to.match(/park/);
    expectNoCrash(relay.program, agent);
  });

  it("refuses a certificate for another name, whoever signed it", async function () {
    needs(this, "openssl");
    const relay = await startRelayHere({ LOG_LEVEL: "debug" });
    const certificates = await certify();
    const terminator = await startTerminator(relay.port, certificates);
    const agent = startAgentTo(
      { port: terminator.port, scheme: "https", host: "pi.localhost" },
      await startHello(),
      ["--ca", certificates.ca],
      {},
    );
    const [line] = await agent.prints(/pi is not parked: .+/);
    expect(line).to.match(/altnames|ENOTFOUND/);
    expect(relay.program.output).not.to.match(/park/);
    expectNoCrash(relay.program, agent);
  });
});
