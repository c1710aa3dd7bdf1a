// Which hidden server a request names: five ways, in this order, and one answer.
//   ?rendezvous=ID    GET http://ID/path    Host: ID.BASE_DOMAIN    Authorization after ?rendezvous=T    Cookie: rendezvous=ID
import type { FailureCode } from "../errors.ts";
import { CONNECT_TCP_PATH, isId } from "../protocol.ts";
import { fieldOf, isHost, trimSpace, type RequestHead } from "../wire/head.ts";

export interface NamingOptions {
  /** The name of the query parameter and of the cookie. */
  readonly parameter: string;
  /** Hosts below this domain name hidden servers. */
  readonly baseDomain: string | undefined;
  readonly cookieNaming: boolean;
  /** Other hosts that are the relay itself, without port, in lower case. */
  readonly ownHosts: readonly string[];
}

/** How a request named its server; `target` and `host` are what the hidden server is to see. */
export interface NamedServer {
  readonly to: "server";
  readonly id: string;
  readonly by: "query" | "absolute" | "host" | "authorization" | "cookie";
  readonly target: string;
  readonly host: string | undefined;
}

export type Named =
  | NamedServer
  | { readonly to: "relay"; readonly target: string }
  | { readonly to: "challenge" }
  | {
      readonly to: "nobody";
      readonly code: FailureCode;
      readonly detail?: string;
    };

/** The value of the parameter that asks for the original protocol's challenge. Ids are compared in lower case, this is not. */
const CHALLENGE = "T";
const INTERNAL_SUFFIX = ".rendezvous.internal";
const ABSOLUTE = /^https?:\/\/([^/?]*)(.*)$/i;
const DIGEST_REALM = /[ ,]realm="rendezvous"/i;
const DIGEST_USER = /[ ,]username="((?:[^"\\]|\\.)*)"/i;

/** Reads the name out of a request other than CONNECT. */
export function nameServer(
  request: RequestHead,
  options: NamingOptions,
): Named {
  const absolute = ABSOLUTE.exec(request.target);
  if (
    absolute === null &&
    !request.target.startsWith("/") &&
    request.target !== "*"
  ) {
    return {
      to: "nobody",
      code: "bad_request",
      detail: "the request target is neither a path nor a URL of http",
    };
  }
  const host = absolute === null ? request.host : absolute[1];
  // This becomes the hidden server's Host (RFC 9110 4.2.1, 4.2.4).
  if (absolute !== null && (host === "" || !isHost(host ?? "")))
    return {
      to: "nobody",
      code: "bad_request",
      detail: "the host in the request target is not a host",
    };
  const local =
    absolute === null
      ? request.target
      : originForm(request.method, absolute[2] ?? "");
  const query = takeParameter(local, options.parameter);
  if (query === undefined) return { to: "nobody", code: "ambiguous_name" };

  const byAbsolute =
    absolute === null
      ? undefined
      : hostToId(absolute[1] ?? "", options.baseDomain, true);
  const byHost =
    request.host === undefined
      ? undefined
      : hostToId(request.host, options.baseDomain, false);
  const challenged = query.value === CHALLENGE;
  const byQuery = challenged ? undefined : query.value?.toLowerCase();
  if (byQuery !== undefined && !isId(byQuery)) {
    return {
      to: "nobody",
      code: "bad_request",
      detail: `${options.parameter} is not the id of a hidden server`,
    };
  }
  const id = byQuery ?? byAbsolute ?? byHost;
  if ([byAbsolute, byHost].some((other) => other !== undefined && other !== id))
    return { to: "nobody", code: "ambiguous_name" };
  if (id !== undefined) {
    const by =
      byQuery !== undefined
        ? "query"
        : byAbsolute !== undefined
          ? "absolute"
          : "host";
    return { to: "server", id, by, target: query.rest, host };
  }
  // A proxy would fetch this; the relay dials nothing that a visitor names.
  if (absolute !== null && !isOwnHost(absolute[1] ?? "", options))
    return { to: "nobody", code: "unknown_server" };
  if (isOwnPath(query.rest)) return { to: "relay", target: query.rest };
  return nameByLogin(request, options, challenged, {
    target: query.rest,
    host,
  });
}

/** The ways for which a request need not be written specially: what the program at the other end remembers. */
function nameByLogin(
  request: RequestHead,
  options: NamingOptions,
  challenged: boolean,
  seen: { target: string; host: string | undefined },
): Named {
  const authorization = fieldOf(request.fields, "authorization");
  const cookie = options.cookieNaming
    ? cookieOf(request, options.parameter)
    : undefined;
  if (cookie === null)
    return { to: "nobody", code: "ambiguous_name", detail: "two cookies" };
  // A page that was found by the cookie may have a login of its own; only an answer to our challenge goes before the cookie.
  const ours =
    challenged ||
    cookie === undefined ||
    (authorization !== undefined && DIGEST_REALM.test(authorization));
  if (authorization !== undefined && ours) {
    const user = userOf(authorization)?.toLowerCase();
    if (user === undefined) return { to: "nobody", code: "bad_authorization" };
    if (!isId(user)) return { to: "nobody", code: "unknown_server" };
    return { to: "server", id: user, by: "authorization", ...seen };
  }
  if (challenged) return { to: "challenge" };
  if (cookie !== undefined)
    return { to: "server", id: cookie, by: "cookie", ...seen };
  return { to: "relay", target: seen.target };
}

/** The request's fields that decide who answers where its address names nobody. */
export function decidingFields({
  cookieNaming,
}: Pick<NamingOptions, "cookieNaming">): readonly string[] {
  return cookieNaming ? ["Authorization", "Cookie"] : ["Authorization"];
}

/** The id that a host names: ID and ID.rendezvous.internal for a proxy's clients, ID.BASE_DOMAIN for everybody. */
export function hostToId(
  authority: string,
  baseDomain: string | undefined,
  proxied: boolean,
): string | undefined {
  const host = withoutPort(authority);
  if (baseDomain !== undefined && host.endsWith(`.${baseDomain}`))
    return idOrNone(host.slice(0, -baseDomain.length - 1));
  if (!proxied) return undefined;
  return idOrNone(
    host.endsWith(INTERNAL_SUFFIX)
      ? host.slice(0, -INTERNAL_SUFFIX.length)
      : host,
  );
}

/** The Cookie value without the relay's own cookie; undefined when nothing is left. */
export function withoutCookie(value: string, name: string): string | undefined {
  if (!value.includes(`${name}=`)) return value;
  const rest = value
    .split(";")
    .map(trimSpace)
    .filter((pair) => !pair.startsWith(`${name}=`));
  return rest.length === 0 ? undefined : rest.join("; ");
}

/** Paths that no login and no cookie lead away from the relay. */
function isOwnPath(target: string): boolean {
  return (
    target.startsWith("/-/") ||
    target === "/-" ||
    target.startsWith("/-?") ||
    target.startsWith(CONNECT_TCP_PATH)
  );
}

function isOwnHost(authority: string, options: NamingOptions): boolean {
  const host = withoutPort(authority);
  return host === options.baseDomain || options.ownHosts.includes(host);
}

function withoutPort(authority: string): string {
  return authority.replace(/:\d*$/, "").toLowerCase();
}

function idOrNone(label: string): string | undefined {
  return isId(label) ? label : undefined;
}

/** RFC 9112 3.2.1 and 3.2.4. */
function originForm(method: string, rest: string): string {
  if (rest.startsWith("/")) return rest;
  return rest === "" && method === "OPTIONS" ? "*" : `/${rest}`;
}

/** Takes the naming parameter out of a target and leaves every other octet as it is; undefined when it is there with two values. */
function takeParameter(
  target: string,
  parameter: string,
): { value: string | undefined; rest: string } | undefined {
  const mark = target.indexOf("?");
  if (mark < 0) return { value: undefined, rest: target };
  let value: string | undefined;
  const kept: string[] = [];
  for (const part of target.slice(mark + 1).split("&")) {
    const equals = part.indexOf("=");
    if (decode(equals < 0 ? part : part.slice(0, equals)) !== parameter) {
      kept.push(part);
      continue;
    }
    const named = equals < 0 ? "" : decode(part.slice(equals + 1));
    if (
      value !== undefined &&
      value !== named &&
      value.toLowerCase() !== named.toLowerCase()
    )
      return undefined;
    value = named;
  }
  if (value === undefined) return { value, rest: target };
  const path = target.slice(0, mark);
  return {
    value,
    rest: kept.length === 0 ? path : `${path}?${kept.join("&")}`,
  };
}

/** A part of a query as it was meant; what cannot be decoded stays. */
export function decode(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The server that the cookie names, undefined for none, null for several. */
function cookieOf(
  request: RequestHead,
  name: string,
): string | null | undefined {
  let id: string | undefined;
  for (let i = 0; i < request.fields.length; i += 2) {
    if (request.fields[i]?.toLowerCase() !== "cookie") continue;
    for (const pair of (request.fields[i + 1] ?? "").split(";")) {
      const [key, value = ""] = trimSpace(pair).split("=", 2);
      if (key !== name || !isId(value)) continue;
      if (id !== undefined && id !== value) return null;
      id = value;
    }
  }
  return id;
}

/** The user name of a Basic (RFC 7617) or Digest (RFC 7616) login. */
function userOf(authorization: string): string | undefined {
  const basic = /^basic +([A-Za-z0-9+/=]+)$/i.exec(authorization);
  if (basic !== null) {
    const login = Buffer.from(basic[1] ?? "", "base64").toString();
    return login.includes(":") ? login.slice(0, login.indexOf(":")) : undefined;
  }
  if (!/^digest /i.test(authorization)) return undefined;
  return DIGEST_USER.exec(authorization)?.[1]?.replaceAll(/\\(.)/g, "$1");
}
