import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { PROJECT } from "../support/programs.ts";

const security = readFileSync(join(PROJECT, "SECURITY.md"), "utf8");
const model = /^## Threat model$([\s\S]*?)^## /m.exec(security)?.[1] ?? "";

/** What each row of the threat model's tables says, and the last cell, which names its tests. */
const lines = model
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| --"))
  .map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  .filter((cells) => cells.at(-1) !== "shown by");

describe("SECURITY.md's threat model", () => {
  it("has a line for everybody it speaks of", () => {
    const actors = model.match(/^### .*$/gm) ?? [];
    expect(actors.length).to.be.at.least(5);
    expect(lines.length).to.be.at.least(4 * actors.length);
  });

  for (const cells of lines) {
    const what = cells[0] ?? "";
    const tests = [
      ...(cells.at(-1) ?? "").matchAll(/`(test\/[\w/.-]+)` "([^"]+)"/g),
    ];
    it(`names the test that shows: ${what}`, () => {
      expect(tests, "no test is named").not.to.deep.equal([]);
      for (const [, file = "", title = ""] of tests) {
        expect(existsSync(join(PROJECT, file)), `${file} exists`).to.equal(
          true,
        );
        const titles = titlesOf(readFileSync(join(PROJECT, file), "utf8"));
        expect(
          titles.some((known) => known.includes(title)),
          `${file} has "${title}"`,
        ).to.equal(true);
      }
    });
  }
});

/** What a file's describe() and it() are called, with the places of a template's values left as they are. */
function titlesOf(source: string): string[] {
  return [
    ...source.matchAll(/\b(?:it|describe)\(\s*(["`])((?:\\.|(?!\1).)*)\1/g),
  ].map(([, , title = ""]) => title.replaceAll("\\", ""));
}
