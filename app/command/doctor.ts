// The command line of `rendezvous doctor`: a relay, and an id where parking is to be tested.
import { isId } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import {
  decode,
  nonEmpty,
  readSecretFile,
  readUrl,
  secretFileOf,
  shown,
  type Environment,
} from "../values.ts";
import { parse, readCa, text, type HelpCommand } from "./flags.ts";

export interface DoctorCommand {
  readonly command: "doctor";
  readonly relay: URL;
  /** With it parking is tested too. */
  readonly login: Readonly<{ id: string; secret: string }> | undefined;
  readonly idleSeconds: number | undefined;
  readonly ca: string | undefined;
  readonly json: boolean;
}

/** The relay's echo, by which silence is tested, lasts 15 minutes. */
const MAX_IDLE_SECONDS = 850;

/**
 * Reads what follows `rendezvous doctor`.
 * @throws SettingsError with one sentence for each problem
 */
export function readDoctor(
  argv: readonly string[],
  environment: Environment,
): HelpCommand | DoctorCommand {
  const { values, positionals } = parse(argv, {
    idle: { type: "string" },
    "secret-file": { type: "string" },
    ca: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "doctor" };
  const problems: string[] = [];
  const fromVariable = nonEmpty(environment["RENDEZVOUS_URL"]);
  const [named, ...more] = positionals;
  const url = named ?? fromVariable;
  if (url === undefined || more.length > 0)
    problems.push(
      "Name the relay: `npx rendezvous doctor https://relay.example.com`.",
    );
  const what = named === undefined ? "RENDEZVOUS_URL" : "The relay";
  const relay = url === undefined ? undefined : readUrl(url, what, problems);
  const login =
    relay === undefined
      ? undefined
      : readLogin(relay, text(values["secret-file"]), environment, problems);
  const idle = text(values["idle"]);
  const idleSeconds = idle === undefined ? undefined : Number(idle);
  if (
    idle !== undefined &&
    !(/^[1-9]\d{0,2}$/.test(idle) && Number(idle) <= MAX_IDLE_SECONDS)
  )
    problems.push(
      `--idle must be a number of seconds, 1 to ${String(MAX_IDLE_SECONDS)}, got ${shown(idle)}. Leave it out to test no silence.`,
    );
  const ca = readCa(values["ca"], problems);
  if (problems.length > 0 || relay === undefined)
    throw new SettingsError(problems.join("\n"));
  const json = values["json"] === true;
  return { command: "doctor", relay, login, idleSeconds, ca, json };
}

/** The id and its secret, where the URL names an id. */
function readLogin(
  relay: URL,
  givenFile: string | undefined,
  environment: Environment,
  problems: string[],
): { id: string; secret: string } | undefined {
  const id = decode(relay.username).toLowerCase();
  const file = secretFileOf(givenFile, id === "" ? {} : environment);
  const secret =
    file === undefined
      ? decode(relay.password)
      : readSecretFile(file, problems);
  if (id === "" && (secret !== "" || givenFile !== undefined))
    problems.push(
      "The relay's URL must have the id before its host: `https://ID:SECRET@relay.example.com`.",
    );
  if (id !== "" && !isId(id))
    problems.push(
      "The id must be one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters.",
    );
  if (id !== "" && secret === "")
    problems.push(
      "The secret is missing. Put it into the relay's URL, or name a file with --secret-file. Without an id parking is not tested.",
    );
  return id === "" || secret === undefined ? undefined : { id, secret };
}
