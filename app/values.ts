// Single values as people write them: read, or refused in a sentence that names the value and the cure.
import { readFileSync } from "node:fs";
import { GRANT_PARAMETER, isPlainPath } from "./grant.ts";
import { DEFAULT_PARAMETER, isId, readPort, relayOf } from "./protocol.ts";
import { SettingsError } from "./relay/options.ts";

/** Variables by their names. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a service listens. */
export interface ServiceAddress {
  readonly host: string;
  readonly port: number;
}

/** What a function reads, or undefined and one problem more. */
export function collect<T>(problems: string[], read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    problems.push(error.message);
    return undefined;
  }
}

/** The URL of a relay, of http or https and without a path; `name` is what it is given as. */
export function readUrl(
  value: string,
  name: string,
  problems: string[],
): URL | undefined {
  // A bare host is what people type first.
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== "https:" && url?.protocol !== "http:") {
    problems.push(
      `${name} must be a URL like https://relay.example.com, got ${shown(value)}.`,
    );
    return undefined;
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    problems.push(
      `${name} must be a URL that ends with its host, like https://relay.example.com, got ${shown(value)}. A relay has no path.`,
    );
    return undefined;
  }
  return url;
}

/** Where visitors of an id come in, and the password of such a URL where it is one that parks. */
export interface VisitPlace {
  readonly visit: URL;
  readonly id: string;
  readonly password: string;
  /** The host's first label is all that names the id, and it could be the relay's own. */
  readonly isByHost: boolean;
}

/** The URL that `issue` prints for visitors, with a path of their own; or the one that parks. */
export function readVisit(
  value: string,
  parameter = DEFAULT_PARAMETER,
  problems: string[],
): VisitPlace | undefined {
  const visit = URL.canParse(value) ? new URL(value) : undefined;
  if (visit?.protocol !== "https:" && visit?.protocol !== "http:") {
    problems.push(
      `The URL must be one that visitors use, like https://relay.example.com/?rendezvous=ID, got ${shown(value)}.`,
    );
    return undefined;
  }
  const owner = decode(visit.username).toLowerCase();
  const password = decode(visit.password);
  visit.username = visit.password = visit.hash = "";
  visit.searchParams.delete(GRANT_PARAMETER);
  const named = visit.searchParams.getAll(parameter);
  const [asked, other] = new Set([
    ...named.map((name) => name.toLowerCase()),
    ...(owner === "" ? [] : [owner]),
  ]);
  if (asked !== undefined && other !== undefined) {
    problems.push(
      `The URL names two ids, ${shown(asked)} and ${shown(other)}. Name one.`,
    );
    return undefined;
  }
  // In upper case it could be another way of naming: `T` asks for a login.
  if (asked !== undefined && named[0] !== asked)
    visit.searchParams.set(parameter, asked);
  // Below BASE_DOMAIN the first label is the id.
  const label = /^([^.]+)\.[^.]*[a-z]/i.exec(visit.hostname)?.[1];
  const id = asked ?? label;
  if (id === undefined || !isId(id)) {
    problems.push(
      `The URL must name the id, like https://relay.example.com/?${parameter}=ID or https://ID.example.com, got ${shown(value)}.`,
    );
    return undefined;
  }
  return { visit, id, password, isByHost: asked === undefined };
}

/** A link with a grant, as `share` prints it: the relay that it leads to, and the grant. Undefined for any other text. */
export function readLink(
  value: string,
  id?: string,
): { readonly relay: URL; readonly grant: string } | undefined {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const grant = url?.searchParams.get(GRANT_PARAMETER) ?? "";
  if (url === undefined || !/^https?:$/.test(url.protocol) || grant === "")
    return undefined;
  return {
    relay: id === undefined ? new URL(url.origin) : relayOf(url, id),
    grant,
  };
}

/** A path that every server reads in the same way, as it is on the wire. */
export function readPath(
  value: string,
  problems: string[],
): string | undefined {
  const path =
    value.startsWith("/") && !/[?#\\]/.test(value)
      ? new URL(`http://x${value}`).pathname
      : "";
  // What URL takes together was not plain before.
  const isPlain = isPlainPath(path) && !/\/\.{1,2}(\/|$)/.test(value);
  if (isPlain) return path;
  problems.push(
    `--path must be a path like /photos/, that can be read in one way only, got ${shown(value)}.`,
  );
  return undefined;
}

/** `GET,HEAD` */
export function readMethods(
  value: string | undefined,
  problems: string[],
): string[] | undefined {
  const methods = value?.toUpperCase().split(",");
  if (methods?.includes("CONNECT") === true) {
    problems.push("--methods is for HTTP visits. --ports allows CONNECT.");
    return undefined;
  }
  if (methods?.every((method) => /^[A-Z][A-Z-]{0,63}$/.test(method)) !== false)
    return methods;
  problems.push(
    `--methods must be a list like GET,HEAD, got ${shown(value ?? "")}.`,
  );
  return undefined;
}

/** `22,5432` */
export function readPorts(
  value: string | undefined,
  problems: string[],
): number[] | undefined {
  const ports = value?.split(",").map(readPort);
  const good = ports?.filter((port) => port !== undefined);
  if (good?.length !== ports?.length)
    problems.push(
      `--ports must be a list like 22,5432, got ${shown(value ?? "")}.`,
    );
  return good;
}

/** How often a link may be opened. */
export function readUses(
  value: string | undefined,
  problems: string[],
): number | undefined {
  if (value === undefined) return undefined;
  if (/^[1-9]\d{0,5}$/.test(value)) return Number(value);
  problems.push(
    `--uses must be an integer from 1 to 999999, got ${shown(value)}. Leave it out for a link that is opened as often as one likes.`,
  );
  return undefined;
}

const SECONDS_OF = { s: 1, m: 60, h: 60 * 60, d: 24 * 60 * 60 } as const;
const DAY_SECONDS = SECONDS_OF.d;
const MAX_SPAN_SECONDS = 365 * DAY_SECONDS;

/** How long from now, in seconds: `30s`, `10m`, `2h`, `7d`. A day where nobody says. */
export function readSpan(
  value: string | undefined,
  problems: string[],
): number {
  if (value === undefined) return DAY_SECONDS;
  const [, count = "0", unit = "s"] =
    /^([1-9]\d{0,7})([smhd])$/.exec(value) ?? [];
  const seconds = Number(count) * SECONDS_OF[unit as keyof typeof SECONDS_OF];
  if (seconds > 0 && seconds <= MAX_SPAN_SECONDS) return seconds;
  problems.push(
    `--expires must be like 30s, 10m, 2h or 7d, and a year at most, got ${shown(value)}. Leave it out for a day.`,
  );
  return DAY_SECONDS;
}

/** Where the local HTTP service listens: a port, host:port, or http://host:port. */
export function readService(
  target: string,
  problems: string[],
): ServiceAddress | undefined {
  const plain = target.replace(/^http:\/\//, "").replace(/\/$/, "");
  const isHost = plain !== target && !/^\d+$/.test(plain);
  const service =
    readPlace(plain) ?? (isHost ? readPlace(`${plain}:80`) : undefined);
  if (service === undefined)
    problems.push(
      `The service must be a port, host:port or http://host:port, got ${shown(target)}.`,
    );
  return service;
}

/** A port of this machine, or host:port. */
export function readPlace(place: string): ServiceAddress | undefined {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[\w.-]+):)?(\d+)$/.exec(place);
  const port = readPort(match?.[2] ?? "");
  if (port === undefined) return undefined;
  const host = (match?.[1] ?? "localhost").replace(/^\[(.*)\]$/, "$1");
  return { host, port };
}

/** A place to listen at: the same, and port 0 is any free one. */
export function readListenPlace(place: string): ServiceAddress | undefined {
  const host = /^(|.*:)0$/.exec(place)?.[1];
  if (host === undefined) return readPlace(place);
  const service = readPlace(`${host}1`);
  return service === undefined ? undefined : { ...service, port: 0 };
}

/** How many, where more than none makes sense. */
export function readCount(
  value: string | undefined,
  flag: string,
  byDefault: number,
  problems: string[],
): number {
  if (value === undefined) return byDefault;
  if (/^[1-9]\d{0,5}$/.test(value)) return Number(value);
  problems.push(
    `${flag} must be a positive integer, got ${shown(value)}. Leave it out for ${String(byDefault)}.`,
  );
  return byDefault;
}

/** What a file says, without white space around it; `variable` is what names the file, where that is no flag. */
export function readText(
  file: string,
  problems: string[],
  variable?: string,
): string | undefined {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    const who = variable === undefined ? file : `${variable} is ${file}, which`;
    problems.push(
      `${who} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
    );
    return undefined;
  }
}

/** The file with an id's secret that `--secret-file` names, or else the environment. */
export function secretFileOf(
  flag: string | undefined,
  environment: Environment,
): SecretFile | undefined {
  if (flag !== undefined) return { file: flag, variable: undefined };
  const variable = "RENDEZVOUS_SECRET_FILE";
  const file = nonEmpty(environment[variable]);
  return file === undefined ? undefined : { file, variable };
}

interface SecretFile {
  readonly file: string;
  /** Undefined: a flag has named it. */
  readonly variable: string | undefined;
}

/** The secret that a file has; undefined, and a problem, where it has none. */
export function readSecretFile(
  { file, variable }: SecretFile,
  problems: string[],
): string | undefined {
  const secret = readText(file, problems, variable);
  if (secret !== "") return secret;
  problems.push(
    `${file}, which ${variable ?? "--secret-file"} names, is empty. It must have the secret, as \`npx rendezvous issue\` prints it.`,
  );
  return undefined;
}

/** An empty variable counts as left out. */
export function nonEmpty(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}

/** A part of a URL, as it was meant. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What was given, as an error may show it: without the secret of a URL, however it is misspelled. */
export function shown(value: string): string {
  return JSON.stringify(withoutLogin(value));
}

/** Text without what stands before its last @, but for the scheme of a URL. */
export function withoutLogin(value: string): string {
  return value.replace(/^([a-z][a-z0-9+.-]*:\/+)?.*@/is, "$1");
}
