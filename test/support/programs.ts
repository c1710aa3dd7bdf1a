// Real programs as neighbours: found, started, waited for, and ended after the test.
import {
  spawn,
  spawnSync,
  type ChildProcessWithoutNullStreams,
} from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Context } from "mocha";
import { afterThisTest, duringThisTest } from "./cleanup.ts";

const PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
export const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/** Skips the test, with the reason in its title, where a program is missing. */
export function needs(context: Context, ...programs: string[]): void {
  const missing = programs.filter((program) => !isThere(program));
  if (missing.length === 0) return;
  if (context.test !== undefined)
    context.test.title += ` [skipped: ${missing.join(", ")} is not installed]`;
  context.skip();
}

export function isThere(program: string): boolean {
  return (
    spawnSync("sh", ["-c", `command -v ${program}`], { env: { PATH } })
      .status === 0
  );
}

export class Program {
  readonly child: ChildProcessWithoutNullStreams;
  /** Everything it has printed, both streams. */
  output = "";
  readonly exited: Promise<number | null>;
  #wake: () => void = () => undefined;

  constructor(
    command: string,
    args: readonly string[],
    options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
  ) {
    this.child = spawn(command, args, {
      ...options,
      env: { ...process.env, PATH, ...options.env },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
        this.#wake();
      });
    }
    this.exited = once(this.child, "close").then(([code]) => {
      this.#wake();
      return code as number | null;
    });
    afterThisTest(() => this.stop());
  }

  get pid(): number {
    const { pid, spawnfile } = this.child;
    if (pid === undefined) throw new Error(`${spawnfile} has no pid`);
    return pid;
  }

  /** Waits until the output has something; throws when the program ends without it. */
  async prints(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.output);
      if (match !== null) return match;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(
          `${this.child.spawnfile} ended without printing ${String(pattern)}:\n${this.output}`,
        );
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null)
      this.child.kill(signal);
    await this.exited;
  }
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string } = {},
): Promise<{ code: number | null; output: string }> {
  const program = new Program(command, args, options);
  program.child.stdin.on("error", () => undefined).end(options.input ?? "");
  const code = await program.exited;
  return { code, output: program.output };
}

/** The relay program as built, with the output to read from; PORT is a free one unless the environment says otherwise. */
export async function startRelayProgram(
  env: NodeJS.ProcessEnv = {},
): Promise<{ program: Program; port: number }> {
  const port = Number(env["PORT"] ?? (await freePort()));
  const program = new Program(
    process.execPath,
    [join(PROJECT, "dist/bin/relay.js")],
    {
      env: {
        HOST: "127.0.0.1",
        // Tests ask as fast as they can.
        RATE_PER_ADDRESS: "0",
        RATE_PER_SERVER: "0",
        ...env,
        PORT: String(port),
      },
    },
  );
  await program.prints(/"listening"/);
  return { program, port };
}

/** The `rendezvous` program as built. */
export function startRendezvous(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Program {
  return new Program(
    process.execPath,
    [join(PROJECT, "dist/bin/rendezvous.js"), ...args],
    { env },
  );
}

/** Below those that the system gives to connections (32768 and up on Linux), which could take one before its program does. */
const FIRST_PORT = 12_000;
const PORTS = 20_000;
/** Programs of tests that run at once begin far from each other. */
let last = (process.pid * 1009) % PORTS;

export async function freePort(): Promise<number> {
  for (;;) {
    last = (last + 1) % PORTS;
    const candidate = FIRST_PORT + last;
    if (await isFree(candidate)) return candidate;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on("error", () => {
      resolve(false);
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/** Waits until somebody listens on a port of 127.0.0.1. */
export async function listening(port: number): Promise<void> {
  const check = duringThisTest();
  for (;;) {
    check();
    const socket = connect({ port, host: "127.0.0.1" });
    const there = await new Promise<boolean>((resolve) => {
      socket.on("connect", () => {
        resolve(true);
      });
      socket.on("error", () => {
        resolve(false);
      });
    });
    socket.destroy();
    if (there) return;
    // A program that begins to listen tells nobody; mocha's timeout is the deadline.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A directory for this test only. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "rendezvous-"));
  afterThisTest(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** A file that says this, for this test only. */
export function scratchFile(text: string): string {
  const path = join(scratch(), "text");
  writeFileSync(path, text);
  return path;
}
