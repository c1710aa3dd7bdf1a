// mocha's spec reporter, which also adds a line with the real counts of its run to the file that COUNTS_FILE names.
const { appendFileSync } = require("node:fs");
const { reporters } = require("mocha");

module.exports = class Counts extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once("end", () => {
      const { passes, failures, pending } = runner.stats;
      appendFileSync(process.env.COUNTS_FILE, `${passes} ${failures} ${pending}\n`);
    });
  }
};
