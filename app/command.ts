// The command lines of `rendezvous`. Every problem is reported at once, in a sentence that names its cure.
import { parseArgs, type ParseArgsConfig } from "node:util";
import { DEFAULT_PORT, readPortVariable, readVariables } from "./config.ts";
import { GRANT, grantTypeOf, type GrantLimits } from "./grant.ts";
import {
  ECHO_HOST,
  WAYS,
  isId,
  readPort,
  readWay,
  type Way,
} from "./protocol.ts";
import {
  SettingsError,
  checkSettings,
  type RelayOptions,
} from "./relay/options.ts";
import {
  collect,
  decode,
  nonEmpty,
  readCount,
  readLink,
  readListenPlace,
  readMethods,
  readPath,
  readPlace,
  readPorts,
  readService,
  readSpan,
  readText,
  readUrl,
  readUses,
  readVisit,
  shown,
  withoutLogin,
  type Environment,
  type ServiceAddress,
} from "./values.ts";

/** A command line of the `rendezvous` program, checked. */
export type Command =
  | { readonly command: "help"; readonly topic: string | undefined }
  | { readonly command: "version" }
  | {
      readonly command: "issue";
      readonly id: string;
      readonly relay: URL;
      readonly json: boolean;
      readonly settings: RelayOptions;
    }
  | {
      readonly command: "park";
      readonly relay: URL;
      readonly id: string;
      readonly secret: string;
      /** The HTTP service; undefined where only TCP services are offered, of which the one at port 80 may be HTTP. */
      readonly service: ServiceAddress | undefined;
      readonly tcp: ReadonlyMap<number, ServiceAddress>;
      readonly spare: number;
      readonly max: number;
      readonly ca: string | undefined;
      readonly verbose: boolean;
      readonly via: Way | undefined;
      /** Only visitors with a grant may come in. */
      readonly private: boolean;
    }
  | {
      readonly command: "share";
      /** Where visitors come in, without a grant. */
      readonly visit: URL;
      readonly id: string;
      readonly secret: string;
      readonly limits: GrantLimits;
      /** Print the QR code also where nobody looks at a terminal. */
      readonly qr: boolean;
      readonly json: boolean;
    }
  | {
      readonly command: "dial";
      readonly relay: URL;
      readonly id: string;
      readonly port: number;
      readonly via: Way | undefined;
      /** Serve a local port instead of stdin and stdout. */
      readonly listen: ServiceAddress | undefined;
      readonly grant: string | undefined;
      readonly ca: string | undefined;
      readonly verbose: boolean;
    }
  | {
      readonly command: "doctor";
      readonly relay: URL;
      /** With it parking is tested too. */
      readonly login: Readonly<{ id: string; secret: string }> | undefined;
      readonly idleSeconds: number | undefined;
      readonly ca: string | undefined;
      readonly json: boolean;
    };

/** The relay's echo, by which silence is tested, lasts 15 minutes. */
const MAX_IDLE_SECONDS = 850;

/**
 * Reads a command line.
 * @throws SettingsError with one sentence for each problem
 */
export function readCommand(
  argv: readonly string[],
  environment: Environment,
): Command {
  const [name, ...rest] = argv;
  switch (name) {
    case undefined:
    case "help":
    case "--help":
    case "-h":
      return { command: "help", topic: rest[0] };
    case "--version":
    case "-v":
      return { command: "version" };
    case "issue":
      return readIssue(rest, environment);
    case "park":
      return readPark(rest, environment);
    case "dial":
      return readDial(rest, environment);
    case "share":
      return readShare(rest, environment);
    case "doctor":
      return readDoctor(rest, environment);
    default:
      throw new SettingsError(
        `There is no command ${shown(name)}. \`rendezvous help\` lists them.`,
      );
  }
}

function readIssue(argv: readonly string[], environment: Environment): Command {
  const { values, positionals } = parse(argv, {
    relay: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "issue" };
  const problems: string[] = [];
  const [id, ...more] = positionals;
  if (id === undefined || more.length > 0)
    problems.push("Name one id: `rendezvous issue ID`.");
  const given = readVariables(environment, problems);
  if (given["relaySecret"] === undefined) {
    problems.push(
      "RELAY_SECRET must be set to the relay's secret, or RELAY_SECRET_FILE to a file that has it.",
    );
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

function readPark(argv: readonly string[], environment: Environment): Command {
  const { values, positionals } = parse(argv, {
    spare: { type: "string" },
    max: { type: "string" },
    ca: { type: "string" },
    "secret-file": { type: "string" },
    tcp: { type: "string", multiple: true },
    verbose: { type: "boolean" },
    via: { type: "string" },
    private: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "park" };
  const problems: string[] = [];
  const fromVariable = nonEmpty(environment["RENDEZVOUS_URL"]);
  // The relay comes first, unless the variable names it.
  const isNamed =
    positionals[0] !== undefined && /^https?:\/\/[^/]*@/.test(positionals[0]);
  const named =
    isNamed || fromVariable === undefined
      ? positionals
      : [fromVariable, ...positionals];
  const [url, target]: readonly (string | undefined)[] = named;
  const tcp = readTcp(values["tcp"], problems);
  if (
    url === undefined ||
    (target === undefined && values["tcp"] === undefined) ||
    named.length > 2
  ) {
    problems.push(
      "Name the relay and the service: `rendezvous park https://ID:SECRET@relay.example.com 8080`.",
    );
  }
  const relay =
    url === undefined
      ? undefined
      : readUrl(
          url,
          url === fromVariable ? "RENDEZVOUS_URL" : "The relay",
          problems,
        );
  const secretFile =
    text(values["secret-file"]) ??
    nonEmpty(environment["RENDEZVOUS_SECRET_FILE"]);
  const secret =
    secretFile === undefined
      ? decode(relay?.password ?? "")
      : readText(secretFile, problems);
  const id = decode(relay?.username ?? "");
  if (relay !== undefined && id === "")
    problems.push(
      "The relay's URL must have the id before its host: `https://ID:SECRET@relay.example.com`.",
    );
  if (relay !== undefined && id !== "" && secret === "")
    problems.push(
      "The secret is missing. Put it into the relay's URL, or name a file with --secret-file.",
    );
  const service =
    target === undefined ? undefined : readService(target, problems);
  const via = readVia(values["via"], problems);
  const spare = readCount(text(values["spare"]), "--spare", 4, problems);
  const max = readCount(text(values["max"]), "--max", 64, problems);
  const caFile = text(values["ca"]);
  const ca = caFile === undefined ? undefined : readText(caFile, problems);
  if (problems.length > 0 || relay === undefined || secret === undefined)
    throw new SettingsError(problems.join("\n"));
  return {
    command: "park",
    relay,
    id,
    secret,
    service,
    tcp,
    spare,
    max,
    ca,
    verbose: values["verbose"] === true,
    via,
    private: values["private"] === true,
  };
}

function readShare(argv: readonly string[], environment: Environment): Command {
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
      "Name the URL that visitors use, as `rendezvous issue` prints it: `rendezvous share 'https://relay.example.com/?rendezvous=ID'`.",
    );
  const place =
    named === undefined
      ? undefined
      : readVisit(
          named,
          nonEmpty(environment["RENDEZVOUS_PARAMETER"]),
          problems,
        );
  const secret =
    place === undefined
      ? undefined
      : readSecretOf(place, text(values["secret-file"]), environment, problems);
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
  if (limits.path !== undefined && visit.pathname === "/")
    visit.pathname = limits.path;
  return {
    command: "share",
    visit,
    id: place.id,
    secret,
    limits,
    qr: values["qr"] === true,
    json: values["json"] === true,
  };
}

/** The secret of the id of a link, from where park takes it. */
function readSecretOf(
  { id, password }: { readonly id: string; readonly password: string },
  givenFile: string | undefined,
  environment: Environment,
  problems: string[],
): string | undefined {
  const file = givenFile ?? nonEmpty(environment["RENDEZVOUS_SECRET_FILE"]);
  if (file !== undefined) return readText(file, problems);
  if (password !== "") return password;
  const variable = nonEmpty(environment["RENDEZVOUS_URL"]);
  const parked =
    variable === undefined
      ? undefined
      : readUrl(variable, "RENDEZVOUS_URL", problems);
  const owner = decode(parked?.username ?? "").toLowerCase();
  if (owner !== "" && owner !== id)
    problems.push(
      `RENDEZVOUS_URL has the secret of ${shown(owner)}, and the link is for ${shown(id)}.`,
    );
  const secret = decode(parked?.password ?? "");
  if (secret === "" && (variable === undefined || parked !== undefined))
    problems.push(
      `The secret of ${shown(id)} is missing. Name a file with --secret-file, or set RENDEZVOUS_URL as for \`rendezvous park\`.`,
    );
  return secret;
}

function readDial(argv: readonly string[], environment: Environment): Command {
  const { values, positionals } = parse(argv, {
    grant: { type: "string" },
    via: { type: "string" },
    listen: { type: "string" },
    ca: { type: "string" },
    verbose: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  });
  if (values["help"] === true) return { command: "help", topic: "dial" };
  const problems: string[] = [];
  const [url, host, portText]: readonly (string | undefined)[] = positionals;
  const id = host === undefined ? undefined : withoutDomain(host);
  const port = readPort(portText ?? "");
  if (positionals.length !== 3 || port === undefined) {
    problems.push(
      "Name the relay, the id and a port from 1 to 65535: `rendezvous dial https://relay.example.com ID 22`.",
    );
  }
  if (id !== undefined && !isId(id.toLowerCase()))
    problems.push(
      "The id must be one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters.",
    );
  const link = url === undefined ? undefined : readLink(url, id);
  const relay =
    url === undefined
      ? undefined
      : (link?.relay ?? readUrl(url, "The relay", problems));
  const given =
    text(values["grant"]) ??
    link?.grant ??
    nonEmpty(environment["RENDEZVOUS_GRANT"]);
  const grant =
    given === undefined ? undefined : (readLink(given)?.grant ?? given);
  if (grant !== undefined && grantTypeOf(grant) !== GRANT)
    problems.push(
      "The grant must be one that `rendezvous share` has made, or the link with it. Leave it out for a server that is open.",
    );
  const via = readVia(values["via"], problems);
  const listen = text(values["listen"]);
  const place = listen === undefined ? undefined : readListenPlace(listen);
  if (listen !== undefined && place === undefined)
    problems.push(
      `--listen must be a port or host:port, got ${shown(listen)}. Port 0 is any free one.`,
    );
  const caFile = text(values["ca"]);
  const ca = caFile === undefined ? undefined : readText(caFile, problems);
  if (
    problems.length > 0 ||
    relay === undefined ||
    id === undefined ||
    port === undefined
  )
    throw new SettingsError(problems.join("\n"));
  const verbose = values["verbose"] === true;
  return {
    command: "dial",
    relay,
    id,
    port,
    via,
    listen: place,
    grant,
    ca,
    verbose,
  };
}

/** The id in the long name of a hidden server, which a relay takes too; whatever else it is stays. */
function withoutDomain(host: string): string {
  const domain = `.${ECHO_HOST}`;
  const isLong = host.toLowerCase().endsWith(domain);
  return isLong ? host.slice(0, -domain.length) : host;
}

function readDoctor(
  argv: readonly string[],
  environment: Environment,
): Command {
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
      "Name the relay: `rendezvous doctor https://relay.example.com`.",
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
  const caFile = text(values["ca"]);
  const ca = caFile === undefined ? undefined : readText(caFile, problems);
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
  const file =
    givenFile ??
    (id === "" ? undefined : nonEmpty(environment["RENDEZVOUS_SECRET_FILE"]));
  const secret =
    file === undefined ? decode(relay.password) : readText(file, problems);
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

function readVia(value: unknown, problems: string[]): Way | undefined {
  const via = readWay(value);
  if (value !== undefined && via === undefined)
    problems.push(
      `--via must be one of ${WAYS.join(", ")}, got ${shown(text(value) ?? "")}. Leave it out for the best that gets through.`,
    );
  return via;
}

/** `22`, `5432=db.lan:5432`, `80=localhost:8080`: the port that visitors name, and where the service listens. */
function readTcp(
  values: unknown,
  problems: string[],
): Map<number, ServiceAddress> {
  const offered = new Map<number, ServiceAddress>();
  for (const value of Array.isArray(values) ? (values as unknown[]) : []) {
    const offer = String(value);
    const [name = "", place = name] = offer.split(/=(.*)/s, 2);
    const port = readPort(name);
    const service = readPlace(place);
    if (port === undefined || service === undefined)
      problems.push(
        `--tcp must be a port like 22, or like 5432=db.lan:5432, got ${shown(offer)}.`,
      );
    else if (offered.has(port))
      problems.push(`--tcp names port ${String(port)} twice. Name it once.`);
    else offered.set(port, service);
  }
  return offered;
}

/**
 * Takes flags and other words apart.
 * @throws SettingsError with one sentence for each flag that cannot be
 */
function parse(
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

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
