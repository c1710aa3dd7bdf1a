// The command line of `rendezvous issue`: an id, and the relay's settings from the environment.
import { DEFAULT_PORT, readPortVariable, readVariables } from "../config.ts";
import {
  SETTINGS,
  SettingsError,
  checkSettings,
  type RelayOptions,
} from "../relay/options.ts";
import { collect, nonEmpty, readUrl, type Environment } from "../values.ts";
import { parse, text, type HelpCommand } from "./flags.ts";

export interface IssueCommand {
  readonly command: "issue";
  readonly id: string;
  readonly relay: URL;
  readonly json: boolean;
  readonly settings: RelayOptions;
}

/**
 * Reads what follows `rendezvous issue`.
 * @throws SettingsError with one sentence for each problem
 */
export function readIssue(
  argv: readonly string[],
  environment: Environment,
): HelpCommand | IssueCommand {
  const { values, positionals } = parse(argv, {
    relay: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "issue" };
  const problems: string[] = [];
  const [id, ...more] = positionals;
  if (id === undefined || more.length > 0)
    problems.push("Name one id: `npx rendezvous issue ID`.");
  const given = readVariables(environment, problems);
  const { relaySecret } = SETTINGS;
  if (given["relaySecret"] === undefined)
    problems.push(
      "RELAY_SECRET must be set to the relay's secret, or RELAY_SECRET_FILE to a file that has it.",
    );
  else if (!relaySecret.schema.safeParse(given["relaySecret"]).success) {
    // The relay can make one for itself; here it must be the relay's.
    const isInFile = nonEmpty(environment["RELAY_SECRET"]) === undefined;
    problems.push(
      `${isInFile ? "RELAY_SECRET_FILE" : "RELAY_SECRET"} must give the relay's secret, ${relaySecret.must}.`,
    );
    given["relaySecret"] = undefined;
  }
  const settings = collect(problems, () => checkSettings(given));
  const port =
    collect(problems, () => readPortVariable(environment)) ?? DEFAULT_PORT;
  const relay = readUrl(
    text(values["relay"]) ??
      settings?.publicUrl ??
      `http://localhost:${String(port)}`,
    values["relay"] === undefined ? "PUBLIC_URL" : "--relay",
    problems,
  );
  if (
    problems.length > 0 ||
    id === undefined ||
    settings === undefined ||
    relay === undefined
  )
    throw new SettingsError(problems.join("\n"));
  return {
    command: "issue",
    id,
    relay,
    json: values["json"] === true,
    settings,
  };
}
