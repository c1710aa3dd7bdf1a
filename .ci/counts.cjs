// mocha's spec reporter, which also writes the real counts to the file that COUNTS_FILE names.
const { writeFileSync } = require("node:fs");
const { reporters } = require("mocha");

module.exports = class Counts extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once("end", () => {
      const { passes, failures, pending } = runner.stats;
      writeFileSync(process.env.COUNTS_FILE, `${passes} ${failures} ${pending}\n`);
    });
  }
};
