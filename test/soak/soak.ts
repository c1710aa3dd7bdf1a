// A long run of the relay program under everything at once, to see that it grows nowhere.
import { readdirSync } from "node:fs";
import { startRelayHere } from "../support/parked.ts";
import { freePort } from "../support/programs.ts";
import { REPORTING, reportOf } from "../support/report.ts";
import { startLoad } from "./load.ts";

/** How much the whole run may add, by the line that fits best through what was held at rest, after the warm-up. */
const MOST = { heapMegabytes: 3, fds: 5, handles: 5, rssMegabytes: 40 };
/** The part of the run in which caches and pools fill. */
const WARM_UP = 0.25;
/** Used tunnels are ended, closed connections forgotten. */
const REST_MILLISECONDS = 6500;
const MEGABYTE = 1024 * 1024;

export interface Sample {
  readonly seconds: number;
  readonly rssMegabytes: number;
  readonly heapMegabytes: number;
  readonly fds: number;
  readonly handles: number;
}

export interface Soaked {
  readonly samples: readonly Sample[];
  readonly outcomes: ReadonlyMap<string, number>;
  /** What a user of the relay would complain about; nothing, if all is well. */
  readonly complaints: readonly string[];
}

/** Loads a relay for a time, and looks at it at rest every so often. */
export async function soak(
  seconds: number,
  everySeconds: number,
  seed: number,
  print: (line: string) => void,
): Promise<Soaked> {
  const genericPort = await freePort();
  const { program, port } = await startRelayHere({
    GENERIC_PORT: String(genericPort),
    ...{ HEARTBEAT_SECONDS: "5", HOLD_SECONDS: "8", ANSWER_SECONDS: "12" },
    ...{ IDLE_SECONDS: "20", STALL_SECONDS: "20", DRAIN_SECONDS: "5" },
    ...REPORTING,
  });
  const load = await startLoad(port, genericPort, seed);
  const began = performance.now();
  const samples: Sample[] = [];
  print(
    "| min | RSS MB | heap MB | fds | handles | visits | wrong | by kind |",
  );
  print("| --: | --: | --: | --: | --: | --: | --: | :-- |");
  while (performance.now() - began < seconds * 1000) {
    await wait(everySeconds * 1000 - REST_MILLISECONDS);
    await load.rest();
    await wait(REST_MILLISECONDS);
    const report = await reportOf(program, samples.length + 1);
    const sample = {
      seconds: (performance.now() - began) / 1000,
      rssMegabytes: report.rss / MEGABYTE,
      heapMegabytes: report.heapUsed / MEGABYTE,
      fds: readdirSync(`/proc/${program.pid}/fd`).length,
      handles: Object.values(report.handles).reduce((sum, n) => sum + n, 0),
    };
    samples.push(sample);
    const visits = [...load.outcomes.values()].reduce((sum, n) => sum + n, 0);
    print(
      `| ${(sample.seconds / 60).toFixed(1)} | ${sample.rssMegabytes.toFixed(1)} | ${sample.heapMegabytes.toFixed(2)} | ${sample.fds} | ${sample.handles} | ${visits} | ${load.wrong.length} | ${JSON.stringify(report.handles)} |`,
    );
    load.goOn();
  }
  await load.stop();
  await program.stop("SIGTERM");
  const [draining = ""] = /^.*"draining".*$/m.exec(program.output) ?? [];
  print(`At the end: ${draining}`);
  const crash = /^.*("level":[56]0|unhandled|uncaught).*$/im.exec(
    program.output,
  );
  return {
    samples,
    outcomes: load.outcomes,
    complaints: [
      ...growth(samples),
      ...new Set(load.wrong),
      ...(crash === null ? [] : [crash[0]]),
    ],
  };
}

/** What has grown more than it may. */
function growth(samples: readonly Sample[]): string[] {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP));
  const names = ["heapMegabytes", "fds", "handles", "rssMegabytes"] as const;
  return names.flatMap((name) => {
    const grown = slope(warm.map((sample) => [sample.seconds, sample[name]]));
    const span = (warm.at(-1)?.seconds ?? 0) - (warm[0]?.seconds ?? 0);
    return grown * span <= MOST[name]
      ? []
      : [
          `${name} grew by ${(grown * span).toFixed(1)} in ${span.toFixed(0)} s`,
        ];
  });
}

/** The median slope between any two points (Theil and Sen): one odd minute does not count as growth. */
function slope(points: readonly (readonly [number, number])[]): number {
  const slopes = points
    .flatMap(([x, y], i) =>
      points.slice(i + 1).map(([at, n]) => (n - y) / (at - x)),
    )
    .sort((one, other) => one - other);
  return slopes[Math.floor(slopes.length / 2)] ?? 0;
}

const wait = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
