// What a program of ours holds when its garbage is collected, as report.cjs tells it.
import { join } from "node:path";
import process from "node:process";
import { PROJECT, type Program } from "./programs.ts";

/** Settings with which a program tells. */
export const REPORTING = {
  NODE_OPTIONS: `--expose-gc --require "${join(PROJECT, "test/support/report.cjs")}"`,
} as const;

/** In octets; handles by their kind. */
export interface Report {
  readonly rss: number;
  readonly heapUsed: number;
  /** Buffers, which are not in the heap. */
  readonly arrayBuffers: number;
  readonly handles: Readonly<Record<string, number>>;
}

/** Asks a program that was started with REPORTING for the first, second, ... time. */
export async function reportOf(
  program: Program,
  number: number,
): Promise<Report> {
  process.kill(program.pid, "SIGUSR2");
  const [, text = ""] = await program.prints(
    new RegExp(`^(\\{"report":${number},.+)$`, "m"),
  );
  return JSON.parse(text) as Report;
}
