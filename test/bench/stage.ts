// Who takes part: relay and haproxy on one core, the hidden server and the load on the other.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { issue } from "../../app/issue.ts";
import { checkSettings } from "../../app/relay/options.ts";
import {
  PROJECT,
  Program,
  freePort,
  listening,
  run,
  scratch,
} from "../support/programs.ts";
import type { Size } from "./sizes.ts";

const PROXY_CORE = 0;
export const LOAD_CORE = 1;

const ID = "bench";
const BUILD_SECONDS = 120;
const START_SECONDS = 20;

const HIDDEN = fileURLToPath(new URL("hidden.ts", import.meta.url));

/** What stands between wrk and the hidden server. */
export interface Proxy {
  readonly name: "haproxy" | "relay";
  readonly pid: number;
  readonly url: (size: Size) => string;
}

/** Starts everybody; cleanup.ts ends them. The relay is the product as it is built. */
export async function setStage(): Promise<readonly Proxy[]> {
  const built = await within(
    BUILD_SECONDS,
    "the build",
    run("npm", ["run", "build"], { cwd: PROJECT }),
  );
  if (built.code !== 0) throw new Error(`The build failed:\n${built.output}`);
  const directory = scratch();
  const [relayPort, haproxyPort] = [await freePort(), await freePort()];
  const relaySecret = randomBytes(32).toString("hex");

  const relay = start(
    PROXY_CORE,
    process.execPath,
    [join(PROJECT, "dist/bin/relay.js")],
    {
      // Not the project, for it may have an .env.
      cwd: directory,
      env: {
        NODE_ENV: "production",
        RELAY_SECRET: relaySecret,
        HOST: "127.0.0.1",
        PORT: String(relayPort),
        LOG_LEVEL: "warn",
      },
    },
  );
  await up(relay, "the relay", listening(relayPort));

  const { url } = issue(ID, {
    ...checkSettings({ relaySecret }),
    relay: new URL(`http://127.0.0.1:${relayPort}`),
  });
  // The flags of this process have tsx in them.
  const hidden = start(LOAD_CORE, process.execPath, [
    ...process.execArgv,
    HIDDEN,
    url,
  ]);
  const parked = hidden.prints(/listening on (\d+)\n[^]*parked/);
  const [, hiddenPort = ""] = await up(hidden, "the hidden server", parked);

  const configuration = join(directory, "haproxy.cfg");
  writeFileSync(configuration, haproxyConfiguration(haproxyPort, hiddenPort));
  const haproxy = start(PROXY_CORE, "haproxy", ["-db", "-f", configuration]);
  await up(haproxy, "haproxy", listening(haproxyPort));

  return [
    {
      name: "haproxy",
      pid: pidOf(haproxy),
      url: ({ name }) => `http://127.0.0.1:${haproxyPort}/${name}`,
    },
    {
      name: "relay",
      pid: pidOf(relay),
      url: ({ name }) =>
        `http://127.0.0.1:${relayPort}/${name}?rendezvous=${ID}`,
    },
  ];
}

/** A command line that keeps a program to one core. taskset becomes the program, so that its pid is the program's. */
export function onCore(
  core: number,
  command: string,
  args: readonly string[],
): [command: string, args: string[]] {
  return ["taskset", ["-c", String(core), command, ...args]];
}

/**
 * Waits for a promise, not for ever.
 * @throws Error when it takes longer
 */
export async function within<T>(
  seconds: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what} took longer than ${seconds} s`));
    }, seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function start(
  core: number,
  command: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Program {
  return new Program(...onCore(core, command, args), options);
}

/** Waits until a program is ready, unless it ends or takes too long; then what it said is the reason. */
async function up<T>(
  program: Program,
  name: string,
  ready: Promise<T>,
): Promise<T> {
  const ended = program.exited.then(() => {
    throw new Error("it ended");
  });
  try {
    return await within(
      START_SECONDS,
      "its start",
      Promise.race([ready, ended]),
    );
  } catch (cause) {
    throw new Error(`${name} did not start:\n${program.output}`, { cause });
  } finally {
    // It ends when all is over, and then nobody waits for this any more.
    ended.catch(() => undefined);
  }
}

function pidOf({ child }: Program): number {
  if (child.pid === undefined) throw new Error(`${child.spawnfile} has no pid`);
  return child.pid;
}

/** HTTP keep-alive on both sides, one thread, and connections to the server shared by all visitors, as the relay's tunnels are. */
function haproxyConfiguration(port: number, serverPort: string): string {
  return `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend visitors
  bind 127.0.0.1:${port}
  default_backend hidden
backend hidden
  server hidden 127.0.0.1:${serverPort}
`;
}
