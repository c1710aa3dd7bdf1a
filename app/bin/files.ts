// Files that the relay has read, and reads again on SIGHUP and when they change.
import { unwatchFile, watchFile, type Stats } from "node:fs";
import process from "node:process";
import type { Logger } from "pino";
import { SettingsError } from "../relay/options.ts";

/** Looked at by name: whoever renews a file moves a link or a new file into its place, and a watch on the old one would miss that. */
const LOOK_MILLISECONDS = 2 * 1000;
/** Files that belong together are written one after the other, and a long one in several pieces. */
const SETTLE_MILLISECONDS = 500;

/** What is read together, and what to do with it. */
export interface Reading {
  readonly files: readonly string[];
  /**
   * Reads the files, and uses them where they have changed.
   * @throws SettingsError when they cannot be used
   */
  load(): void;
  /** For the log: what then stays as it was. */
  readonly unusable: string;
}

/** Keeps up with the files. SIGHUP ends no relay, not even one without files. Returns how to stop looking. */
export function keepFiles(
  readings: readonly Reading[],
  log: Logger,
): () => void {
  const stops = readings.map((reading) => watch(reading, log));
  process.on("SIGHUP", () => {
    log.info("SIGHUP: the files are read again");
    for (const reading of readings) load(reading, log);
  });
  return () => {
    for (const stop of stops) stop();
  };
}

function watch(reading: Reading, log: Logger): () => void {
  let settling: NodeJS.Timeout | undefined;
  const look = (now: Stats, before: Stats): void => {
    // Reading a file changes its times too.
    if (now.mtimeMs === before.mtimeMs && now.ino === before.ino) return;
    clearTimeout(settling);
    settling = setTimeout(() => {
      load(reading, log);
    }, SETTLE_MILLISECONDS).unref();
  };
  for (const file of reading.files)
    watchFile(file, { interval: LOOK_MILLISECONDS, persistent: false }, look);
  return () => {
    clearTimeout(settling);
    for (const file of reading.files) unwatchFile(file, look);
  };
}

function load(reading: Reading, log: Logger): void {
  try {
    reading.load();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    log.error({ reason: error.message }, reading.unusable);
  }
}
