// What the relay changes in a head that passes through: hop-by-hop fields go, Via and Forwarded come, all else stays as it was (RFC 9110 7.6).
import { DIAL_FIELD, PING_FIELD } from "../protocol.ts";
import {
  isToken,
  readDirectives,
  readList,
  trimSpace,
  type AnswerHead,
  type RequestHead,
} from "../wire/head.ts";
import { cookiePrefix } from "./grants.ts";
import type { NamedServer } from "./naming.ts";
import { withoutCookie } from "./naming.ts";

/** What only the relay itself says in a tunnel. */
const OURS = new Set([DIAL_FIELD.toLowerCase(), PING_FIELD.toLowerCase()]);

/** What Cache-Control says to shared caches: here that is the relay's to say. */
const TO_SHARED_CACHES = new Set(["private", "public", "s-maxage"]);

export interface HeadOptions {
  /** This relay's name in Via: unlike any other relay's, so that a loop is seen. */
  readonly pseudonym: string;
  /** The name of the relay's cookie. */
  readonly parameter: string;
  /** The relay itself answers, so that its cookie may be set. */
  readonly own?: true;
}

/** Who asks, as far as the routers in front can be believed. */
export interface Client {
  readonly address: string;
  readonly proto: "http" | "https";
  /** The host that he named, which a router may have replaced. */
  readonly host: string | undefined;
}

/** The head of a request as the hidden server is to see it. */
export function requestHead(
  request: RequestHead,
  named: NamedServer,
  client: Client,
  lastOne: boolean,
  options: HeadOptions,
): string {
  const { fields, minor } = request;
  let head = `${request.method} ${named.target} HTTP/1.1\r\n`;
  let trailers = false;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? "";
    let value: string | undefined = fields[i + 1] ?? "";
    const lower = name.toLowerCase();
    // TE is always named there, and has a rule of its own below.
    if (lower !== "te" && isHop(lower, request.hops)) continue;
    switch (lower) {
      case "connection":
      case "keep-alive":
      case "proxy-connection":
      case "proxy-authorization":
      case "transfer-encoding":
      case "upgrade":
      case "forwarded":
        continue;
      case "host":
        if (named.host === undefined) continue;
        value = named.host;
        break;
      case "te":
        trailers ||= minor === 1 && readList(value).includes("trailers");
        continue;
      case "expect":
        if (minor === 0) continue;
        break;
      case "authorization":
        if (named.by === "authorization") continue;
        break;
      case "cookie":
        value = withoutCookie(value, options.parameter);
        if (value === undefined) continue;
        break;
      default:
        if (isForwardedField(lower) || OURS.has(lower)) continue;
    }
    head += `${name}: ${value}\r\n`;
  }
  if (request.host === undefined) head += `Host: ${named.host ?? named.id}\r\n`;
  if (request.framing === "chunked") head += "Transfer-Encoding: chunked\r\n";
  head += `Via: 1.${String(minor)} ${options.pseudonym}\r\n${forwarded(client, named.by === "absolute" ? named.host : (client.host ?? named.host))}`;
  if (request.upgrade !== undefined)
    return `${head}Connection: Upgrade\r\nUpgrade: ${request.upgrade}\r\n\r\n`;
  if (trailers)
    return `${head}TE: trailers\r\nConnection: TE${lastOne ? ", close" : ""}\r\n\r\n`;
  return lastOne ? `${head}Connection: close\r\n\r\n` : `${head}\r\n`;
}

/** What the visitor is told beside the hidden server's own fields. */
export interface AnswerExtras {
  /** The visitor speaks HTTP/1.0 or 1.1. */
  readonly minor: 0 | 1;
  /** His connection stays open. */
  readonly persistent: boolean;
  /** A Set-Cookie that lets a browser find the server again. */
  readonly cookie?: string | undefined;
  /** Whole field lines of the relay's own. */
  readonly lines?: string | undefined;
  /** Fields of the request that have decided who answers. */
  readonly varies?: readonly string[] | undefined;
  /** No cache on the way may keep the answer for others. */
  readonly unshared?: boolean | undefined;
}

/** The head of an answer as the visitor is to see it. */
export function answerHead(
  answer: AnswerHead,
  extras: AnswerExtras,
  options: HeadOptions,
): string {
  const { fields } = answer;
  const { varies = [], unshared = false } = extras;
  const vary: string[] = [];
  const caching: string[] = [];
  let head = `HTTP/1.1 ${String(answer.status)} ${answer.reason}\r\n`;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? "";
    const value = fields[i + 1] ?? "";
    const lower = name.toLowerCase();
    if (isHop(lower, answer.hops)) continue;
    switch (lower) {
      case "connection":
      case "keep-alive":
      case "proxy-connection":
      case "proxy-authenticate":
      case "te":
      case "transfer-encoding":
      case "upgrade":
        continue;
      // Routers obey these: they would serve a file, or a place of their own, instead of the answer.
      case "x-accel-redirect":
      case "x-sendfile":
      case "x-lighttpd-send-file":
      case "x-reproxy-url":
        continue;
      case "set-cookie":
        // This cookie is the relay's: a hidden server must not send its visitors to another one.
        if (options.own !== true && setsCookie(value, options.parameter))
          continue;
        break;
      case "vary":
        if (varies.length === 0) break;
        vary.push(value);
        continue;
      case "cache-control":
        if (!unshared) break;
        caching.push(value);
        continue;
      default:
        if (unshared && isForSharedCaches(lower)) continue;
    }
    head += `${name}: ${value}\r\n`;
  }
  head += `Via: 1.${String(answer.minor)} ${options.pseudonym}\r\n`;
  if (varies.length > 0) head += `Vary: ${joinedVary(varies, vary)}\r\n`;
  if (unshared) head += `Cache-Control: ${unsharedCaching(caching)}\r\n`;
  if (extras.cookie !== undefined) head += `Set-Cookie: ${extras.cookie}\r\n`;
  if (extras.lines !== undefined) head += extras.lines;
  if (answer.framing === "chunked" && extras.minor === 1)
    head += "Transfer-Encoding: chunked\r\n";
  if (answer.status === 101)
    return `${head}Connection: Upgrade\r\nUpgrade: ${answer.upgrade ?? ""}\r\n\r\n`;
  // RFC 9110 15.5.22: a 426 says what to upgrade to.
  if (answer.status === 426 && answer.upgrade !== undefined) {
    const close = extras.persistent ? "" : ", close";
    return `${head}Connection: Upgrade${close}\r\nUpgrade: ${answer.upgrade}\r\n\r\n`;
  }
  if (answer.status < 200) return `${head}\r\n`;
  if (!extras.persistent) return `${head}Connection: close\r\n\r\n`;
  return extras.minor === 0
    ? `${head}Connection: keep-alive\r\n\r\n`
    : `${head}\r\n`;
}

/** Whether a browser would store this Set-Cookie under `name`, or under the name of a grant: white space around a name, or "=" before it, does not hinder it. */
function setsCookie(value: string, name: string): boolean {
  const [pair = ""] = value.split(";", 1);
  const [key = ""] = pair.replace(/^[\s=]+/, "").split("=", 1);
  return key.trimEnd() === name || key.startsWith(cookiePrefix(name));
}

/** One field, for some caches read no more than one, and ours first, for others take what follows an open quote for a part of it. `*` says it all. */
function joinedVary(ours: readonly string[], own: readonly string[]): string {
  const known = ours.map((name) => name.toLowerCase());
  const names = own.join().split(",").map(trimSpace).filter(isToken);
  if (names.includes("*")) return "*";
  const others = names.filter((name) => !known.includes(name.toLowerCase()));
  return [...ours, ...others].join(", ");
}

/** One field with ours first, as in joinedVary(). What cannot be read may have been there to forbid. */
function unsharedCaching(own: readonly string[]): string {
  const directives = readDirectives(own.join(", "));
  const others = (directives ?? ["no-store"]).filter((directive) => {
    const [name = ""] = directive.split("=", 1);
    return !TO_SHARED_CACHES.has(name.toLowerCase());
  });
  return ["private", ...others].join(", ");
}

/** Fields that a shared cache looks at before Cache-Control: of RFC 9213, and what came before it. */
export function isForSharedCaches(name: string): boolean {
  return (
    name.endsWith("-cache-control") ||
    name === "surrogate-control" ||
    name === "edge-control" ||
    name === "x-accel-expires"
  );
}

function isHop(name: string, hops: readonly string[]): boolean {
  return hops.length > 0 && hops.includes(name);
}

/** CGI and WSGI take `_` and `-` for the same, so that a visitor's X_Forwarded_For would pass for ours. */
function isForwardedField(name: string): boolean {
  return (
    name.startsWith("x") && name.replaceAll("_", "-").startsWith("x-forwarded-")
  );
}

/** RFC 7239, and the older fields that most programs read. */
export function forwarded(client: Client, host: string | undefined): string {
  const { address, proto } = client;
  const node = address.includes(":") ? `"[${address}]"` : address;
  const named = host === undefined || host === "" ? "" : `;host="${host}"`;
  const older =
    host === undefined || host === "" ? "" : `X-Forwarded-Host: ${host}\r\n`;
  return `Forwarded: for=${node}${named};proto=${proto}\r\nX-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${proto}\r\n${older}`;
}
