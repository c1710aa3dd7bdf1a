// The command line of `rendezvous dial`: a relay, an id and a port, and a grant where it takes one.
import { GRANT, grantTypeOf } from "../grant.ts";
import { ECHO_HOST, isId, readPort, type Way } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import {
  nonEmpty,
  readLink,
  readListenPlace,
  readUrl,
  shown,
  type Environment,
  type ServiceAddress,
} from "../values.ts";
import { parse, readCa, readVia, text, type HelpCommand } from "./flags.ts";

export interface DialCommand {
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

/**
 * Reads what follows `rendezvous dial`.
 * @throws SettingsError with one sentence for each problem
 */
export function readDial(
  argv: readonly string[],
  environment: Environment,
): HelpCommand | DialCommand {
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
      "Name the relay, the id and a port from 1 to 65535: `npx rendezvous dial https://relay.example.com ID 22`.",
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
      "The grant must be one that `npx rendezvous share` has made, or the link with it. Leave it out for a server that is open.",
    );
  const via = readVia(values["via"], problems);
  const listen = text(values["listen"]);
  const place = listen === undefined ? undefined : readListenPlace(listen);
  if (listen !== undefined && place === undefined)
    problems.push(
      `--listen must be a port or host:port, got ${shown(listen)}. Port 0 is any free one.`,
    );
  const ca = readCa(values["ca"], problems);
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
