// `npm run fuzz`: the properties of test/fuzz for minutes, in turns, and how many cases each has seen.
//   --minutes N (10)    --runs N, at least so many cases of each, however long that takes    --only TEXT, those whose title has it
//   FUZZ_SEED=N: the same cases again
import { parseArgs } from "node:util";
import { mochaHooks } from "../support/cleanup.ts";
import { partOf, seedOf, type Target } from "./target.ts";
import { TARGETS } from "./targets.ts";

const MINUTES = 10;
/** Turns are short, so that all have had some cases soon. */
const ROUND_SECONDS = 60;

const { values } = parseArgs({
  options: {
    minutes: { type: "string" },
    runs: { type: "string" },
    only: { type: "string" },
  },
});
const minutes = Number(values.minutes ?? MINUTES);
const runs = Number(values.runs ?? 0);
const targets = TARGETS.filter(({ title }) =>
  title.includes(values.only ?? ""),
);
if (targets.length === 0 || !(minutes > 0) || !(runs >= 0))
  throw new Error(
    "npm run fuzz -- --minutes 10 --runs 1000000 --only 'part of a title'",
  );

const seed = seedOf(process.env);
const counts = new Map<Target, number>();
const failures: string[] = [];
const start = performance.now();
const isOver = (): boolean =>
  performance.now() - start >= minutes * 60 * 1000 &&
  targets.every((target) => (counts.get(target) ?? 0) >= runs);

console.log(`FUZZ_SEED=${seed}, ${minutes} minutes`);
for (let round = 0; !isOver() && failures.length === 0; round++) {
  const seconds = Math.min(ROUND_SECONDS, minutes * 60);
  for (const target of targets) {
    const milliseconds = partOf(target, targets, seconds);
    try {
      const count = await target.run({ seed: seed + round, milliseconds });
      counts.set(target, (counts.get(target) ?? 0) + count);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
    await mochaHooks.afterEach();
  }
}
for (const [{ title }, count] of counts)
  console.log(`${String(count).padStart(9)}  ${title}`);
const sum = [...counts.values()].reduce((all, count) => all + count, 0);
const took = Math.round((performance.now() - start) / 1000);
console.log(`${String(sum).padStart(9)}  cases in ${took} s`);
for (const failure of failures) console.error(`\n${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;
