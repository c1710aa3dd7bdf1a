// The command line of `rendezvous park`: a relay, and the services that are offered through it.
import { readPort, type Way } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import {
  decode,
  nonEmpty,
  readCount,
  readPlace,
  readService,
  readSecretFile,
  readUrl,
  secretFileOf,
  shown,
  type Environment,
  type ServiceAddress,
} from "../values.ts";
import { parse, readCa, readVia, text, type HelpCommand } from "./flags.ts";

export interface ParkCommand {
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

/**
 * Reads what follows `rendezvous park`.
 * @throws SettingsError with one sentence for each problem
 */
export function readPark(
  argv: readonly string[],
  environment: Environment,
): HelpCommand | ParkCommand {
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
      "Name the relay and the service: `npx rendezvous park https://ID:SECRET@relay.example.com 8080`.",
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
  const secretFile = secretFileOf(text(values["secret-file"]), environment);
  const secret =
    secretFile === undefined
      ? decode(relay?.password ?? "")
      : readSecretFile(secretFile, problems);
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
  const ca = readCa(values["ca"], problems);
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
