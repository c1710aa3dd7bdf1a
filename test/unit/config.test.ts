// Settings: read in one place, and everything wrong about them said at once.
import { expect } from "chai";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readCommand, readRelayConfig } from "../../app/config.ts";
import {
  SETTINGS,
  SettingsError,
  checkSettings,
} from "../../app/relay/options.ts";
import { PROJECT, scratch } from "../support/programs.ts";
import { RELAY_SECRET } from "../support/relay.ts";

/** The sentences of a refusal. */
function problemsOf(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split("\n");
    throw error;
  }
  throw new Error("nothing was wrong");
}

function file(text: string): string {
  const path = join(scratch(), "secret");
  writeFileSync(path, text);
  return path;
}

describe("the relay's settings", () => {
  it("all have defaults outside production, where a secret is made", () => {
    const { options, port, host, logLevel, secretIsNew } = readRelayConfig({});
    expect({ port, host, logLevel, secretIsNew }).to.deep.equal({
      port: 5000,
      host: undefined,
      logLevel: "info",
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
      maxTunnels: 10_000,
      maxTunnelsPerServer: 128,
      maxWaiting: 10_000,
      maxWaitingPerServer: 256,
      holdSeconds: 10,
      answerSeconds: 30,
      heartbeatSeconds: 25,
      genericPort: undefined,
      idleSeconds: 0,
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

  it("that are wrong are told all at once, a sentence each, with the value and the cure", () => {
    const wrong: Record<string, string> = {
      RELAY_SECRET: "too short to be good",
      REVOKED: "p.i",
      BASE_DOMAIN: "https://x",
      PUBLIC_URL: "relay.example.com",
      RENDEZVOUS_PARAMETER: "a b",
      COOKIE_NAMING: "maybe",
      TRUST_PROXY: "all",
      MAX_TUNNELS: "x",
      MAX_TUNNELS_PER_SERVER: "0",
      MAX_WAITING: "-1",
      MAX_WAITING_PER_SERVER: "1.5",
      HOLD_SECONDS: "0",
      ANSWER_SECONDS: "soon",
      HEARTBEAT_SECONDS: "86401",
      GENERIC_PORT: "70000",
      IDLE_SECONDS: "-1",
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
    const RELAY_SECRET_FILE = file(`${RELAY_SECRET}\n`);
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
    expect(problems.join("\n"))
      .to.include("/nowhere/secret")
      .and.include("cannot be read");
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

describe("the command line", () => {
  const URL_WITH_SECRET = "https://pi:SECRET@relay.example.com";

  it("asks for help, or for the version", () => {
    for (const argv of [[], ["help"], ["--help"], ["-h"]])
      expect(readCommand(argv, {})).to.deep.equal({
        command: "help",
        topic: undefined,
      });
    expect(readCommand(["help", "park"], {})).to.deep.equal({
      command: "help",
      topic: "park",
    });
    expect(readCommand(["issue", "--help"], {})).to.deep.equal({
      command: "help",
      topic: "issue",
    });
    expect(readCommand(["--version"], {})).to.deep.equal({
      command: "version",
    });
  });

  it("issues an id with the relay's secret from the environment", () => {
    const command = readCommand(["issue", "pi", "--json"], {
      RELAY_SECRET,
      PORT: "6000",
    });
    expect(command).to.deep.include({ command: "issue", id: "pi", json: true });
    expect(command)
      .to.have.property("relay")
      .that.deep.equals(new URL("http://localhost:6000"));
    expect(
      readCommand(["issue", "pi", "--relay", "https://x"], { RELAY_SECRET }),
    )
      .to.have.property("relay")
      .that.deep.equals(new URL("https://x"));
    expect(
      readCommand(["issue", "pi"], { RELAY_SECRET, PUBLIC_URL: "https://y" }),
    )
      .to.have.property("relay")
      .that.deep.equals(new URL("https://y"));
  });

  it("says everything that is wrong about an issue at once", () => {
    const problems = problemsOf(() =>
      readCommand(["issue", "--relay", "x"], { PORT: "x", MAX_TUNNELS: "x" }),
    );
    for (const word of [
      "Name one id",
      "RELAY_SECRET must be set",
      "MAX_TUNNELS must be",
      "PORT must be",
      "--relay must be a URL",
    ])
      expect(
        problems.filter((problem) => problem.startsWith(word)),
        word,
      ).to.have.length(1);
  });

  const services = [
    ["8080", "localhost", 8080],
    ["db.lan:81", "db.lan", 81],
    ["http://db.lan:81", "db.lan", 81],
    ["http://db.lan/", "db.lan", 80],
    ["[::1]:81", "::1", 81],
  ] as const;
  for (const [text, host, port] of services) {
    it(`parks the service ${text}`, () => {
      expect(readCommand(["park", URL_WITH_SECRET, text], {})).to.deep.include({
        command: "park",
        id: "pi",
        secret: "SECRET",
        service: { host, port },
        spare: 4,
        max: 64,
        verbose: false,
      });
    });
  }

  it("parks with everything set", () => {
    const ca = file("PEM\n");
    expect(
      readCommand(
        [
          "park",
          "--spare",
          "2",
          "--max=8",
          "--verbose",
          "--ca",
          ca,
          URL_WITH_SECRET,
          "80",
        ],
        {},
      ),
    ).to.deep.include({ spare: 2, max: 8, verbose: true, ca: "PEM" });
  });

  it("takes URL and secret from the environment or a file", () => {
    expect(
      readCommand(["park", "80"], { RENDEZVOUS_URL: URL_WITH_SECRET }),
    ).to.deep.include({ id: "pi", secret: "SECRET" });
    const secretFile = file("OTHER\n");
    expect(
      readCommand(
        [
          "park",
          "https://pi@relay.example.com",
          "80",
          "--secret-file",
          secretFile,
        ],
        {},
      ),
    ).to.include({ secret: "OTHER" });
    expect(
      readCommand(["park", "https://pi@relay.example.com", "80"], {
        RENDEZVOUS_SECRET_FILE: secretFile,
      }),
    ).to.include({ secret: "OTHER" });
  });

  it("says everything that is wrong about parking at once, and never the secret", () => {
    const problems = problemsOf(() =>
      readCommand(
        [
          "park",
          "ftp://pi:HUNTER2@x",
          "ssh",
          "--spare",
          "0",
          "--max",
          "x",
          "--ca",
          "/nowhere/ca",
        ],
        {},
      ),
    );
    for (const word of [
      "The relay must be a URL",
      "The service must be a port",
      "--spare must be",
      "--max must be",
      "/nowhere/ca cannot be read",
    ])
      expect(
        problems.filter((problem) => problem.startsWith(word)),
        word,
      ).to.have.length(1);
    expect(problems.join()).to.not.include("HUNTER2");
    const mistakes = [
      ["park", "pi:HUNTER2@x", "80"],
      ["park", "80", "https://pi:HUNTER2@x"],
      ["https://pi:HUNTER2@x", "80"],
    ];
    for (const argv of mistakes)
      expect(problemsOf(() => readCommand(argv, {})).join()).to.not.include(
        "HUNTER2",
      );
  });

  it("offers TCP services by their ports", () => {
    const offers = ["22", "5432=db.lan:5433", "80=[::1]:8080", "443=8443"];
    const argv = offers.flatMap((offer) => ["--tcp", offer]);
    expect(readCommand(["park", URL_WITH_SECRET, ...argv], {}))
      .to.have.property("tcp")
      .that.deep.equals(
        new Map([
          [22, { host: "localhost", port: 22 }],
          [5432, { host: "db.lan", port: 5433 }],
          [80, { host: "::1", port: 8080 }],
          [443, { host: "localhost", port: 8443 }],
        ]),
      );
  });

  for (const offer of [
    ...["ssh", "0", "65536", "022", "22=", "22=x", "=22", "22=22=22"],
    ...["22=http://x:1", "http://x:22", "22=x:1/", "22=x:0", "22=x:01"],
  ]) {
    it(`says of --tcp ${offer} only that it is wrong`, () => {
      expect(
        problemsOf(() =>
          readCommand(["park", URL_WITH_SECRET, "--tcp", offer], {}),
        ),
      ).to.deep.equal([
        `--tcp must be a port like 22, or like 5432=db.lan:5432, got "${offer}".`,
      ]);
    });
  }

  it("says that --tcp names a port twice, and shows no secret that stands there by mistake", () => {
    const park = (...offers: string[]): string[] =>
      problemsOf(() =>
        readCommand(
          [
            ...["park", URL_WITH_SECRET],
            ...offers.flatMap((offer) => ["--tcp", offer]),
          ],
          {},
        ),
      );
    expect(park("22", "22=x:1")).to.deep.equal([
      "--tcp names port 22 twice. Name it once.",
    ]);
    expect(park("https://pi:HUNTER2@x").join()).to.not.include("HUNTER2");
  });

  it("listens where it is told", () => {
    const dial = ["dial", "https://x", "pi", "22", "--listen"];
    expect(readCommand([...dial, "5000"], {})).to.deep.include({
      listen: { host: "localhost", port: 5000 },
    });
    expect(readCommand([...dial, "[::1]:5000"], {})).to.deep.include({
      listen: { host: "::1", port: 5000 },
    });
    for (const place of ["x", "0", "http://localhost:5000", "05000"])
      expect(problemsOf(() => readCommand([...dial, place], {}))).to.deep.equal(
        [`--listen must be a port or host:port, got "${place}".`],
      );
  });

  it("says what is missing", () => {
    expect(problemsOf(() => readCommand(["park"], {})).join()).to.include(
      "Name the relay and the service",
    );
    expect(
      problemsOf(() => readCommand(["park", "https://x", "80"], {})).join(),
    ).to.include("must have the id before its host");
    expect(
      problemsOf(() => readCommand(["park", "https://pi@x", "80"], {})).join(),
    ).to.include("The secret is missing");
    expect(problemsOf(() => readCommand(["prak"], {})).join()).to.include(
      'no command "prak"',
    );
    expect(
      problemsOf(() => readCommand(["park", "--spear", "1"], {})).join(),
    ).to.include("--spear");
  });
});
