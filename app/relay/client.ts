// Who asks: the address and scheme of a request, believed as far as the routers in front are trusted.
import { isIP } from "node:net";
import { TLSSocket } from "node:tls";
import type { RequestHead } from "../wire/head.ts";
import type { Link } from "../wire/link.ts";
import type { Client } from "./heads.ts";

/**
 * The client behind `hops` routers (TRUST_PROXY). Each router appends the address that it saw to X-Forwarded-For,
 * so that the entry of the outermost trusted one is the hops-th from the right; what stands before it is the client's own word.
 */
export function clientOf(
  request: RequestHead,
  link: Link,
  hops: number,
): Client {
  const proto = link.stream instanceof TLSSocket ? "https" : "http";
  const { address } = link;
  if (hops === 0) return { address, proto };
  const chain = entries(request, "x-forwarded-for");
  const named = plainAddress(chain[Math.max(0, chain.length - hops)] ?? "");
  const schemes = entries(request, "x-forwarded-proto");
  const scheme = schemes[Math.max(0, schemes.length - hops)];
  return {
    address: isIP(named) === 0 ? address : named,
    proto: scheme === "https" || scheme === "http" ? scheme : proto,
  };
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
    if (request.fields[i]?.toLowerCase() === name)
      found.push(
        ...(request.fields[i + 1] ?? "")
          .split(",")
          .map((entry) => entry.trim()),
      );
  }
  return found;
}

/** An address without port and brackets: routers write both. */
function plainAddress(entry: string): string {
  return (
    /^\[([^\]]+)\](?::\d+)?$/.exec(entry)?.[1] ??
    /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(entry)?.[1] ??
    entry
  );
}
