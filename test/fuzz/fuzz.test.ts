// Hostile input, for a few seconds: each property of test/fuzz holds for cases that nobody has thought of.
//   FUZZ_SEED=N: the same cases again. FUZZ_SECONDS=N: for so long, all together.
import { partOf, secondsOf, seedOf } from "./target.ts";
import { TARGETS } from "./targets.ts";

/** In the gate; `npm run fuzz` takes its time. */
const SECONDS = 30;
/** To find the smallest case, and to close what is open. */
const MORE_MILLISECONDS = 60 * 1000;

describe("hostile input", () => {
  const seed = seedOf(process.env);
  const seconds = secondsOf(process.env, SECONDS);
  for (const target of TARGETS) {
    const milliseconds = partOf(target, TARGETS, seconds);
    it(target.title, async () => {
      await target.run({ seed, milliseconds });
    }).timeout(milliseconds + MORE_MILLISECONDS);
  }
});
