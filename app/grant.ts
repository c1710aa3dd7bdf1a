// A grant: what the owner of a private hidden server hands to a visitor. It is made offline from the id's secret, and the relay reads it.
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { decodeSecret, deriveGrantKey, isId } from "./protocol.ts";

/** The query parameter that a grant stands in. */
export const GRANT_PARAMETER = "grant";
/** The JOSE header's `typ`: of a grant, and of what the relay gives a browser for one. */
export const GRANT = "grant+jwt";
export const GRANT_COOKIE = "grant-cookie+jwt";
export type GrantType = typeof GRANT | typeof GRANT_COOKIE;

/** Of a grant, and of the cookie that is made of it: a browser has 4096 octets for a cookie's name, value and attributes. */
const MAX_OCTETS = 3 * 1024;
/** A header has two short members. */
const MAX_HEADER_OCTETS = 256;
const MAX_SECONDS = 366 * 24 * 60 * 60;
/** Seconds that the clocks of an owner and of the relay may differ by. */
const CLOCK_SKEW_SECONDS = 60;
/** Enough never to make one twice, and short for a QR code. */
const JTI_OCTETS = 12;
const MAX_METHODS = 16;
const MAX_PORTS = 64;
const MAX_USES = 1_000_000;

const METHOD = /^[A-Z!#$%&'*+\-.^_`|~0-9]{1,64}$/;
/** 32 octets in base64url. */
const SIGNATURE_CHARACTERS = 43;
const COMPACT = new RegExp(
  `^([\\w-]+)\\.([\\w-]+)\\.([\\w-]{${String(SIGNATURE_CHARACTERS)}})$`,
);

/** What a claim may be. One that is not here may be a limit that is not known here, so that it is refused. */
const CLAIMS = z.strictObject({
  sub: z.string().refine(isId),
  iat: z.int().min(0),
  exp: z.int().min(0),
  jti: z.string().min(1).max(128),
  path: z.string().refine(isPlainPath).optional(),
  methods: z.array(z.string().regex(METHOD)).min(1).max(MAX_METHODS).optional(),
  ports: z.array(z.int().min(1).max(65_535)).min(1).max(MAX_PORTS).optional(),
  uses: z.int().min(1).max(MAX_USES).optional(),
});

/** What a grant says (PROTOCOL.md 15.2). */
export type Grant = Readonly<z.infer<typeof CLAIMS>>;

/** What its owner decides. */
export interface GrantLimits {
  /** HTTP: this path and what is below it. */
  readonly path?: string | undefined;
  /** HTTP: these methods, in upper case. */
  readonly methods?: readonly string[] | undefined;
  /** TCP: these ports. */
  readonly ports?: readonly number[] | undefined;
  readonly uses?: number | undefined;
  readonly seconds: number;
}

/** What a visitor wants: a request, or a TCP stream. `target` is what is forwarded. */
export type Wanted =
  | {
      readonly id: string;
      readonly method: string;
      readonly target: string;
    }
  | { readonly id: string; readonly port: number };

/**
 * Makes a grant, with the secret of an id as `rendezvous issue` prints it.
 * @throws RangeError in a sentence for its owner when nobody would take it
 */
export function makeGrant(
  id: string,
  secret: string,
  { path, methods, ports, uses, seconds }: GrantLimits,
): { readonly token: string; readonly grant: Grant } {
  const key = decodeSecret(secret);
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    sub: id,
    iat,
    exp: iat + seconds,
    jti: randomBytes(JTI_OCTETS).toString("base64url"),
    ...(path === undefined ? {} : { path }),
    ...(methods === undefined ? {} : { methods }),
    ...(ports === undefined ? {} : { ports }),
    ...(uses === undefined ? {} : { uses }),
  };
  const token = signGrant(GRANT, claims, key);
  const grant = readGrant(GRANT, token, () => key);
  if (grant === undefined)
    throw new RangeError(
      "A grant has an id, a path that can be read in one way only, at most 16 methods and 64 ports, ends within 366 days, and has at most 3 KiB, as a cookie too.",
    );
  return { token, grant };
}

/** Signs what a grant says, with an id's secret. */
export function signGrant(
  typ: GrantType,
  claims: object,
  key: Uint8Array,
): string {
  const signed = unsigned(typ, claims);
  return `${signed}.${signatureOf(signed, key).toString("base64url")}`;
}

/** What a browser is given for a grant: it says the same, but is not counted. */
export function signCookie(grant: Grant, key: Uint8Array): string {
  return signGrant(GRANT_COOKIE, { ...grant, uses: undefined }, key);
}

/** Whether the cookie of a grant is good too. It may be the longer one of the two: not by its type alone, for a grant may write shortly what it says (1e4). */
function fitsCookie(grant: Grant): boolean {
  const { length } = unsigned(GRANT_COOKIE, { ...grant, uses: undefined });
  return length + 1 + SIGNATURE_CHARACTERS <= MAX_OCTETS;
}

function unsigned(typ: GrantType, claims: object): string {
  const encode = (part: object): string =>
    Buffer.from(JSON.stringify(part)).toString("base64url");
  return `${encode({ typ, alg: "HS256" })}.${encode(claims)}`;
}

/**
 * What a grant says, if an id's secret vouches for it; `keyOf` gives that secret. Whether it has ended is another question.
 * It takes no turn of the event loop, so that between a check and what it allows nothing can happen.
 */
export function readGrant(
  type: GrantType,
  token: string,
  keyOf: (id: string) => Uint8Array | undefined,
): Grant | undefined {
  const [, header = "", payload = "", signature = ""] =
    (token.length > MAX_OCTETS ? undefined : COMPACT.exec(token)) ?? [];
  const head = readJson(header);
  if (head === undefined || Object.keys(head).length !== 2) return undefined;
  if (head["alg"] !== "HS256" || head["typ"] !== type) return undefined;
  const { data: grant } = CLAIMS.safeParse(readJson(payload));
  if (grant === undefined || !fitsCookie(grant)) return undefined;
  const key = keyOf(grant.sub);
  if (key === undefined) return undefined;
  const right = signatureOf(`${header}.${payload}`, key);
  const given = Buffer.from(signature, "base64url");
  if (given.length !== right.length || !timingSafeEqual(given, right))
    return undefined;
  const latest = Date.now() / 1000 + CLOCK_SKEW_SECONDS;
  const { iat, exp } = grant;
  return iat <= latest && exp - iat <= MAX_SECONDS ? grant : undefined;
}

/** Which kind of grant a text says it is; undefined for whatever is not ours. Nothing is checked. */
export function grantTypeOf(text: string): GrantType | undefined {
  const end = text.indexOf(".");
  if (end <= 0 || end > MAX_HEADER_OCTETS) return undefined;
  const typ = readJson(text.slice(0, end))?.["typ"];
  if (typeof typ !== "string") return undefined;
  const short = typ.toLowerCase().replace(/^application\//, "");
  return short === GRANT || short === GRANT_COOKIE ? short : undefined;
}

/** Why a grant does not allow something now, in words for its holder; undefined when it does. Uses are not looked at. */
export function whyNot(grant: Grant, wanted: Wanted): string | undefined {
  if (grant.sub !== wanted.id) return UNKNOWN;
  if (grant.exp * 1000 <= Date.now()) return "it has expired";
  const { path, methods, ports } = grant;
  const isHttpOnly = path !== undefined || methods !== undefined;
  if ("port" in wanted) {
    if (ports === undefined)
      return isHttpOnly ? "it is for HTTP only" : undefined;
    return ports.includes(wanted.port)
      ? undefined
      : "it is for other ports only";
  }
  if (ports !== undefined && !isHttpOnly) return "it is for TCP only";
  if (methods !== undefined && !methods.includes(wanted.method))
    return "it is for other methods only";
  if (path === undefined) return undefined;
  const [wantedPath = ""] = wanted.target.split("?", 1);
  if (!isPlainPath(wantedPath))
    return "it is for one path, and this one can be read in more than one way";
  return isBelow(wantedPath, path) ? undefined : OTHER_PATH;
}

/** What is said of each grant that nobody vouches for: whoever tries is told no more. */
export const UNKNOWN =
  "it was not made for this server, or with a secret that was taken back, or by a clock that is ahead, or is not known";

/** A browser has the cookie of one link only, so that the link of another page must be opened again. */
const OTHER_PATH =
  "it is for another path; if you have a link for this page, open that again";

/** Whether every server reads a path in the same way, whatever it decodes and normalises. */
export function isPlainPath(path: string): boolean {
  if (!/^\/[\x21-\x7e]*$/.test(path) || /[?#]/.test(path)) return false;
  let decoded;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    return false;
  }
  // Some file systems and servers take full-width forms for the plain ones.
  const folded = decoded.normalize("NFKC");
  return (
    !/%2[ef]/i.test(path) &&
    !/[\p{Cc}\\%]|\/\//u.test(folded) &&
    slashes(folded) === slashes(path) &&
    // ". ." and "..;x" are ".." to somebody.
    !/\/[. ]+(?:[/;]|$)/.test(folded)
  );
}

function slashes(text: string): number {
  return text.split("/").length;
}

/** Whether one plain path is another or below it; segments count as wholes. */
export function isBelow(path: string, prefix: string): boolean {
  const [at, from] = [path, prefix].map((text) =>
    text.replaceAll(/%[\da-f]{2}/gi, (octet) => octet.toUpperCase()),
  );
  if (at === undefined || from === undefined) return false;
  return at === from || at.startsWith(from.endsWith("/") ? from : `${from}/`);
}

function signatureOf(signed: string, key: Uint8Array): Buffer {
  return createHmac("sha256", deriveGrantKey(key)).update(signed).digest();
}

function readJson(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(
      Buffer.from(part, "base64url").toString(),
    );
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
