// What a relay can be told: every setting, its variable, its bounds and its default.
import { z } from "zod";
import { DEFAULT_PARAMETER, isRevocation } from "../protocol.ts";
import { MAX_FIELDS, MAX_HEAD_OCTETS } from "../wire/head.ts";

/** A setting that was given a value it cannot have. The message has one sentence for each. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

interface Setting<T> {
  readonly variable: string;
  readonly schema: z.ZodType<T>;
  /** Ends the sentence "X must be ...". */
  readonly must: string;
  readonly byDefault: T;
  /** Why the default is what it is, or what leaving it out means. */
  readonly leftOut: string;
  /** The value is not repeated in messages. */
  readonly secret?: true;
}

const count = (variable: string, byDefault: number): Setting<number> => ({
  variable,
  schema: z.coerce.number().int().min(1).max(10_000_000),
  must: "a positive integer",
  byDefault,
  leftOut: String(byDefault),
});

const limit = (variable: string, byDefault: number): Setting<number> => ({
  variable,
  schema: z.coerce.number().int().min(0).max(1_000_000_000),
  must: "a whole number, 0 for no limit",
  byDefault,
  leftOut: byDefault === 0 ? "no limit" : String(byDefault),
});

const upTo = (variable: string, min: number, max: number): Setting<number> => ({
  variable,
  schema: z.coerce.number().int().min(min).max(max),
  must: `a whole number from ${String(min)} to ${String(max)}`,
  byDefault: max,
  leftOut: String(max),
});

const seconds = (variable: string, byDefault: number): Setting<number> => ({
  variable,
  schema: z.coerce.number().positive().max(86_400),
  must: "a positive number of seconds, a day at most",
  byDefault,
  leftOut: String(byDefault),
});

const list = z.preprocess(
  (value) =>
    typeof value === "string"
      ? value.split(/[\s,]+/).filter((entry) => entry !== "")
      : value,
  z.array(z.string()),
);
const domain = z
  .string()
  .toLowerCase()
  .regex(
    /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/,
  );
const onOff = z.preprocess(
  (value) => (value === "on" ? true : value === "off" ? false : value),
  z.boolean(),
);

export const MIN_SECRET_LENGTH = 32;

/** Every setting of the relay. */
export const SETTINGS = {
  relaySecret: {
    variable: "RELAY_SECRET",
    schema: z.string().trim().min(MIN_SECRET_LENGTH),
    must: `a text of ${String(MIN_SECRET_LENGTH)} characters or more (\`openssl rand -hex 32\` makes one)`,
    byDefault: "",
    leftOut: "one that is made at the start, outside production",
    secret: true,
  },
  revoked: {
    variable: "REVOKED",
    schema: list.refine((entries) => entries.every(isRevocation)),
    must: "ids like `pi`, or generations from 1 on like `pi@1`, separated by commas or lines",
    byDefault: [],
    leftOut: "none",
  },
  baseDomain: {
    variable: "BASE_DOMAIN",
    schema: domain,
    must: "a domain name like `example.com`",
    byDefault: undefined,
    leftOut: "no naming by host",
  },
  publicUrl: {
    variable: "PUBLIC_URL",
    schema: z.url({ protocol: /^https?$/ }),
    must: "the relay's URL, like `https://relay.example.com`",
    byDefault: undefined,
    leftOut: "what the request says",
  },
  parameter: {
    variable: "RENDEZVOUS_PARAMETER",
    schema: z.string().regex(/^(?!grant$)[A-Za-z][\w-]{0,31}$/),
    must: "a word of letters, digits, - and _, and not `grant`",
    byDefault: DEFAULT_PARAMETER,
    leftOut: DEFAULT_PARAMETER,
  },
  cookieNaming: {
    variable: "COOKIE_NAMING",
    schema: onOff,
    must: "on or off",
    byDefault: true,
    leftOut: "on",
  },
  trustProxy: {
    variable: "TRUST_PROXY",
    schema: z.coerce.number().int().min(0).max(16),
    must: "the number of routers in front, 0 to 16",
    byDefault: 0,
    leftOut: "0, or 1 on a platform that is recognised",
  },
  maxConnections: limit("MAX_CONNECTIONS", 20_000),
  maxConnectionsPerAddress: limit("MAX_CONNECTIONS_PER_ADDRESS", 5000),
  maxRequestsPerConnection: limit("MAX_REQUESTS_PER_CONNECTION", 10_000),
  maxHeadOctets: upTo("MAX_HEAD_OCTETS", 1024, MAX_HEAD_OCTETS),
  maxHeadFields: upTo("MAX_HEAD_FIELDS", 16, MAX_FIELDS),
  headSeconds: seconds("HEAD_SECONDS", 30),
  bodySeconds: seconds("BODY_SECONDS", 30),
  minOctetsPerSecond: limit("MIN_OCTETS_PER_SECOND", 100),
  ratePerAddress: limit("RATE_PER_ADDRESS", 1000),
  ratePerServer: limit("RATE_PER_SERVER", 5000),
  octetsPerSecondPerServer: limit("OCTETS_PER_SECOND_PER_SERVER", 0),
  maxTunnels: count("MAX_TUNNELS", 10_000),
  maxTunnelsPerServer: count("MAX_TUNNELS_PER_SERVER", 128),
  maxTunnelsPerVisitor: limit("MAX_TUNNELS_PER_VISITOR", 48),
  maxStreamsPerServer: limit("MAX_STREAMS_PER_SERVER", 48),
  maxWaiting: count("MAX_WAITING", 10_000),
  maxWaitingPerServer: count("MAX_WAITING_PER_SERVER", 512),
  holdSeconds: seconds("HOLD_SECONDS", 10),
  answerSeconds: seconds("ANSWER_SECONDS", 30),
  heartbeatSeconds: seconds("HEARTBEAT_SECONDS", 20),
  genericPort: {
    variable: "GENERIC_PORT",
    schema: z.coerce.number().int().min(0).max(65_535),
    must: "a port number",
    byDefault: undefined,
    leftOut: "no second port",
  },
  idleSeconds: {
    variable: "IDLE_SECONDS",
    schema: z.coerce.number().min(0).max(86_400),
    must: "a number of seconds, 0 for never",
    byDefault: 0,
    leftOut: "never",
  },
  stallSeconds: {
    variable: "STALL_SECONDS",
    schema: z.coerce.number().min(0).max(86_400),
    must: "a number of seconds, 0 for never",
    byDefault: 5 * 60,
    leftOut: "300",
  },
  drainSeconds: seconds("DRAIN_SECONDS", 10),
} as const satisfies Record<string, Setting<unknown>>;

type Settings = typeof SETTINGS;

export type RelayOptions = {
  readonly [Name in keyof Settings]:
    z.infer<Settings[Name]["schema"]> | Settings[Name]["byDefault"];
};

/** A certificate with what leads to its root, and its private key: the text of PEM files. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** What createRelay() takes: the secret, and whatever is to differ from the defaults. */
export type RelaySettings = Readonly<Pick<RelayOptions, "relaySecret">> & {
  readonly [Name in keyof RelayOptions]?: RelayOptions[Name] | undefined;
} & {
  /** The one port speaks TLS with it; left out, plain HTTP. */
  readonly tls?: Certificate | undefined;
};

/**
 * Checks settings, as values or as the text of variables, and fills in the defaults.
 * @throws SettingsError with one sentence for each bad one, all at once
 */
export function checkSettings(
  given: Readonly<Record<string, unknown>>,
): RelayOptions {
  const problems: string[] = [];
  const options: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const value = given[name];
    options[name] = setting.byDefault;
    if (value === undefined || (value === "" && setting.secret !== true))
      continue;
    const result = setting.schema.safeParse(value);
    if (result.success) options[name] = result.data;
    else problems.push(refusal(setting, value));
  }
  if (problems.length > 0) throw new SettingsError(problems.join("\n"));
  return options as RelayOptions;
}

/**
 * Checks a list of revocations, as a value or as text; `variable` names the file that it comes from, if any.
 * @throws SettingsError that names the first wrong entry
 */
export function checkRevoked(
  value: unknown,
  variable?: string,
): readonly string[] {
  const { data: entries } = list.safeParse(value);
  const wrong =
    entries === undefined
      ? value
      : entries.find((entry) => !isRevocation(entry));
  if (entries !== undefined && wrong === undefined) return entries;
  // Without the file nobody would be revoked: that is no cure for a slip in it.
  throw new SettingsError(
    variable === undefined
      ? refusal(SETTINGS.revoked, wrong)
      : `${variable} must name a file of ${SETTINGS.revoked.must}, got ${JSON.stringify(wrong)}. Mend or remove that entry.`,
  );
}

function refusal(setting: Setting<unknown>, value: unknown): string {
  const { variable, must, leftOut, secret } = setting;
  const got = secret === true ? "" : `, got ${JSON.stringify(value)}`;
  return `${variable} must be ${must}${got}. Leave it out for ${leftOut}.`;
}
