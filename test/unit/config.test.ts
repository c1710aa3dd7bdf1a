// Settings: read in one place, and everything wrong about them said at once.
import { expect } from "chai";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readRelayConfig } from "../../app/config.ts";
import { SETTINGS, checkSettings } from "../../app/relay/options.ts";
import { problemsOf } from "../support/problems.ts";
import { PROJECT, scratchFile } from "../support/programs.ts";
import { RELAY_SECRET } from "../support/relay.ts";

describe("the relay's settings", () => {
  it("all have defaults outside production, where a secret is made", () => {
    const { options, ...program } = readRelayConfig({});
    expect(program).to.deep.equal({
      port: 5000,
      host: undefined,
      logLevel: "info",
      certificateFiles: undefined,
      revokedFile: undefined,
      secretIsNew: true,
    });
    expect(options.relaySecret).to.match(/^[0-9a-f]{64}$/);
    expect(options.relaySecret).to.not.equal(
      readRelayConfig({}).options.relaySecret,
    );
    expect({ ...options, relaySecret: "" }).to.deep.equal({
      relaySecret: "",
      revoked: [],
      baseDomain: undefined,
      publicUrl: undefined,
      parameter: "rendezvous",
      cookieNaming: true,
      trustProxy: 0,
      maxConnections: 20_000,
      maxConnectionsPerAddress: 5000,
      maxRequestsPerConnection: 10_000,
      maxHeadOctets: 65_536,
      maxHeadFields: 256,
      headSeconds: 30,
      bodySeconds: 30,
      minOctetsPerSecond: 100,
      ratePerAddress: 1000,
      ratePerServer: 5000,
      octetsPerSecondPerServer: 0,
      maxTunnels: 10_000,
      maxTunnelsPerServer: 128,
      maxTunnelsPerVisitor: 48,
      maxStreamsPerServer: 48,
      maxWaiting: 10_000,
      maxWaitingPerServer: 512,
      holdSeconds: 10,
      answerSeconds: 30,
      heartbeatSeconds: 20,
      genericPort: undefined,
      idleSeconds: 0,
      stallSeconds: 300,
      drainSeconds: 10,
    });
  });

  it("are read from variables", () => {
    const { options, port, host, logLevel, secretIsNew } = readRelayConfig({
      NODE_ENV: "production",
      RELAY_SECRET,
      REVOKED: "pi, other@2\nthird",
      BASE_DOMAIN: "Relay.Example.com",
      PUBLIC_URL: "https://relay.example.com",
      RENDEZVOUS_PARAMETER: "to",
      COOKIE_NAMING: "off",
      TRUST_PROXY: "2",
      MAX_TUNNELS: "7",
      HOLD_SECONDS: "0.5",
      PORT: "0",
      HOST: "127.0.0.1",
      LOG_LEVEL: "debug",
    });
    expect(options).to.deep.include({
      relaySecret: RELAY_SECRET,
      revoked: ["pi", "other@2", "third"],
      baseDomain: "relay.example.com",
      publicUrl: "https://relay.example.com",
      parameter: "to",
      cookieNaming: false,
      trustProxy: 2,
      maxTunnels: 7,
      holdSeconds: 0.5,
    });
    expect({ port, host, logLevel, secretIsNew }).to.deep.equal({
      port: 0,
      host: "127.0.0.1",
      logLevel: "debug",
      secretIsNew: false,
    });
  });

  it("that are empty count as left out", () => {
    const empty = Object.fromEntries(
      Object.values(SETTINGS).map(({ variable }) => [variable, ""]),
    );
    const { options, port } = readRelayConfig({
      ...empty,
      PORT: "",
      HOST: "",
      RELAY_SECRET,
    });
    expect(options).to.include({ maxTunnels: 10_000, trustProxy: 0 });
    expect(port).to.equal(5000);
  });

  it("trust one router on a platform that is known, unless they say otherwise", () => {
    expect(readRelayConfig({ DYNO: "web.1" }).options.trustProxy).to.equal(1);
    expect(
      readRelayConfig({ RENDER: "true", TRUST_PROXY: "0" }).options.trustProxy,
    ).to.equal(0);
    expect(readRelayConfig({ DYNO: "" }).options.trustProxy).to.equal(0);
  });

  it("name certificate and key together, or neither", () => {
    const cert = "/etc/relay/cert.pem";
    const key = "/etc/relay/key.pem";
    const { certificateFiles } = readRelayConfig({
      TLS_CERT: cert,
      TLS_KEY: key,
    });
    expect(certificateFiles).to.deep.equal({ cert, key });
    expect(
      problemsOf(() => readRelayConfig({ TLS_CERT: cert, TLS_KEY: "" })),
    ).to.deep.equal([
      "TLS_KEY must be set where TLS_CERT is: certificate and key are two files. Leave both out for plain HTTP.",
    ]);
  });

  it("wants two ports where there are two", () => {
    const ports = { PORT: "5000", GENERIC_PORT: "5000" };
    expect(problemsOf(() => readRelayConfig(ports))).to.deep.equal([
      "GENERIC_PORT must be another port than PORT. Leave it out for none.",
    ]);
  });

  it("that are wrong are told all at once, a sentence each, with the value and the cure", () => {
    const wrong: Record<string, string> = {
      RELAY_SECRET: "too short to be good",
      REVOKED: "p.i",
      BASE_DOMAIN: "https://x",
      PUBLIC_URL: "relay.example.com",
      RENDEZVOUS_PARAMETER: "a b",
      COOKIE_NAMING: "maybe",
      TRUST_PROXY: "all",
      MAX_CONNECTIONS: "-1",
      MAX_CONNECTIONS_PER_ADDRESS: "many",
      MAX_REQUESTS_PER_CONNECTION: "0.5",
      MAX_HEAD_OCTETS: "65537",
      MAX_HEAD_FIELDS: "15",
      HEAD_SECONDS: "0",
      BODY_SECONDS: "-1",
      MIN_OCTETS_PER_SECOND: "-1",
      RATE_PER_ADDRESS: "fast",
      RATE_PER_SERVER: "-1",
      OCTETS_PER_SECOND_PER_SERVER: "1e12",
      MAX_TUNNELS_PER_VISITOR: "-1",
      MAX_STREAMS_PER_SERVER: "x",
      MAX_TUNNELS: "x",
      MAX_TUNNELS_PER_SERVER: "0",
      MAX_WAITING: "-1",
      MAX_WAITING_PER_SERVER: "1.5",
      HOLD_SECONDS: "0",
      ANSWER_SECONDS: "soon",
      HEARTBEAT_SECONDS: "86401",
      GENERIC_PORT: "70000",
      IDLE_SECONDS: "-1",
      STALL_SECONDS: "-1",
      DRAIN_SECONDS: "Infinity",
      PORT: "65536",
      LOG_LEVEL: "loud",
    };
    const problems = problemsOf(() => readRelayConfig(wrong));
    expect(problems).to.have.length(Object.keys(wrong).length);
    for (const [variable, value] of Object.entries(wrong)) {
      const own = problems.filter((problem) =>
        problem.startsWith(`${variable} must be `),
      );
      expect(own, variable).to.have.length(1);
      expect(own[0], variable).to.match(/\. Leave it out for .+\.$/);
      if (variable !== "RELAY_SECRET")
        expect(own[0], variable).to.include(`got "${value}"`);
    }
    expect(problems).to.include(
      'MAX_TUNNELS must be a positive integer, got "x". Leave it out for 10000.',
    );
    for (const { variable } of Object.values(SETTINGS))
      expect(wrong, "every setting is tried here").to.have.property(variable);
  });

  it("do not let ids stand where grants do", () => {
    const [problem] = problemsOf(() =>
      readRelayConfig({ RENDEZVOUS_PARAMETER: "grant" }),
    );
    expect(problem).to.include("and not `grant`");
  });

  it("never show a secret, however bad it is", () => {
    const problems = problemsOf(() =>
      readRelayConfig({ RELAY_SECRET: "hunter2", NODE_ENV: "production" }),
    );
    expect(problems).to.have.length(1);
    expect(problems.join())
      .to.include("RELAY_SECRET must be a text of 32 characters or more")
      .and.not.include("hunter2");
  });

  it("need a secret in production, and say how to make one", () => {
    expect(
      problemsOf(() => readRelayConfig({ NODE_ENV: "production" })),
    ).to.deep.equal([
      "RELAY_SECRET must be set in production: a text of 32 characters or more, as `openssl rand -hex 32` makes one.",
    ]);
  });

  it("take the secret from a file, without its line end; the variable goes first", () => {
    const RELAY_SECRET_FILE = scratchFile(`${RELAY_SECRET}\n`);
    expect(readRelayConfig({ RELAY_SECRET_FILE }).options.relaySecret).to.equal(
      RELAY_SECRET,
    );
    const other = RELAY_SECRET.toUpperCase();
    expect(
      readRelayConfig({ RELAY_SECRET_FILE, RELAY_SECRET: other }).options
        .relaySecret,
    ).to.equal(other);
  });

  it("say which file cannot be read", () => {
    const problems = problemsOf(() =>
      readRelayConfig({ RELAY_SECRET_FILE: "/nowhere/secret" }),
    );
    expect(problems).to.deep.equal([
      "RELAY_SECRET_FILE is /nowhere/secret, which cannot be read: ENOENT: no such file or directory, open '/nowhere/secret'.",
    ]);
  });

  it("take REVOKED and its file together", () => {
    const REVOKED_FILE = scratchFile("pi\nPi@1, tau@2\n\n");
    expect(readRelayConfig({ REVOKED_FILE })).to.deep.include({
      revokedFile: REVOKED_FILE,
    });
    expect(
      readRelayConfig({ REVOKED: "rho", REVOKED_FILE }).options.revoked,
    ).to.deep.equal(["rho", "pi", "Pi@1", "tau@2"]);
    expect(
      readRelayConfig({ REVOKED_FILE: scratchFile("") }).options.revoked,
    ).to.deep.equal([]);
  });

  it("say what is wrong with the file of revocations", () => {
    expect(
      problemsOf(() => readRelayConfig({ REVOKED_FILE: "/nowhere/revoked" })),
    ).to.deep.equal([
      "REVOKED_FILE must be a file that the relay can read: ENOENT: no such file or directory, open '/nowhere/revoked'. Leave it out for none.",
    ]);
    const REVOKED_FILE = scratchFile("pi p.i tau");
    expect(problemsOf(() => readRelayConfig({ REVOKED_FILE }))).to.deep.equal([
      'REVOKED_FILE must name a file of ids like `pi`, or generations from 1 on like `pi@1`, separated by commas or lines, got "p.i". Mend or remove that entry.',
    ]);
  });

  it("say that generations begin at 1", () => {
    expect(
      problemsOf(() => readRelayConfig({ REVOKED: "pi@0" })),
    ).to.deep.equal([
      'REVOKED must be ids like `pi`, or generations from 1 on like `pi@1`, separated by commas or lines, got "pi@0". Leave it out for none.',
    ]);
  });

  it("are all explained in .env.example", () => {
    const example = readFileSync(join(PROJECT, ".env.example"), "utf8");
    const variables = Object.values(SETTINGS).map(({ variable }) => variable);
    for (const variable of [
      ...variables,
      "PORT",
      "HOST",
      "LOG_LEVEL",
      "RELAY_SECRET_FILE",
      "REVOKED_FILE",
    ])
      expect(example, variable).to.match(new RegExp(`^#? ?${variable}=`, "m"));
  });

  it("are checked as values too, where a program makes the relay", () => {
    expect(
      checkSettings({
        relaySecret: RELAY_SECRET,
        revoked: ["pi"],
        cookieNaming: false,
        maxTunnels: 5,
      }),
    ).to.deep.include({ revoked: ["pi"], cookieNaming: false, maxTunnels: 5 });
    expect(
      problemsOf(() =>
        checkSettings({
          relaySecret: RELAY_SECRET,
          revoked: ["p.i"],
          maxTunnels: 0.5,
        }),
      ),
    ).to.have.length(2);
  });
});
