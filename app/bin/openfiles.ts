// How many files the system lets this process open: each connection is one.
import { readFileSync } from "node:fs";
import type { Logger } from "pino";

/** Files that are no connections: what is read and written, what Node needs, and those who are being told that there is no room. */
const OTHER_FILES = 128;

/** As many of these connections as there can be files, so that whoever comes too late is told so; 0 is no limit, and stays it. */
export function withinFiles(maxConnections: number, log: Logger): number {
  const files = openFiles();
  const fitting = Math.max(1, (files ?? Infinity) - OTHER_FILES);
  if (fitting >= maxConnections) return maxConnections;
  log.warn(
    { files, connections: fitting },
    "the system allows fewer open files than MAX_CONNECTIONS needs: raise `ulimit -n`, or lower MAX_CONNECTIONS",
  );
  return fitting;
}

/** Undefined where the system does not say (proc(5)). */
function openFiles(): number | undefined {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const files = /^Max open files +(\d+)/m.exec(limits)?.[1];
    return files === undefined ? undefined : Number(files);
  } catch {
    return undefined;
  }
}
