// The relay program under everything at once, for as long as a test may take; `npm run soak` is the long run.
import { expect } from "chai";
import { soak } from "../soak/soak.ts";

const SECONDS = 120;
const EVERY_SECONDS = 15;
const SEED = Number(process.env["SOAK_SEED"] ?? Date.now() % 1_000_000);

describe("a relay under mixed load", function () {
  this.timeout(240_000);

  it(`answers each visit rightly, and grows nowhere (SOAK_SEED=${SEED})`, async () => {
    const lines: string[] = [];
    const { outcomes, complaints } = await soak(
      SECONDS,
      EVERY_SECONDS,
      SEED,
      (line) => lines.push(line),
    );
    expect(complaints, lines.join("\n")).to.deep.equal([]);
    const visits = [...outcomes.values()].reduce((sum, n) => sum + n, 0);
    expect(visits).to.be.above(1000);
  });
});
