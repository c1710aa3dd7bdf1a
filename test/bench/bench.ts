// `npm run bench`: haproxy and the relay in the same place, loaded in turns, and how the two compare: HTTP by wrk, TCP by tcpload.ts.
//   --rounds N (5)    --seconds N, for each measurement (3)    --only 1k|64k|10m|tcp
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { mochaHooks } from "../support/cleanup.ts";
import { isThere } from "../support/programs.ts";
import { measure } from "./load.ts";
import { SIZES, type Size } from "./sizes.ts";
import { build, setStage, type Proxy } from "./stage.ts";
import { table, verdicts, type Result, type Round } from "./table.ts";
import { compareTcp } from "./tcp.ts";

/** Where Debian has what the benchmark needs. */
const PACKAGES = { wrk: "wrk", haproxy: "haproxy", taskset: "util-linux" };
const MAX_COUNT = 1000;
const WARM_UP_SECONDS = 1;

interface Plan {
  readonly rounds: number;
  readonly seconds: number;
  /** Of HTTP visits; none of them where only TCP is wanted. */
  readonly sizes: readonly Size[];
  readonly tcp: boolean;
}

/** Something that the user can put right; told without a stack. */
class Unfit extends Error {}

async function main(): Promise<void> {
  const plan = readPlan();
  checkMachine();
  await build();
  if (plan.sizes.length > 0) await compareHttp(plan);
  if (plan.tcp) await compareTcp(plan);
}

async function compareHttp(plan: Plan): Promise<void> {
  const proxies = await setStage();
  const results: Result[] = [];
  for (const size of plan.sizes)
    results.push(await compare(proxies, size, plan));
  console.log(
    `\nMedians of ${plan.rounds} rounds of ${plan.seconds} s; a ratio is the median of the rounds' ratios, relay to haproxy.\n` +
      "Where `core`, the share of its core that a proxy used, is far below 1, load and hidden server were the limit (or other programs\n" +
      "on this machine), and the CPU a request says more than the requests/s.\n",
  );
  console.log(`${table(results)}\n\n${verdicts(results)}`);
}

async function compare(
  proxies: readonly Proxy[],
  size: Size,
  { rounds, seconds }: Plan,
): Promise<Result> {
  for (const proxy of proxies) await measure(proxy, size, WARM_UP_SECONDS);
  const done: Round[] = [];
  while (done.length < rounds) {
    const round: Partial<Record<Proxy["name"], Round["relay"]>> = {};
    for (const proxy of proxies)
      round[proxy.name] = await measure(proxy, size, seconds);
    const { haproxy, relay } = round;
    if (haproxy === undefined || relay === undefined)
      throw new Error("a proxy is missing");
    done.push({ haproxy, relay });
    const share = relay.requestsPerSecond / haproxy.requestsPerSecond;
    console.log(
      `${size.name} round ${done.length} of ${rounds}: haproxy ${haproxy.requestsPerSecond.toFixed(0)}/s, ` +
        `relay ${relay.requestsPerSecond.toFixed(0)}/s, ratio ${share.toFixed(2)}`,
    );
  }
  return { size, rounds: done };
}

function readPlan(): Plan {
  const { values } = parseOrExplain();
  const sizes = SIZES.filter(
    ({ name }) => values.only === undefined || values.only === name,
  );
  const tcp = values.only === undefined || values.only === "tcp";
  if (sizes.length === 0 && !tcp)
    throw new Unfit(
      `--only must be one of ${SIZES.map(({ name }) => name).join(", ")}, tcp.`,
    );
  return {
    rounds: readCount("--rounds", values.rounds),
    seconds: readCount("--seconds", values.seconds),
    sizes,
    tcp,
  };
}

function parseOrExplain() {
  try {
    return parseArgs({
      options: {
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "3" },
        only: { type: "string" },
      },
    });
  } catch (error) {
    throw new Unfit(error instanceof Error ? error.message : String(error));
  }
}

function readCount(flag: string, text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= MAX_COUNT) return count;
  throw new Unfit(
    `${flag} must be an integer from 1 to ${MAX_COUNT}, got ${JSON.stringify(text)}.`,
  );
}

function checkMachine(): void {
  const missing = Object.entries(PACKAGES).filter(
    ([program]) => !isThere(program),
  );
  if (missing.length > 0) {
    const [programs, packages] = [0, 1].map((i) =>
      missing.map((pair) => pair[i]),
    );
    throw new Unfit(
      `The benchmark needs ${programs?.join(", ") ?? ""}: apt-get install ${packages?.join(" ") ?? ""}.`,
    );
  }
  if (availableParallelism() < 2)
    throw new Unfit(
      "The benchmark needs two cores: one for the proxies, one for the load.",
    );
}

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    interrupted.abort();
    void mochaHooks.afterEach().finally(() => process.exit(1));
  });
}
try {
  await main();
} catch (error) {
  if (!interrupted.signal.aborted)
    console.error(error instanceof Unfit ? error.message : error);
  process.exitCode = 1;
} finally {
  await mochaHooks.afterEach();
}
