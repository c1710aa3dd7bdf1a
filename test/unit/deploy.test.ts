// The files that platforms read: they name what exists, and start what is built.
import { expect } from "chai";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import request from "supertest";
import { readRelayConfig } from "../../app/config.ts";
import { SETTINGS } from "../../app/relay/options.ts";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  startHello,
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
import { RELAY_SECRET, startRelay } from "../support/relay.ts";
import { selfSign } from "../support/tcp.ts";

const read = (name: string): string =>
  readFileSync(join(PROJECT, name), "utf8");

/** The relay's, and the program's. */
const variables: readonly string[] = [
  ...Object.values(SETTINGS).map(({ variable }) => variable),
  ...[...read(".env.example").matchAll(/^# ([A-Z_]+)=/gm)].map(
    ([, name = ""]) => name,
  ),
];

/** What stands behind `key: ` or `key = ` in a file, quotes taken away. */
function valuesOf(file: string, key: string): string[] {
  const line = new RegExp(`^[\\s-]*${key}(?:: | = )(.+)$`, "gm");
  return [...read(file).matchAll(line)].map(([, value = ""]) =>
    value.replace(/^"(.*)"$/, "$1"),
  );
}

const start = "node dist/bin/relay.js";
const dockerCommands = [...read("Dockerfile").matchAll(/CMD (\[.+\])$/gm)].map(
  ([, words = ""]) => JSON.parse(words) as string[],
);

const isFlag = (word: string): boolean => word.startsWith("--");
/** What this Node calls a flag of the image's, which may be newer. */
const PERMISSION = process.allowedNodeEnvironmentFlags.has("--permission")
  ? ["--permission"]
  : ["--experimental-permission", "--disable-warning=ExperimentalWarning"];

/** The arguments of a command of the image, for files that are here instead of there. */
function argumentsHere(
  [, ...words]: readonly string[],
  places: Readonly<Record<string, string>> = {},
): string[] {
  return words.flatMap((word) => {
    if (word === "--permission") return PERMISSION;
    const [flag = "", path] = word.split("=");
    if (path === undefined) return join(PROJECT, word);
    return `${flag}=${{ "/relay": PROJECT, ...places }[path] ?? path}`;
  });
}

interface App {
  readonly name: string;
  readonly env: Readonly<Record<string, unknown>>;
  readonly formation: { readonly web: { readonly quantity: number } };
  readonly healthchecks: {
    readonly web: readonly { readonly path: string }[];
  };
}

describe("the files for platforms", () => {
  const app = JSON.parse(read("app.json")) as App;

  it("name only settings that exist", () => {
    const named = [
      ...Object.keys(app.env),
      ...valuesOf("render.yaml", "key"),
      ...[...read("Dockerfile").matchAll(/^ENV (\w+)=/gm)].map(
        ([, name = ""]) => name,
      ),
      ...[...read("fly.toml").matchAll(/^ +([A-Z_]+) = /gm)].map(
        ([, name = ""]) => name,
      ),
    ];
    expect(named).to.include.members(["RELAY_SECRET", "NODE_ENV", "PORT"]);
    expect(variables).to.include.members(named);
  });

  it("start the program that npm start starts, in one instance", () => {
    const { scripts } = JSON.parse(read("package.json")) as {
      scripts: Readonly<Record<string, string>>;
    };
    expect(scripts["start"]).to.equal(start);
    expect(read("Procfile")).to.equal(`web: ${start}\n`);
    expect(valuesOf("render.yaml", "startCommand")).to.deep.equal([start]);
    const words = dockerCommands.at(-1) ?? [];
    expect(words.filter((word) => !isFlag(word)).join(" ")).to.equal(start);
    expect(app.formation.web.quantity).to.equal(1);
    expect(valuesOf("render.yaml", "numInstances")).to.deep.equal(["1"]);
    expect(valuesOf("fly.toml", "auto_stop_machines")).to.deep.equal(["off"]);
  });

  it("build with what package.json has", () => {
    const { scripts } = JSON.parse(read("package.json")) as {
      scripts: Readonly<Record<string, string>>;
    };
    const built = `${valuesOf("render.yaml", "buildCommand").join()}\n${read("Dockerfile")}`;
    const steps = [...built.matchAll(/npm run (\w+)/g)].map(
      ([, name = ""]) => name,
    );
    expect(steps).to.have.length(2);
    for (const step of steps) expect(scripts).to.have.property(step);
  });

  it("let Fly.io pass CONNECT, and believe no visitor there", () => {
    const fly = read("fly.toml");
    expect(fly).to.match(
      /port = 443\s+handlers = \["tls"\]\s+tls_options = \{ alpn = \["http\/1\.1"\] \}/,
    );
    const [port] = valuesOf("fly.toml", "PORT");
    expect(valuesOf("fly.toml", "internal_port")).to.deep.equal([port]);
    const { options } = readRelayConfig({
      RELAY_SECRET,
      FLY_MACHINE_ID: "1",
      TRUST_PROXY: valuesOf("fly.toml", "TRUST_PROXY")[0],
    });
    expect(options.trustProxy).to.equal(0);
  });

  it("leave the relay time to drain", () => {
    const { drainSeconds } = readRelayConfig({}).options;
    for (const [file, key] of [
      ["fly.toml", "kill_timeout"],
      ["render.yaml", "maxShutdownDelaySeconds"],
    ] as const)
      expect(parseInt(valuesOf(file, key)[0] ?? "")).to.be.above(drainSeconds);
  });

  it("ask for a health page that a relay has", async () => {
    const paths = new Set([
      ...app.healthchecks.web.map(({ path }) => path),
      ...valuesOf("render.yaml", "healthCheckPath"),
      ...valuesOf("fly.toml", "path"),
    ]);
    const relay = await startRelay();
    for (const path of paths) await request(relay.url).get(path).expect(200);
    expect(paths.size).to.equal(1);
  });

  it("fit into what Heroku takes", () => {
    expect(app.name).to.have.length.within(1, 30);
  });
});

describe("the image", () => {
  it("is made of files that exist, runs without root, and starts what is built", () => {
    const dockerfile = read("Dockerfile");
    const lets = [...read(".dockerignore").matchAll(/^!(.+)$/gm)].map(
      ([, name = ""]) => name,
    );
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)]
      .flatMap(([, names = ""]) => names.split(" "))
      .sort();
    expect(copied).to.deep.equal(lets.sort());
    for (const name of copied)
      expect(existsSync(join(PROJECT, name)), name).to.be.true;
    expect(dockerfile).to.match(/^USER node$/m);
    for (const words of dockerCommands) {
      const [program, file = ""] = words.filter((word) => !isFlag(word));
      expect(program).to.equal("node");
      expect(existsSync(join(PROJECT, file)), file).to.be.true;
    }
  });

  it("is as old a Node as package.json asks for, or newer", () => {
    const { engines } = JSON.parse(read("package.json")) as {
      engines: { node: string };
    };
    const least = Number(/^>=(\d+)/.exec(engines.node)?.[1]);
    for (const [, major] of read("Dockerfile").matchAll(/^FROM node:(\d+)/gm))
      expect(Number(major)).to.be.at.least(least);
  });

  const [health = []] = dockerCommands;
  const check = (
    env: NodeJS.ProcessEnv,
  ): Promise<{ code: number | null; output: string }> =>
    run(process.execPath, argumentsHere(health), {
      cwd: PROJECT,
      env: { NODE_ENV: "production", RELAY_SECRET, TLS_CERT: "", ...env },
    });

  const relayWords = dockerCommands.at(-1) ?? [];

  it("lets Node read its own files and mounted ones, and do nothing else", async () => {
    const mounts = { "/run/secrets": scratch(), "/etc/letsencrypt": scratch() };
    const asked = [
      ["fs.read", join(PROJECT, "dist/bin/relay.js")],
      ["fs.read", join(mounts["/run/secrets"], "relay-secret")],
      ["fs.read", join(mounts["/etc/letsencrypt"], "live/x/privkey.pem")],
      ["fs.read", "/etc/passwd"],
      ["fs.read", "/proc/self/environ"],
      ["fs.write", PROJECT],
      ["fs.write", join(mounts["/run/secrets"], "relay-secret")],
      ["child"],
      ["worker"],
    ];
    for (const words of dockerCommands) {
      const flags = argumentsHere(words, mounts).filter(isFlag);
      const { output } = await run(process.execPath, [
        ...flags,
        "--print",
        `JSON.stringify(${JSON.stringify(asked)}.map((may) => process.permission.has(...may)))`,
      ]);
      expect(JSON.parse(output)).to.deep.equal(
        asked.map((_, i) => i < 3),
        words.join(" "),
      );
    }
  });

  it("serves so, with a certificate, a secret and revocations from files, and keeps up with them", async function () {
    needs(this, "openssl", "curl");
    const [secrets, certificates] = [scratch(), scratch()];
    const place = (name: string, text: string): string => {
      const file = join(secrets, name);
      writeFileSync(file, text);
      return file;
    };
    const made = await selfSign("localhost");
    const [TLS_CERT, TLS_KEY] = [
      join(certificates, "cert.pem"),
      join(certificates, "key.pem"),
    ];
    copyFileSync(made.cert, TLS_CERT);
    copyFileSync(made.key, TLS_KEY);
    const env = {
      ...{ NODE_ENV: "production", HOST: "127.0.0.1", RELAY_SECRET: "" },
      ...{ TLS_CERT, TLS_KEY, PORT: String(await freePort()) },
      RELAY_SECRET_FILE: place("relay-secret", RELAY_SECRET),
      REVOKED_FILE: place("revoked", "tau"),
    };
    const mounts = {
      "/run/secrets": secrets,
      "/etc/letsencrypt": certificates,
    };
    const cwd = PROJECT;
    const relay = new Program(
      process.execPath,
      argumentsHere(relayWords, mounts),
      { cwd, env },
    );
    await relay.prints(/"listening"/);
    const { url } = issueFor("pi", Number(env.PORT), {
      scheme: "https",
      host: "localhost",
    });
    const hello = String(await startHello());
    const agent = startRendezvous(
      ["park", url, hello, "--ca", TLS_CERT],
      NO_PROXIES,
    );
    const [, visit = ""] = await agent.prints(/ is up: (\S+)/);
    expect((await curl("--cacert", TLS_CERT, visit)).body).to.equal("hello\n");
    const { code, output } = await run(
      process.execPath,
      argumentsHere(health, mounts),
      { cwd, env },
    );
    expect(code, output).to.equal(0);
    place("revoked", "pi");
    await relay.prints(/"the list of revocations has changed"/);
    await agent.prints(/revoked/);
    await relay.stop("SIGTERM");
    expectNoCrash(relay);
  });

  it("is healthy while its relay serves", async () => {
    const { port } = await startRelayProgram({ RELAY_SECRET });
    const { code, output } = await check({ PORT: String(port) });
    expect(code, output).to.equal(0);
    expect(output).to.equal("");
  });

  it("is healthy with a certificate of its own", async function () {
    needs(this, "openssl");
    const { cert, key } = await selfSign("relay.example.com");
    const tls = { TLS_CERT: cert, TLS_KEY: key };
    const { port } = await startRelayProgram({ RELAY_SECRET, ...tls });
    const { code, output } = await check({ PORT: String(port), ...tls });
    expect(code, output).to.equal(0);
  });

  it("is not healthy without a relay, and says why", async () => {
    const port = String(await freePort());
    const { code, output } = await check({ PORT: port, HOST: "127.0.0.1" });
    expect(code).to.equal(1);
    expect(output).to.equal(
      `The relay on port ${port} does not serve: connect ECONNREFUSED 127.0.0.1:${port}.\n`,
    );
  });
});
