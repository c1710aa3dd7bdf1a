// The shape of the code: what may import what, and who may look at the process.
import { expect } from "chai";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const APP = fileURLToPath(new URL("../app/", import.meta.url));
const files = readdirSync(APP, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .sort();
const sourceOf = (file: string): string =>
  readFileSync(join(APP, file), "utf8");

/** The files under app/ that a file imports. */
function importsOf(file: string): string[] {
  const found = sourceOf(file).matchAll(
    /(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g,
  );
  return [...found].map(([, path = ""]) =>
    normalize(join(dirname(file), path)),
  );
}

/** The part of the code that a file belongs to: its directory, or itself. */
const partOf = (file: string): string =>
  file.split("/").slice(0, -1)[0] ?? file;

/** What each part may import besides itself. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  wire: [],
  "version.ts": [],
  "protocol.ts": ["wire"],
  "errors.ts": ["wire"],
  "cures.ts": [],
  "grant.ts": ["protocol.ts"],
  relay: ["wire", "protocol.ts", "grant.ts", "errors.ts", "version.ts"],
  agent: ["wire", "protocol.ts", "errors.ts", "cures.ts", "version.ts"],
  client: ["wire", "protocol.ts", "errors.ts", "cures.ts", "version.ts"],
  "issue.ts": ["protocol.ts", "relay/options.ts"],
  "values.ts": ["protocol.ts", "grant.ts", "relay/options.ts"],
  "config.ts": ["values.ts", "relay/options.ts"],
  command: [
    "config.ts",
    "values.ts",
    "protocol.ts",
    "grant.ts",
    "relay/options.ts",
  ],
  "index.ts": [
    "relay",
    "relay/options.ts",
    "agent",
    "client",
    "issue.ts",
    "errors.ts",
    "version.ts",
  ],
  bin: [
    "wire",
    "relay",
    "relay/options.ts",
    "agent",
    "client",
    "issue.ts",
    "protocol.ts",
    "grant.ts",
    "config.ts",
    "command",
    "errors.ts",
    "version.ts",
  ],
};

describe("the code", () => {
  it("is all there to be looked at", () => {
    expect(files).to.include.members([
      "protocol.ts",
      "wire/head.ts",
      "relay/relay.ts",
      "agent/agent.ts",
      "bin/relay.ts",
    ]);
    expect(importsOf("relay/relay.ts")).to.include("wire/link.ts");
  });

  for (const file of files) {
    it(`imports only downwards in ${file}`, () => {
      const below = BELOW[partOf(file)];
      expect(below, `${file} belongs to no known part`).to.not.be.undefined;
      for (const imported of importsOf(file)) {
        const allowed = [partOf(file), ...(below ?? [])];
        const is =
          allowed.includes(partOf(imported)) || allowed.includes(imported);
        expect(is, `${file} imports ${imported}`).to.be.true;
      }
    });

    it(`says in the first line of ${file} what it is`, () => {
      const [first, second] = sourceOf(file).split("\n");
      expect(first?.startsWith("#!") === true ? second : first).to.match(
        /^\/\/ \S.{10,}[.:]$|^\/\/ \S.{10,}\S$/,
      );
    });

    it(`lets no bug go on unseen in ${file}`, () => {
      expect(sourceOf(file)).to.not.match(
        /unhandledRejection|uncaughtException|rejectionHandled|node:domain/,
      );
    });

    it(`runs no text as a program, and starts none, in ${file}`, () => {
      expect(sourceOf(file)).to.not.match(
        /\beval\s*\(|\bnew Function\b|node:(?:vm|child_process|worker_threads|cluster|wasi)\b/,
      );
    });

    if (partOf(file) === "bin") continue;
    it(`leaves environment and arguments alone in ${file}`, () => {
      expect(sourceOf(file)).to.not.match(
        /\bprocess\s*\.\s*(env|argv|loadEnvFile)\b|node:process/,
      );
    });
  }
});
