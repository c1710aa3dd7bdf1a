// TCP visits: haproxy in tcp mode and the relay in the same place, in turns, by octets, by round trips, and by memory.
import { fileURLToPath } from "node:url";
import { cpuSecondsOf, memoryOf } from "../support/usage.ts";
import {
  startHaproxy,
  startNode,
  startRelay,
  up,
  within,
  type Listening,
} from "./stage.ts";
import { median, word } from "./table.ts";
import {
  BARS,
  CASES,
  CONNECTIONS,
  MAX_MEGABYTES,
  PAIRS,
  PING_OCTETS,
  type Case,
  type Kind,
} from "./tcpcases.ts";
import type { Counted } from "./tcpload.ts";

const LOAD = fileURLToPath(new URL("tcpload.ts", import.meta.url));
const HIDDEN = fileURLToPath(new URL("tcphidden.ts", import.meta.url));
/** What starts and ends around a run. */
const GRACE_SECONDS = 30;
const WARM_UP_SECONDS = 1;
/** Tunnels of plain octets: each pair takes one, and a new one is parked for it. */
const LEGACY_TUNNELS = PAIRS + 100;

interface Stage {
  readonly haproxy: Listening;
  readonly relay: Listening;
}

interface Figures {
  /** GB, or thousands of round trips, a second. */
  readonly rate: number;
  /** Seconds of the proxy's CPU for a GB, or microseconds for a round trip. */
  readonly cost: number;
  /** The share of its core that the proxy used. */
  readonly busy: number;
}

export async function compareTcp(plan: {
  readonly rounds: number;
  readonly seconds: number;
}): Promise<void> {
  const stage = await setTcpStage();
  const pairs = await holdPairs(stage.relay);
  for (const one of CASES) await measure(stage, one, WARM_UP_SECONDS);
  const rounds: Map<Case, Figures>[] = [];
  while (rounds.length < plan.rounds) {
    const round = new Map<Case, Figures>();
    for (const one of CASES)
      round.set(one, await measure(stage, one, plan.seconds));
    rounds.push(round);
    console.log(
      `tcp round ${rounds.length} of ${plan.rounds}: ${CASES.map((one) => `${one.kind} ${one.name} ${round.get(one)?.rate.toFixed(2) ?? ""}`).join(", ")}`,
    );
  }
  tell(rounds, plan.seconds);
  console.log(
    `${PAIRS} pairs at once: ${pairs.toFixed(0)} MB of memory in the relay, at most ${MAX_MEGABYTES}: ${word(pairs <= MAX_MEGABYTES)}\n` +
      `after everything: ${memoryOf(stage.relay).now.toFixed(0)} MB`,
  );
}

async function setTcpStage(): Promise<Stage> {
  const relay = await startRelay({
    MAX_TUNNELS_PER_SERVER: String(2 * LEGACY_TUNNELS),
  });
  const args = [
    relay.url("legacy"),
    String(LEGACY_TUNNELS),
    relay.url("agent"),
  ];
  const hidden = startNode(HIDDEN, args);
  const parked = hidden.prints(/listening on (\d+)\n[^]*parked/);
  const [, port = ""] = await up(hidden, "the hidden server", parked);
  const haproxy = await startHaproxy("tcp", port);
  return { haproxy, relay };
}

/** Loads a proxy. */
async function measure(
  stage: Stage,
  { kind, proxy, way, tunnels }: Case,
  seconds: number,
): Promise<Figures> {
  const measured = stage[proxy];
  const before = cpuSecondsOf(measured);
  const load = startNode(
    LOAD,
    [kind, way, measured.port, tunnels, CONNECTIONS[kind], seconds].map(String),
  );
  const line = await counted(load, seconds, `the load of ${proxy}`);
  await load.exited;
  const cpu = cpuSecondsOf(measured) - before;
  const done = amount(kind, line.octets);
  return {
    rate: done / line.seconds,
    cost: (kind === "bulk" ? cpu : cpu * 1000) / done,
    busy: cpu / line.seconds,
  };
}

/** The relay's memory while so many pairs stand, each of which has carried something. */
async function holdPairs(relay: Listening): Promise<number> {
  const load = startNode(
    LOAD,
    ["ping", "connect", relay.port, "legacy", PAIRS, 3, "stay"].map(String),
  );
  await counted(load, WARM_UP_SECONDS, `${PAIRS} pairs`);
  const megabytes = memoryOf(relay).now;
  load.child.stdin.write("enough\n");
  await load.exited;
  return megabytes;
}

async function counted(
  load: ReturnType<typeof startNode>,
  seconds: number,
  what: string,
): Promise<Counted> {
  const [json] = await within(
    seconds + GRACE_SECONDS,
    what,
    load.prints(/^\{.*\}$/m),
  );
  return JSON.parse(json) as Counted;
}

/** Octets in GB, or thousands of round trips. */
function amount(kind: Kind, octets: number): number {
  return kind === "bulk" ? octets / 1e9 : octets / PING_OCTETS / 1000;
}

function tell(
  rounds: readonly ReadonlyMap<Case, Figures>[],
  seconds: number,
): void {
  const of = (one: Case, figure: keyof Figures): number[] =>
    rounds.map((round) => round.get(one)?.[figure] ?? NaN);
  const share = (one: Case, to: Case, figure: keyof Figures): number => {
    const [ours, theirs] = [of(one, figure), of(to, figure)];
    return median(ours.map((value, i) => value / (theirs[i] ?? NaN)));
  };
  console.log(
    `\nTCP: medians of ${rounds.length} rounds of ${seconds} s; shares are medians of the rounds' ratios.\n` +
      "Where `core` is far below 1, load and hidden server were the limit, and the CPU says more.\n",
  );
  for (const kind of ["bulk", "ping"] as const) {
    const cases = CASES.filter((one) => one.kind === kind);
    const [haproxy, plain] = cases;
    if (haproxy === undefined || plain === undefined) continue;
    const titles =
      kind === "bulk" ? ["GB/s", "CPU s/GB"] : ["1000/s", "CPU us each"];
    console.log(
      row(`${kind} x ${CONNECTIONS[kind]}`, [
        ...titles,
        "core",
        "of haproxy",
        "CPU of haproxy",
        "of CONNECT",
        "CPU of CONNECT",
      ]),
    );
    for (const one of cases) {
      const digits = kind === "bulk" ? 2 : 1;
      console.log(
        row(`  ${one.name}`, [
          median(of(one, "rate")).toFixed(digits),
          median(of(one, "cost")).toFixed(digits),
          median(of(one, "busy")).toFixed(2),
          ...[haproxy, plain].flatMap((other) => [
            share(one, other, "rate").toFixed(2),
            share(one, other, "cost").toFixed(2),
          ]),
        ]),
      );
    }
    const reached = share(plain, haproxy, "rate");
    console.log(
      `${kind}: CONNECT has ${reached.toFixed(2)} of haproxy's, at least ${BARS[kind]}: ${word(reached >= BARS[kind])}\n`,
    );
  }
}

function row(name: string, cells: readonly string[]): string {
  return name.padEnd(18) + cells.map((cell) => cell.padStart(16)).join("");
}
