// What came of the rounds: medians, the relay's share of haproxy, and whether the bars are met.
import type { Measurement } from "./load.ts";
import { CPU_BAR, type Size } from "./sizes.ts";

/** One round: both proxies right after each other, so that what else the machine does weighs on both alike. */
export interface Round {
  readonly haproxy: Measurement;
  readonly relay: Measurement;
}

export interface Result {
  readonly size: Size;
  readonly rounds: readonly Round[];
}

const COLUMNS = [
  { title: "requests/s", of: "requestsPerSecond", digits: 0 },
  { title: "MB/s", of: "megabytesPerSecond", digits: 0 },
  { title: "p50 ms", of: "p50", digits: 2 },
  { title: "p99 ms", of: "p99", digits: 2 },
  { title: "core", of: "busy", digits: 2 },
  { title: "CPU us/request", of: "cpuPerRequest", digits: 1 },
] as const;
const NAME_WIDTH = 16;

/** A line for haproxy, one for the relay, and one with the relay's figures as multiples of haproxy's, for each size. */
export function table(results: readonly Result[]): string {
  const titles = COLUMNS.map(({ title }) => title);
  const lines = [row("", titles)];
  for (const { size, rounds } of results) {
    lines.push("");
    for (const proxy of ["haproxy", "relay"] as const) {
      const cells = COLUMNS.map(({ of, digits }) =>
        median(rounds.map((round) => round[proxy][of])).toFixed(digits),
      );
      lines.push(row(`${size.name} x ${size.connections} ${proxy}`, cells));
    }
    const ratios = COLUMNS.map(({ of }) => ratio(rounds, of).toFixed(2));
    lines.push(row("  ratio", ratios));
  }
  return lines.join("\n");
}

/** One sentence for each bar. */
export function verdicts(results: readonly Result[]): string {
  return results
    .flatMap(({ size, rounds }) => {
      const of =
        size.unit === "MB/s" ? "megabytesPerSecond" : "requestsPerSecond";
      const share = ratio(rounds, of);
      const lines = [
        `${size.name}: ${share.toFixed(2)} of haproxy's ${size.unit}, at least ${size.bar}: ${word(share >= size.bar)}`,
      ];
      if (size.name === CPU_BAR.name) {
        const times = ratio(rounds, "cpuPerRequest");
        lines.push(
          `${size.name}: ${times.toFixed(2)} times haproxy's CPU a request, at most ${CPU_BAR.times}: ${word(times <= CPU_BAR.times)}`,
        );
      }
      return lines;
    })
    .join("\n");
}

/** The median of the rounds' ratios, which a busy moment disturbs less than the ratio of medians. */
function ratio(rounds: readonly Round[], of: keyof Measurement): number {
  return median(rounds.map(({ haproxy, relay }) => relay[of] / haproxy[of]));
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const [low, high] = [sorted[Math.floor(middle)], sorted[Math.ceil(middle)]];
  return ((low ?? NaN) + (high ?? NaN)) / 2;
}

function row(name: string, cells: readonly string[]): string {
  return (
    name.padEnd(NAME_WIDTH) +
    cells
      .map((cell, i) =>
        cell.padStart(Math.max(COLUMNS[i]?.title.length ?? 0, 5) + 3),
      )
      .join("")
  );
}

export function word(met: boolean): string {
  return met ? "met" : "NOT MET";
}
