// The files that platforms read: they name what exists, and start what is built.
import { expect } from "chai";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import request from "supertest";
import { readRelayConfig } from "../../app/config.ts";
import { SETTINGS } from "../../app/relay/options.ts";
import {
  PROJECT,
  freePort,
  needs,
  run,
  startRelayProgram,
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
    expect(dockerCommands.at(-1)?.join(" ")).to.equal(start);
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
    for (const [program, file = ""] of dockerCommands) {
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
    run(process.execPath, health.slice(1), {
      cwd: PROJECT,
      env: { NODE_ENV: "production", RELAY_SECRET, TLS_CERT: "", ...env },
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
