import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { readRelayConfig } from "../../app/config.ts";
import { failure, failureCodes } from "../../app/errors.ts";
import { deriveGrantKey, deriveKey, encodeSecret } from "../../app/protocol.ts";
import { SETTINGS } from "../../app/relay/options.ts";
import { PROJECT } from "../support/programs.ts";

const read = (name: string): string =>
  readFileSync(join(PROJECT, name), "utf8");
const documents = readdirSync(PROJECT).filter((name) => name.endsWith(".md"));
const protocol = read("PROTOCOL.md");

/** Variables of the program that are no settings of createRelay(), and their defaults where they have one. */
const PROGRAM_VARIABLES = {
  PORT: "5000",
  HOST: undefined,
  NODE_ENV: undefined,
  LOG_LEVEL: "info",
  RELAY_SECRET_FILE: undefined,
  REVOKED_FILE: undefined,
  TLS_CERT: undefined,
  TLS_KEY: undefined,
} as const;

/** The cells of each row of a document's tables, code marks and padding taken away. */
function tableRows(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.replaceAll("`", "").trim()),
    );
}

/** The assignments of .env.example, all of them commented out. */
function examples(): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name = "", value = ""] of read(".env.example").matchAll(
    /^# ([A-Z][A-Z_]*)=(.*)$/gm,
  ))
    found.set(name, value);
  return found;
}

/** How a default is written in .env.example; undefined where there is none. */
function written(byDefault: unknown): string | undefined {
  if (typeof byDefault === "boolean") return byDefault ? "on" : "off";
  if (typeof byDefault === "number") return String(byDefault);
  return typeof byDefault === "string" ? byDefault : undefined;
}

/** What the headings of a document can be linked by, as GitHub makes it. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

describe("the documents", () => {
  it("PROTOCOL.md has each failure, as the table of errors has it", () => {
    const rows = tableRows(protocol).filter((cells) => cells.length === 5);
    for (const code of failureCodes) {
      const { status, retryAfter, proxyStatus } = failure(code);
      const [row = []] = rows.filter(([name]) => name === code);
      const [name, said, when, retry, proxy] = row;
      expect([name, said, retry, proxy]).to.deep.equal([
        code,
        String(status),
        retryAfter === undefined ? "" : String(retryAfter),
        proxyStatus ?? "",
      ]);
      expect(when, code).to.not.equal("");
    }
  });

  it("PROTOCOL.md has no failure that does not exist", () => {
    const codes = tableRows(protocol)
      .filter((cells) => cells.length === 5)
      .map(([code]) => code)
      .filter((code) => code !== "code" && code?.startsWith("-") === false);
    expect(codes).to.have.members(failureCodes);
  });

  it("PROTOCOL.md has each limit that is a setting, with its default", () => {
    const limits = new Map(
      tableRows(protocol)
        .filter((cells) => cells.length === 3)
        .map(([, value = "", variable = ""]) => [variable, value]),
    );
    for (const { variable, byDefault } of Object.values(SETTINGS)) {
      if (!/^(?:MAX|MIN|RATE|OCTETS)_|_SECONDS$/.test(variable)) continue;
      const unit = variable.endsWith("_SECONDS") ? " s" : "";
      expect(limits.get(variable), variable).to.equal(
        `${String(byDefault)}${unit}`,
      );
    }
  });

  it("PROTOCOL.md's test vector is what the code derives", () => {
    const relaySecret = /`RELAY_SECRET` `([^`]+)` and the id `pi`/.exec(
      protocol,
    )?.[1];
    expect(relaySecret).to.equal("0123456789abcdef0123456789abcdef");
    const rows = tableRows(protocol).filter(([, text]) =>
      text?.startsWith("rendezvous/v1/pi"),
    );
    const derive = (generation: number): string =>
      encodeSecret(deriveKey(relaySecret ?? "", "pi", generation));
    expect(rows).to.deep.equal([
      ["1", "rendezvous/v1/pi", derive(1)],
      ["2", "rendezvous/v1/pi@2", derive(2)],
    ]);
  });

  it("PROTOCOL.md's key of grants is what the code derives", () => {
    const key = deriveKey("0123456789abcdef0123456789abcdef", "pi", 1);
    const [row] = tableRows(protocol).filter(
      ([, text]) => text === "rendezvous/v1/grant",
    );
    expect(row?.[2]).to.equal(encodeSecret(deriveGrantKey(key)));
  });

  it(".env.example has each setting, and nothing else", () => {
    const settings = Object.values(SETTINGS).map(({ variable }) => variable);
    expect([...examples().keys()]).to.have.members([
      ...settings,
      ...Object.keys(PROGRAM_VARIABLES),
    ]);
  });

  it(".env.example shows the defaults where there are any", () => {
    const shown = examples();
    const defaults = [
      ...Object.entries(PROGRAM_VARIABLES),
      ...Object.values(SETTINGS).map(
        ({ variable, byDefault }) => [variable, written(byDefault)] as const,
      ),
    ];
    for (const [variable, value] of defaults) {
      if (value !== undefined)
        expect(shown.get(variable), variable).to.equal(value);
    }
  });

  it(".env.example's values can be taken as they are", () => {
    const { RELAY_SECRET_FILE, REVOKED_FILE, ...values } =
      Object.fromEntries(examples());
    for (const file of [RELAY_SECRET_FILE, REVOKED_FILE])
      expect(file).to.match(/^\//);
    const config = readRelayConfig({ ...values, RELAY_SECRET: "x".repeat(32) });
    expect(config.port).to.equal(5000);
    expect(config.options.revoked).to.have.length.above(0);
  });

  it("links between the documents lead somewhere", () => {
    for (const name of documents) {
      const text = read(name).replaceAll(/`[^`]*`/g, "");
      for (const [, target = ""] of text.matchAll(/\]\(([^)]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [file = "", anchor] = target.split("#");
        const path = file === "" ? name : file;
        expect(existsSync(join(PROJECT, path)), `${name}: ${target}`).to.be
          .true;
        if (anchor !== undefined)
          expect(anchors(read(path)), `${name}: ${target}`).to.include(anchor);
      }
    }
  });

  it("PROTOCOL.md's references to sections lead somewhere", () => {
    const sections = [...protocol.matchAll(/^##+ ([\d.]*\d)/gm)].map(
      ([, number]) => number,
    );
    for (const [, number] of protocol.matchAll(/[Ss]ection (\d[\d.]*\d|\d)/g))
      expect(sections).to.include(number);
  });

  it("app.json asks for the one thing that the relay needs", () => {
    const app = JSON.parse(read("app.json")) as {
      env: Record<string, { generator?: string }>;
    };
    expect(app.env).to.have.all.keys("RELAY_SECRET");
    expect(app.env["RELAY_SECRET"]?.generator).to.equal("secret");
  });
});
