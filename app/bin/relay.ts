#!/usr/bin/env node
// The relay program: environment -> createRelay -> listen -> drain.
import { existsSync } from "node:fs";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { pino, type Logger } from "pino";
import { readRelayConfig, type RelayConfig } from "../config.ts";
import { issue } from "../issue.ts";
import { SettingsError, type Certificate } from "../relay/options.ts";
import { createRelay, type Relay } from "../relay/relay.ts";
import { certificateReading, readCertificate } from "./certificate.ts";
import { keepFiles, type Reading } from "./files.ts";
import { RELAY_HELP } from "./help.ts";
import { leaveWithNpm } from "./npm.ts";
import { withinFiles } from "./openfiles.ts";
import { revokedReading } from "./revoked.ts";

/** Connections that may wait to be accepted; the kernel cuts it to its own limit. */
const BACKLOG = 4096;

/** As for `rendezvous`: wrong usage. */
const USAGE_EXIT = 2;

function main(): void {
  const [argument] = process.argv.slice(2);
  if (argument === undefined) serve();
  else answer(argument);
}

/** A flag that went unheard would start a relay that is not the one meant. */
function answer(argument: string): void {
  if (argument === "--help" || argument === "-h") {
    console.log(RELAY_HELP);
    return;
  }
  console.error(
    "The relay takes no arguments. Its settings are environment variables: for another port set PORT. .env.example has all of them.",
  );
  process.exitCode = USAGE_EXIT;
}

function serve(): void {
  if (existsSync(".env")) process.loadEnvFile();
  const prepared = prepare();
  if (prepared === undefined) return;
  const { config, log, relay } = prepared;
  const where = {
    port: config.port,
    backlog: BACKLOG,
    ...(config.host === undefined ? {} : { host: config.host }),
  };
  relay.server.on("error", (error: NodeJS.ErrnoException) => {
    const cure =
      error.code === "EADDRINUSE" || error.code === "EACCES"
        ? "Set PORT to another one."
        : "HOST must be an address of this machine. Leave it out for all of them.";
    console.error(
      `The relay cannot listen on port ${String(config.port)}: ${error.message}. ${cure}`,
    );
    process.exitCode = 1;
  });
  relay.server.listen(where, () => {
    const address = relay.server.address() as AddressInfo;
    log.info({ port: address.port }, "listening");
    if (config.secretIsNew) console.log(firstSteps(config, address.port));
  });
  const { genericPort } = config.options;
  if (genericPort !== undefined) {
    relay.genericServer.on("error", (error) => {
      console.error(
        `The relay cannot listen on GENERIC_PORT ${String(genericPort)}: ${error.message}.`,
      );
      process.exit(1);
    });
    relay.genericServer.listen({ ...where, port: genericPort });
  }
  const forgetFiles = keepFiles(readingsOf(prepared), log);
  let leaving = false;
  const leave = (): void => {
    leaving = true;
    forgetFiles();
    void relay.drain().then(() => {
      log.info("bye");
    });
  };
  process.on("SIGTERM", leave).on("SIGINT", leave);
  // Not a second time, which would end all at once.
  leaveWithNpm(() => {
    if (!leaving) leave();
  });
}

interface Prepared {
  readonly config: RelayConfig;
  readonly log: Logger;
  readonly relay: Relay;
  readonly tls: Certificate | undefined;
}

function prepare(): Prepared | undefined {
  try {
    const config = readRelayConfig(process.env);
    const { certificateFiles, options } = config;
    const tls =
      certificateFiles === undefined
        ? undefined
        : readCertificate(certificateFiles);
    const log = pino({ level: config.logLevel });
    const maxConnections = withinFiles(options.maxConnections);
    const relay = createRelay({ ...options, maxConnections, tls }, log);
    if (maxConnections < options.maxConnections)
      log.warn(
        { connections: maxConnections },
        "the system allows fewer open files than MAX_CONNECTIONS needs: raise `ulimit -n`, or lower MAX_CONNECTIONS",
      );
    return { config, log, tls, relay };
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
    return undefined;
  }
}

/** What the relay reads again while it runs. */
function readingsOf({ config, log, relay, tls }: Prepared): Reading[] {
  const { certificateFiles, revokedFile, options } = config;
  const readings: Reading[] = [];
  if (certificateFiles !== undefined && tls !== undefined)
    readings.push(certificateReading(certificateFiles, tls, relay, log));
  if (revokedFile !== undefined)
    readings.push(revokedReading(revokedFile, options.revoked, relay));
  return readings;
}

/** For the first minute with the relay: commands that work when they are pasted. */
function firstSteps(
  { options, certificateFiles }: RelayConfig,
  port: number,
): string {
  const scheme = certificateFiles === undefined ? "http" : "https";
  const { url, visit } = issue("demo", {
    ...options,
    relay: new URL(
      options.publicUrl ?? `${scheme}://localhost:${String(port)}`,
    ),
  });
  return `
There is no RELAY_SECRET, so one was made; it is forgotten when the relay stops.

Park a server that listens on port 8080, say \`python3 -m http.server 8080\`:

    npx rendezvous park ${url} 8080

Visit it:

    curl '${visit}'

For good: RELAY_SECRET=$(openssl rand -hex 32) in the environment or in .env, then \`npx rendezvous issue ID\`.
`;
}

main();
