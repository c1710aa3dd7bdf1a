// The relay's environment. Every problem is reported at once, in a sentence that names its cure.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  MIN_SECRET_LENGTH,
  SETTINGS,
  SettingsError,
  checkRevoked,
  checkSettings,
  type RelayOptions,
} from "./relay/options.ts";
import { collect, nonEmpty, readText, type Environment } from "./values.ts";

/** Set by platforms that put exactly one router in front. */
const PLATFORM_VARIABLES = [
  "DYNO",
  "RENDER",
  "FLY_MACHINE_ID",
  "CF_INSTANCE_INDEX",
  "CONTAINER",
  "KOYEB_INSTANCE_ID",
  "RAILWAY_SERVICE_ID",
];
const LOG_LEVELS = [
  "fatal",
  "error",
  "warn",
  "info",
  "debug",
  "trace",
  "silent",
];
/** Where the relay listens when nobody says where. */
export const DEFAULT_PORT = 5000;

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface RelayConfig {
  readonly options: RelayOptions;
  readonly port: number;
  /** Undefined: every address. */
  readonly host: string | undefined;
  readonly logLevel: string;
  /** Where certificate and key are, for a port that speaks TLS. */
  readonly certificateFiles: CertificateFiles | undefined;
  /** Has more of REVOKED's list. */
  readonly revokedFile: string | undefined;
  /** The relay's secret was made just now, and is lost at the end. */
  readonly secretIsNew: boolean;
}

/**
 * Reads what the relay needs.
 * @throws SettingsError with one sentence for each problem
 */
export function readRelayConfig(environment: Environment): RelayConfig {
  const problems: string[] = [];
  const production = environment["NODE_ENV"] === "production";
  const given = readVariables(environment, problems);
  const secretIsNew = given["relaySecret"] === undefined && !production;
  if (secretIsNew) given["relaySecret"] = randomBytes(32).toString("hex");
  if (given["relaySecret"] === undefined) {
    problems.push(
      `RELAY_SECRET must be set in production: a text of ${String(MIN_SECRET_LENGTH)} characters or more, as \`openssl rand -hex 32\` makes one.`,
    );
  }
  const options = collect(problems, () => checkSettings(given));
  const port = collect(problems, () => readPortVariable(environment));
  if (port !== undefined && port !== 0 && port === options?.genericPort)
    problems.push(
      "GENERIC_PORT must be another port than PORT. Leave it out for none.",
    );
  const certificateFiles = readCertificateFiles(environment, problems);
  const logLevel = nonEmpty(environment["LOG_LEVEL"]) ?? "info";
  if (!LOG_LEVELS.includes(logLevel))
    problems.push(
      `LOG_LEVEL must be one of ${LOG_LEVELS.join(", ")}, got ${JSON.stringify(logLevel)}. Leave it out for info.`,
    );
  if (problems.length > 0 || options === undefined || port === undefined)
    throw new SettingsError(problems.join("\n"));
  return {
    options,
    port,
    host: nonEmpty(environment["HOST"]),
    logLevel,
    certificateFiles,
    revokedFile: nonEmpty(environment["REVOKED_FILE"]),
    secretIsNew,
  };
}

/** The relay's settings by their names, as far as the environment has them. */
export function readVariables(
  environment: Environment,
  problems: string[],
): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const [name, { variable }] of Object.entries(SETTINGS))
    given[name] = nonEmpty(environment[variable]);
  const file = nonEmpty(environment["RELAY_SECRET_FILE"]);
  if (file !== undefined)
    given["relaySecret"] ??= readText(file, problems, "RELAY_SECRET_FILE");
  given["revoked"] = collect(problems, () => readRevoked(environment));
  if (
    PLATFORM_VARIABLES.some(
      (variable) => nonEmpty(environment[variable]) !== undefined,
    )
  )
    given["trustProxy"] ??= 1;
  return given;
}

/**
 * What REVOKED and REVOKED_FILE say together.
 * @throws SettingsError with a sentence for the first one that is wrong
 */
export function readRevoked(environment: Environment): readonly string[] {
  const given = checkRevoked(environment["REVOKED"] ?? "");
  const file = nonEmpty(environment["REVOKED_FILE"]);
  if (file === undefined) return given;
  const text = readSettingFile("REVOKED_FILE", file, "Leave it out for none.");
  return [...given, ...checkRevoked(text, "REVOKED_FILE")];
}

/**
 * What the file says that a variable names; `cure` ends the sentence where it cannot be read.
 * @throws SettingsError
 */
export function readSettingFile(
  variable: string,
  file: string,
  cure: string,
): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SettingsError(
      `${variable} must be a file that the relay can read: ${reason}. ${cure}`,
    );
  }
}

function readCertificateFiles(
  environment: Environment,
  problems: string[],
): CertificateFiles | undefined {
  const cert = nonEmpty(environment["TLS_CERT"]);
  const key = nonEmpty(environment["TLS_KEY"]);
  if (cert !== undefined && key !== undefined) return { cert, key };
  if (cert !== undefined || key !== undefined) {
    const [set, missing] =
      key === undefined ? ["TLS_CERT", "TLS_KEY"] : ["TLS_KEY", "TLS_CERT"];
    problems.push(
      `${missing} must be set where ${set} is: certificate and key are two files. Leave both out for plain HTTP.`,
    );
  }
  return undefined;
}

/**
 * The port that the relay is to listen on.
 * @throws SettingsError
 */
export function readPortVariable(environment: Environment): number {
  const port = nonEmpty(environment["PORT"]) ?? String(DEFAULT_PORT);
  if (/^\d{1,5}$/.test(port) && Number(port) <= 65_535) return Number(port);
  throw new SettingsError(
    `PORT must be a port number, 0 to 65535, got ${JSON.stringify(port)}. Leave it out for ${String(DEFAULT_PORT)}.`,
  );
}
