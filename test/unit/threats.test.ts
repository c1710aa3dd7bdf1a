import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { expect } from "chai";
import { PROJECT } from "../support/programs.ts";

const security = readFileSync(join(PROJECT, "SECURITY.md"), "utf8");
const model =
  /^## Threat model$([\s\S]*)^## Memory$/m.exec(security)?.[1] ?? "";

/** What each row of the tables says, and its last cell, which names its tests. */
const lines = model
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| --"))
  .map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  .filter((cells) => cells.at(-1) !== "shown by")
  .map((cells) => ({
    what: cells.slice(0, -1).join(": "),
    tests: [
      ...(cells.at(-1) ?? "").matchAll(/`(test\/[\w/.-]+)` "([^"]+)"/g),
    ].map(([, file = "", title = ""]) => ({ file, title })),
  }));

interface Report {
  readonly tests: readonly {
    readonly file: string;
    readonly fullTitle: string;
  }[];
}

/** The titles of the tests in these files, as mocha would run them. */
function titlesOf(files: readonly string[]): Report["tests"] {
  const mocha = join(PROJECT, "node_modules/mocha/bin/mocha.js");
  const { stdout } = spawnSync(
    process.execPath,
    ["--import", "tsx", mocha, "--no-config", "--no-package"].concat([
      "--dry-run",
      "--reporter",
      "json",
      ...files,
    ]),
    { cwd: PROJECT, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 },
  );
  const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as Report;
  return report.tests.map(({ file, fullTitle }) => ({
    file: relative(PROJECT, file),
    fullTitle,
  }));
}

describe("SECURITY.md", () => {
  it("has lines for everybody it speaks of, and each names the test that shows it", () => {
    const actors = model.match(/^### .*$/gm) ?? [];
    expect(actors.length).to.be.at.least(5);
    expect(lines.length).to.be.at.least(100);
    const bare = lines.filter(({ tests }) => tests.length === 0);
    expect(bare.map(({ what }) => what)).to.deep.equal([]);
  });

  it("names tests that there are", function () {
    this.timeout(60_000);
    const named = lines.flatMap(({ tests }) => tests);
    const known = titlesOf([...new Set(named.map(({ file }) => file))]);
    const missing = named.filter(
      ({ file, title }) =>
        !known.some(
          (test) => test.file === file && test.fullTitle.includes(title),
        ),
    );
    expect(missing).to.deep.equal([]);
  });
});
