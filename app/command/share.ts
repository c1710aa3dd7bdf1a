// The command line of `rendezvous share`: a link, the secret of its id, and what the link allows.
import { isBelow, type GrantLimits } from "../grant.ts";
import { DEFAULT_PARAMETER } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import {
  decode,
  nonEmpty,
  readMethods,
  readPath,
  readPorts,
  readSecretFile,
  readSpan,
  readUrl,
  readUses,
  readVisit,
  secretFileOf,
  shown,
  type Environment,
  type VisitPlace,
} from "../values.ts";
import { parse, text, type HelpCommand } from "./flags.ts";

export interface ShareCommand {
  readonly command: "share";
  /** Where visitors come in, without a grant. */
  readonly visit: URL;
  readonly id: string;
  /** Where only the host names the id: the query to add if that host is the relay itself. */
  readonly query: string | undefined;
  readonly secret: string;
  readonly limits: GrantLimits;
  /** Print the QR code also where nobody looks at a terminal. */
  readonly qr: boolean;
  readonly json: boolean;
}

/**
 * Reads what follows `rendezvous share`.
 * @throws SettingsError with one sentence for each problem
 */
export function readShare(
  argv: readonly string[],
  environment: Environment,
): HelpCommand | ShareCommand {
  const { values, positionals } = parse(argv, {
    path: { type: "string" },
    methods: { type: "string" },
    ports: { type: "string" },
    expires: { type: "string" },
    uses: { type: "string" },
    "secret-file": { type: "string" },
    qr: { type: "boolean" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "share" };
  const problems: string[] = [];
  const [named, ...more] = positionals;
  if (named === undefined || more.length > 0)
    problems.push(
      "Name the URL that visitors use, as `npx rendezvous issue` prints it: `npx rendezvous share 'https://relay.example.com/?rendezvous=ID'`.",
    );
  const parameter =
    nonEmpty(environment["RENDEZVOUS_PARAMETER"]) ?? DEFAULT_PARAMETER;
  const query = `?${parameter}=ID`;
  const place =
    named === undefined ? undefined : readVisit(named, parameter, problems);
  if (place !== undefined) checkHost(place, environment, problems);
  const secret =
    place === undefined
      ? undefined
      : readSecretOf(
          place,
          text(values["secret-file"]),
          environment,
          place.isByHost
            ? ` The URL's host names it; add ${query} if that host is the relay itself.`
            : "",
          problems,
        );
  const path = text(values["path"]);
  const limits: GrantLimits = {
    path: path === undefined ? undefined : readPath(path, problems),
    methods: readMethods(text(values["methods"]), problems),
    ports: readPorts(text(values["ports"]), problems),
    uses: readUses(text(values["uses"]), problems),
    seconds: readSpan(text(values["expires"]), problems),
  };
  if (problems.length > 0 || place === undefined || secret === undefined)
    throw new SettingsError(problems.join("\n"));
  const visit = new URL(place.visit);
  const { path: allowed } = limits;
  if (allowed !== undefined && visit.pathname === "/") visit.pathname = allowed;
  if (allowed !== undefined && !isBelow(visit.pathname, allowed))
    throw new SettingsError(
      `The link leads to ${visit.pathname}, which --path ${allowed} does not allow. Leave the path out of the URL.`,
    );
  return {
    command: "share",
    visit,
    id: place.id,
    query: place.isByHost ? query : undefined,
    secret,
    limits,
    qr: values["qr"] === true,
    json: values["json"] === true,
  };
}

/** Where a host is known to be below the relay's, its label names an id too: the relay refuses two that differ. */
function checkHost(
  { visit, id }: VisitPlace,
  environment: Environment,
  problems: string[],
): void {
  const variable = environment["RENDEZVOUS_URL"] ?? "";
  const domains = [
    environment["BASE_DOMAIN"]?.toLowerCase() ?? "",
    URL.canParse(variable) ? new URL(variable).hostname : "",
  ];
  for (const domain of domains) {
    if (domain === "" || !visit.hostname.endsWith(`.${domain}`)) continue;
    const label = visit.hostname.slice(0, -domain.length - 1);
    if (label === id) continue;
    problems.push(
      `The URL names two ids, ${shown(id)} and by its host ${shown(label)}. Name one.`,
    );
    return;
  }
}

/** The secret of the id of a link, from where park takes it. `unsure` is said where the id may not be the one that was meant. */
function readSecretOf(
  { id, password }: VisitPlace,
  givenFile: string | undefined,
  environment: Environment,
  unsure: string,
  problems: string[],
): string | undefined {
  const file = secretFileOf(givenFile, environment);
  if (file !== undefined) return readSecretFile(file, problems);
  if (password !== "") return password;
  const variable = nonEmpty(environment["RENDEZVOUS_URL"]);
  const parked =
    variable === undefined
      ? undefined
      : readUrl(variable, "RENDEZVOUS_URL", problems);
  const owner = decode(parked?.username ?? "").toLowerCase();
  if (owner !== "" && owner !== id)
    problems.push(
      `RENDEZVOUS_URL has the secret of ${shown(owner)}, and the link is for ${shown(id)}.${unsure}`,
    );
  const secret = decode(parked?.password ?? "");
  if (secret === "" && (variable === undefined || parked !== undefined))
    problems.push(
      `The secret of ${shown(id)} is missing. Name a file with --secret-file, or set RENDEZVOUS_URL as for \`npx rendezvous park\`.${unsure}`,
    );
  return secret;
}
