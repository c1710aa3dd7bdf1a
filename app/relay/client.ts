// Who asks: the address and scheme of a request, believed as far as the routers in front are trusted.
import { isIP } from "node:net";
import { TLSSocket } from "node:tls";
import { isHost, trimSpace, type RequestHead } from "../wire/head.ts";
import { plainIpv4, type Link } from "../wire/link.ts";
import type { Client } from "./heads.ts";

export interface TrustOptions {
  readonly trustProxy: number;
  readonly publicUrl: string | undefined;
  readonly baseDomain: string | undefined;
}

/**
 * The client behind so many routers (TRUST_PROXY). Each router appends the address that it saw to X-Forwarded-For,
 * so that the entry of the outermost trusted one is that many from the right; what stands before it is the client's own word.
 * Where no router tells the scheme, PUBLIC_URL's holds.
 */
export function clientOf(
  request: RequestHead,
  link: Link,
  options: TrustOptions,
): Client {
  const { trustProxy, publicUrl } = options;
  const isSecure =
    link.stream instanceof TLSSocket ||
    publicUrl?.startsWith("https:") === true;
  const proto = told(request, "x-forwarded-proto", trustProxy).toLowerCase();
  const host = told(request, "x-forwarded-host", trustProxy);
  return {
    address: addressOf(request, link, trustProxy),
    proto:
      proto === "https" || proto === "http"
        ? proto
        : isSecure
          ? "https"
          : "http",
    host: isOurs(host, options) ? host : request.host,
  };
}

/** The client's address alone, as clientOf() has it. */
export function addressOf(
  request: RequestHead,
  link: Link,
  trustProxy: number,
): string {
  if (trustProxy === 0) return link.address;
  const address = plainAddress(told(request, "x-forwarded-for", trustProxy));
  return isIP(address) === 0 ? link.address : address;
}

/** What the outermost router that is trusted says in a field. */
function told(request: RequestHead, field: string, trustProxy: number): string {
  const chain = trustProxy === 0 ? [] : entries(request, field);
  return chain[Math.max(0, chain.length - trustProxy)] ?? "";
}

/** Many routers pass the client's own X-Forwarded-Host on, so that it counts only where it is a name of this relay. */
function isOurs(
  host: string,
  { publicUrl, baseDomain }: TrustOptions,
): boolean {
  if (host === "" || !isHost(host)) return false;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return (
    (publicUrl !== undefined && new URL(publicUrl).hostname === name) ||
    (baseDomain !== undefined && name.endsWith(`.${baseDomain}`))
  );
}

/** How many routers have said in X-Forwarded-For whom they saw, and clients whom they pretend to be. */
export function forwardedCount(request: RequestHead): number {
  return entries(request, "x-forwarded-for").filter((entry) => entry !== "")
    .length;
}

/** The id that the router in front gave the request, when there is a router and the id is harmless. */
export function requestIdOf(
  request: RequestHead,
  hops: number,
): string | undefined {
  const id = hops === 0 ? undefined : entries(request, "x-request-id")[0];
  return id !== undefined && /^[\w.:-]{1,128}$/.test(id) ? id : undefined;
}

function entries(request: RequestHead, name: string): string[] {
  const found: string[] = [];
  for (let i = 0; i < request.fields.length; i += 2) {
    const field = request.fields[i] ?? "";
    if (field.length === name.length && field.toLowerCase() === name)
      found.push(...(request.fields[i + 1] ?? "").split(",").map(trimSpace));
  }
  return found;
}

/** An address without port and brackets: routers write both. One of IPv4 looks like it, also where it came over IPv6. */
function plainAddress(entry: string): string {
  const address =
    /^\[([^\]]+)\](?::\d+)?$/.exec(entry)?.[1] ??
    /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(entry)?.[1] ??
    entry;
  return plainIpv4(address);
}
