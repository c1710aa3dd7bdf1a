// Single values as people write them: read, or refused in a sentence that names the value and the cure.
import { readFileSync } from "node:fs";
import { readPort } from "./protocol.ts";
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
    `${flag} must be a positive integer, got ${JSON.stringify(value)}. Leave it out for ${String(byDefault)}.`,
  );
  return byDefault;
}

/** What a file says, without white space around it. */
export function readText(file: string, problems: string[]): string | undefined {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    problems.push(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
    );
    return undefined;
  }
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

/** What was given, as an error may show it: without the secret of a URL. */
export function shown(value: string): string {
  return JSON.stringify(value.replace(/(^|\/\/)[^/]*@/, "$1"));
}
