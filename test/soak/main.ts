// `npm run soak -- --minutes 30`: a relay under mixed load, looked at each minute; fails where it grows or answers wrongly.
//   --seed N repeats a load as far as time lets it.
import { parseArgs } from "node:util";
import { mochaHooks } from "../support/cleanup.ts";
import { soak } from "./soak.ts";

const MINUTE_SECONDS = 60;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
console.log(`seed ${values.seed}, ${values.minutes} minutes`);
try {
  const { outcomes, complaints } = await soak(
    Number(values.minutes) * MINUTE_SECONDS,
    MINUTE_SECONDS,
    Number(values.seed),
    (line) => {
      console.log(line);
    },
  );
  for (const [outcome, times] of [...outcomes].sort())
    console.log(`${String(times).padStart(7)} ${outcome}`);
  for (const complaint of complaints) console.error(complaint);
  console.log(complaints.length === 0 ? "flat" : "not well");
  process.exitCode = complaints.length === 0 ? 0 : 1;
} finally {
  await mochaHooks.afterEach();
}
