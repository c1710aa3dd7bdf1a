// Flags, as every command takes them: told from other words strictly, and `--help` and `--via` wherever they are.
import { parseArgs, type ParseArgsConfig } from "node:util";
import { WAYS, readWay, type Way } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import { readText, shown, withoutLogin } from "../values.ts";

/** Help on a topic. `--help` behind a command asks for help on that one. */
export interface HelpCommand {
  readonly command: "help";
  readonly topic: string | undefined;
}

/**
 * Takes flags and other words apart.
 * @throws SettingsError with one sentence for each flag that cannot be
 */
export function parse(
  argv: readonly string[],
  options: NonNullable<ParseArgsConfig["options"]>,
) {
  // Node's own complaints would not name a cure.
  const { tokens, ...parsed } = parseArgs({
    args: [...argv],
    options,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const problems: string[] = [];
  const given = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    const flag = withoutLogin(rawName);
    const option = Object.hasOwn(options, name) ? options[name] : undefined;
    if (option === undefined)
      problems.push(`There is no flag ${flag}. \`--help\` lists them.`);
    else if (option.type === "boolean") {
      if (value !== undefined) problems.push(`${flag} takes no value.`);
    } else if (value === undefined)
      problems.push(`${flag} needs a value after it.`);
    else if (!inlineValue && value.startsWith("-"))
      problems.push(`${flag} needs a value after it, got ${shown(value)}.`);
    else if (option.multiple !== true && given.has(name))
      problems.push(`${flag} was given twice. Give it once.`);
    given.add(name);
  }
  if (problems.length > 0) throw new SettingsError(problems.join("\n"));
  return parsed;
}

/** The value of a flag that was given and takes one. */
export function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The certificates in the file that `--ca` names. */
export function readCa(value: unknown, problems: string[]): string | undefined {
  const file = text(value);
  return file === undefined ? undefined : readText(file, problems);
}

/** The way that `--via` forces. */
export function readVia(value: unknown, problems: string[]): Way | undefined {
  const via = readWay(value);
  if (value !== undefined && via === undefined)
    problems.push(
      `--via must be one of ${WAYS.join(", ")}, got ${shown(text(value) ?? "")}. Leave it out for the best that gets through.`,
    );
  return via;
}
