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
/** All the load comes from one address, for one server. */
const NO_LIMITS = {
  MAX_CONNECTIONS_PER_ADDRESS: "0",
  MAX_TUNNELS_PER_VISITOR: "0",
  MAX_STREAMS_PER_SERVER: "0",
  RATE_PER_ADDRESS: "0",
  RATE_PER_SERVER: "0",
} as const;
const BUILD_SECONDS = 120;
const START_SECONDS = 20;

/** In HTTP: keep-alive on both sides, and connections to the server shared by all visitors, as the relay's tunnels are. */
const SHARING = {
  http: ["option http-keep-alive", "http-reuse always"],
  tcp: [],
} as const;

const HIDDEN = fileURLToPath(new URL("hidden.ts", import.meta.url));

/** What stands between wrk and the hidden server. */
export interface Proxy {
  readonly name: "haproxy" | "relay";
  readonly pid: number;
  readonly url: (size: Size) => string;
}

/** Makes the relay that is to be measured: the product as it is built. */
export async function build(): Promise<void> {
  const built = await within(
    BUILD_SECONDS,
    "the build",
    run("npm", ["run", "build"], { cwd: PROJECT }),
  );
  if (built.code !== 0) throw new Error(`The build failed:\n${built.output}`);
}

/** Starts everybody; cleanup.ts ends them. */
export async function setStage(): Promise<readonly Proxy[]> {
  const relay = await startRelay();
  const hidden = startNode(HIDDEN, [relay.url(ID)]);
  const parked = hidden.prints(/listening on (\d+)\n[^]*parked/);
  const [, hiddenPort = ""] = await up(hidden, "the hidden server", parked);
  const haproxy = await startHaproxy("http", hiddenPort);
  return [
    {
      name: "haproxy",
      pid: haproxy.pid,
      url: ({ name }) => `http://127.0.0.1:${haproxy.port}/${name}`,
    },
    {
      name: "relay",
      pid: relay.pid,
      url: ({ name }) =>
        `http://127.0.0.1:${relay.port}/${name}?rendezvous=${ID}`,
    },
  ];
}

/** Who can be measured: by the port that it listens on. */
export interface Listening {
  readonly pid: number;
  readonly port: number;
}

export interface MeasuredRelay extends Listening {
  readonly program: Program;
  /** An id and its secret, to park with. */
  readonly url: (id: string) => string;
}

export async function startRelay(
  env: NodeJS.ProcessEnv = {},
): Promise<MeasuredRelay> {
  const port = await freePort();
  const relaySecret = randomBytes(32).toString("hex");
  const program = start(
    PROXY_CORE,
    process.execPath,
    [join(PROJECT, "dist/bin/relay.js")],
    {
      // Not the project, for it may have an .env.
      cwd: scratch(),
      env: {
        NODE_ENV: "production",
        RELAY_SECRET: relaySecret,
        HOST: "127.0.0.1",
        PORT: String(port),
        LOG_LEVEL: "warn",
        ...NO_LIMITS,
        ...env,
      },
    },
  );
  await up(program, "the relay", listening(port));
  const options = {
    ...checkSettings({ relaySecret }),
    relay: new URL(`http://127.0.0.1:${port}`),
  };
  const url = (id: string): string => issue(id, options).url;
  return { program, pid: program.pid, port, url };
}

/** Starts haproxy in front of a server. */
export async function startHaproxy(
  mode: keyof typeof SHARING,
  serverPort: string,
): Promise<Listening> {
  const port = await freePort();
  const file = join(scratch(), "haproxy.cfg");
  writeFileSync(file, configuration(mode, port, serverPort));
  const haproxy = start(PROXY_CORE, "haproxy", ["-db", "-f", file]);
  await up(haproxy, "haproxy", listening(port));
  return { pid: haproxy.pid, port };
}

/** Starts one of our own programs on the other core. */
export function startNode(script: string, args: readonly string[]): Program {
  // The flags of this process have tsx in them.
  const flags = [...process.execArgv, script, ...args];
  return start(LOAD_CORE, process.execPath, flags);
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
export async function up<T>(
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

/** One thread, as the relay has. */
function configuration(
  mode: keyof typeof SHARING,
  port: number,
  serverPort: string,
): string {
  return `global
  nbthread 1
  maxconn 4096
defaults
  mode ${mode}
  ${SHARING[mode].join("\n  ")}
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
