// How many files the system lets this process open: each connection is one.
import { readFileSync } from "node:fs";

/** Files that are no connections: what is read and written, what Node needs, and those who are being told that there is no room. */
const OTHER_FILES = 128;

/** As many of these connections as there can be files, so that whoever comes too late is told so; 0 is no limit, and stays it. */
export function withinFiles(maxConnections: number): number {
  const fitting = Math.max(1, (openFiles() ?? Infinity) - OTHER_FILES);
  return Math.min(fitting, maxConnections);
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
