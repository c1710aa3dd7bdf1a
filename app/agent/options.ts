// What park() takes: checked once, in sentences that name the cure.
import { Server, type RequestListener } from "node:http";
import {
  WAYS,
  decodeSecret,
  isId,
  readPort,
  readWay,
  type Way,
} from "../protocol.ts";
import type { Address } from "../wire/outbound.ts";
import type { Tap } from "../wire/splice.ts";
import type { Identity } from "./reach.ts";
import type { Offer, ServiceAddress } from "./target.ts";

export interface ParkOptions {
  /** The relay's URL, `https://relay.example.com`; it may have the id and the secret as user and password. */
  readonly relay: string | URL;
  readonly id?: string | undefined;
  /** As `rendezvous issue` printed it. */
  readonly secret?: string | undefined;
  /** Idle tunnels to keep parked. */
  readonly spare?: number | undefined;
  /** Tunnels in all, idle and claimed; the relay lets visitors from one address hold three quarters of them. */
  readonly max?: number | undefined;
  /** Certificates to trust instead of the well-known ones, in PEM. */
  readonly ca?: string | undefined;
  /** The one way to park; left out, the best that gets through. */
  readonly via?: Way | undefined;
  /** Only visitors with a grant may come in; `rendezvous share` makes grants. */
  readonly private?: boolean | undefined;
  /** TCP services that visitors may reach, by the port that they name. Port 80 is the HTTP target unless it is here; without an HTTP target, what is here takes HTTP visits too. */
  readonly tcp?: ReadonlyMap<number, ServiceAddress> | undefined;
  /** Sees what passes on claimed tunnels; only for a service that is dialled. */
  readonly tap?: (() => Tap) | undefined;
}

/** What park() can serve over HTTP: a number is a port of this machine, undefined means that there are only TCP services, of which the one at port 80 takes HTTP visits. */
export type Target =
  Server | RequestListener | ServiceAddress | number | undefined;

/** The same, with all defaults. */
export interface Checked extends Pick<Offer, "http" | "tcp" | "tap"> {
  readonly relay: Address;
  readonly identity: Identity;
  /** The best first. */
  readonly ways: readonly Way[];
  readonly spare: number;
  readonly max: number;
}

/** @throws RangeError */
export function checkOptions(target: Target, options: ParkOptions): Checked {
  const http = checkTarget(target, options);
  const url = new URL(options.relay);
  const id = (options.id ?? decode(url.username)).toLowerCase();
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new RangeError(
      "The relay's URL must begin with https:// or http://.",
    );
  if (!isId(id))
    throw new RangeError(
      "The id must be one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters.",
    );
  const isPrivate: unknown = options.private ?? false;
  // A server that is open by a slip of the pen would be worse than one that does not start.
  if (typeof isPrivate !== "boolean")
    throw new RangeError(
      "private must be true or false. Leave it out for a server that is open to all visitors.",
    );
  const max = positive("max", options.max ?? 64);
  return {
    http,
    tcp: options.tcp ?? new Map<number, ServiceAddress>(),
    tap: options.tap,
    relay: { url, ca: options.ca },
    identity: {
      id,
      key: decodeSecret(options.secret ?? decode(url.password)),
      isPrivate,
      max,
    },
    ways: checkWays(options.via),
    spare: positive("spare", options.spare ?? 4),
    max,
  };
}

function checkWays(via: unknown): readonly Way[] {
  const way = readWay(via);
  if (via !== undefined && way === undefined)
    throw new RangeError(
      `via must be one of ${WAYS.join(", ")}. Leave it out for the best that gets through.`,
    );
  return way === undefined ? WAYS : [way];
}

function positive(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(
      `${name} must be a positive integer, got ${String(value)}.`,
    );
  return value;
}

/** Programs in plain JavaScript find out here what they have done, and not from their visitors. */
function checkTarget(
  target: unknown,
  options: unknown,
): Exclude<Target, number> {
  if (typeof options !== "object" || options === null) {
    throw new RangeError(
      "park() needs options: park(server, { relay, id, secret }).",
    );
  }
  if (typeof target === "number")
    return checkTarget({ host: "localhost", port: target }, options);
  if (typeof target === "function") return target as RequestListener;
  if (target instanceof Server) return target;
  if (
    target === undefined &&
    "tcp" in options &&
    options.tcp instanceof Map &&
    options.tcp.size > 0
  )
    return undefined;
  if (
    typeof target === "object" &&
    target !== null &&
    "host" in target &&
    "port" in target
  ) {
    const { host, port } = target;
    if (
      typeof host === "string" &&
      typeof port === "number" &&
      readPort(String(port)) !== undefined
    )
      return { host, port };
  }
  throw new RangeError(
    "park() serves an http.Server (not one of https), an express app, a port, or { host, port }.",
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RangeError("The relay's URL has a % that stands for nothing.");
  }
}
