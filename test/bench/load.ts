// One measurement: wrk loads a proxy for some seconds, while the kernel counts the proxy's CPU time.
import { fileURLToPath } from "node:url";
import { run } from "../support/programs.ts";
import { cpuSecondsOf } from "../support/usage.ts";
import { LOAD_CORE, onCore, within, type Proxy } from "./stage.ts";
import type { Size } from "./sizes.ts";

/** Longer than any answer should take, so that a slow one is not taken for a lost one. */
const TIMEOUT_SECONDS = 10;
/** What wrk needs beside its run. */
const GRACE_SECONDS = 20;

const SUMMARY = fileURLToPath(new URL("summary.lua", import.meta.url));

export interface Measurement {
  readonly requestsPerSecond: number;
  /** Octets that wrk read, heads included, in millions a second. */
  readonly megabytesPerSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** The share of a core that the proxy used; below 1 something else was the limit. */
  readonly busy: number;
  /** Microseconds of CPU of the proxy. */
  readonly cpuPerRequest: number;
}

/** The line that summary.lua prints; every member from `connect` on counts failures. */
interface Summary {
  readonly microseconds: number;
  readonly requests: number;
  readonly octets: number;
  readonly p50: number;
  readonly p99: number;
  readonly connect: number;
  readonly read: number;
  readonly write: number;
  readonly status: number;
  readonly timeout: number;
}

/**
 * Loads a proxy.
 * @throws Error when a request failed
 */
export async function measure(
  proxy: Proxy,
  size: Size,
  seconds: number,
): Promise<Measurement> {
  const before = cpuSecondsOf(proxy);
  const [command, args] = onCore(LOAD_CORE, "wrk", [
    `-c${size.connections}`,
    "-t1",
    `-d${seconds}s`,
    `--timeout=${TIMEOUT_SECONDS}s`,
    `--script=${SUMMARY}`,
    proxy.url(size),
  ]);
  const { output } = await within(
    seconds + GRACE_SECONDS,
    `wrk's run against ${proxy.name}`,
    run(command, args),
  );
  const cpu = cpuSecondsOf(proxy) - before;
  const json = /^\{.*\}$/m.exec(output)?.[0];
  if (json === undefined) throw new Error(`wrk failed:\n${output}`);
  const summary = JSON.parse(json) as Summary;
  const { connect, read, write, status, timeout } = summary;
  if (connect + read + write + status + timeout > 0 || summary.requests === 0) {
    throw new Error(
      `Requests failed at ${proxy.name}, ${size.name}: of ${summary.requests} answers ${status} were not 2xx, ` +
        `${timeout} came too late; socket errors: connect ${connect}, read ${read}, write ${write}.`,
    );
  }
  const runSeconds = summary.microseconds / 1e6;
  return {
    requestsPerSecond: summary.requests / runSeconds,
    megabytesPerSecond: summary.octets / 1e6 / runSeconds,
    p50: summary.p50 / 1000,
    p99: summary.p99 / 1000,
    busy: cpu / runSeconds,
    cpuPerRequest: (cpu * 1e6) / summary.requests,
  };
}
