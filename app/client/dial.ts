// Reaches a TCP service of a hidden server through a relay, by whatever way gets through what stands between.
//   client -> (proxy) -> (router) -> relay ==tunnel==> agent -> TCP service
import type { Duplex } from "node:stream";
import { inspect } from "node:util";
import { WAYS, isId, readPort, type Way } from "../protocol.ts";
import { tendPipe, type BeatingPipe, type Pipe } from "../wire/pipe.ts";
import { PipeStream } from "../wire/pipestream.ts";
import { DialError, goBy, type Destination } from "./ways.ts";

/** Under the shortest idle cut of a known router (30 s). */
const HEARTBEAT_SECONDS = 20;
/** Short beside the shortest heartbeat, a second. */
const SWEEP_MILLISECONDS = 250;
/** Codes with which the relay says that it does not know this way, not that there is no such place. */
const OTHER_WAY_CODES = new Set([
  "wrong_scheme",
  "upgrade_wanted",
  "not_found",
  "bad_request",
  "not_implemented",
]);

export interface DialOptions {
  /** The relay's URL, `https://relay.example.com`. */
  readonly relay: string | URL;
  readonly id: string;
  readonly port: number;
  /** The one way to go; left out, the first that leads there. */
  readonly via?: Way | undefined;
  /** Certificates to trust instead of the well-known ones, in PEM. */
  readonly ca?: string | undefined;
  /** Gives the search for a way up. The stream, once it is there, is the caller's to destroy. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a TCP stream to a port of a hidden server. Ending it is a half-close, as with a socket.
 * @throws RangeError for options that cannot be, in a sentence that names the option
 * @throws DialError when no way leads there
 * @throws the signal's reason, an AbortError unless it was given another one
 */
export async function dial(options: DialOptions): Promise<Duplex> {
  const { pipe } = await reach(options);
  const stream = new PipeStream(pipe);
  stream.on("error", () => undefined);
  return stream;
}

/** The same as dial(), as a pipe, and the way that led there. */
export async function reach(
  options: DialOptions,
): Promise<{ pipe: Pipe; way: Way }> {
  const { to, ways, signal } = checkOptions(options);
  let problem: DialError | undefined;
  signal?.throwIfAborted();
  for (const way of ways) {
    try {
      const { pipe, heartbeatSeconds = HEARTBEAT_SECONDS } = await goBy(
        way,
        to,
        signal,
      );
      tend(pipe, heartbeatSeconds * 1000);
      return { pipe, way };
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof DialError)) throw error;
      problem = error;
      if (error.code !== undefined && !OTHER_WAY_CODES.has(error.code)) break;
    }
  }
  throw problem ?? new DialError("there is no way to go");
}

interface Checked {
  readonly to: Destination;
  readonly ways: readonly Way[];
  readonly signal: AbortSignal | undefined;
}

/** Programs in plain JavaScript find out here what they have done, and not from the network. */
function checkOptions(options: unknown): Checked {
  if (!isGiven(options))
    throw new RangeError("dial() needs options: dial({ relay, id, port }).");
  const { relay, id, port, via, ca, signal } = options;
  const url = toUrl(relay);
  if (url?.protocol !== "https:" && url?.protocol !== "http:")
    throw new RangeError(
      "relay must be a URL that begins with https:// or http://.",
    );
  if (typeof id !== "string" || !isId(id.toLowerCase()))
    throw new RangeError(
      `id must be one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters, got ${shown(id)}.`,
    );
  if (typeof port !== "number" || readPort(String(port)) === undefined)
    throw new RangeError(
      `port must be an integer from 1 to 65535, got ${shown(port)}.`,
    );
  const way = WAYS.find((known) => known === via);
  if (via !== undefined && way === undefined)
    throw new RangeError(
      `via must be one of ${WAYS.join(", ")}, got ${shown(via)}. Leave it out for the first that leads there.`,
    );
  if (ca !== undefined && typeof ca !== "string")
    throw new RangeError(
      "ca must be a text of certificates in PEM. Leave it out for the well-known ones.",
    );
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new RangeError(
      `signal must be an AbortSignal, got ${shown(signal)}. Leave it out for a dial that nobody calls off.`,
    );
  return {
    to: { relay: { url, ca }, id: id.toLowerCase(), port },
    ways: way === undefined ? WAYS : [way],
    signal,
  };
}

function isGiven(
  options: unknown,
): options is Readonly<Partial<Record<keyof DialOptions, unknown>>> {
  return typeof options === "object" && options !== null;
}

function toUrl(relay: unknown): URL | undefined {
  const text = relay instanceof URL ? relay.href : relay;
  return typeof text === "string" && URL.canParse(text)
    ? new URL(text)
    : undefined;
}

/** What was given, on one line. */
function shown(value: unknown): string {
  return typeof value === "string"
    ? JSON.stringify(value)
    : inspect(value, { depth: 0, breakLength: Infinity });
}

/** Keeps a stream alive where its way allows it. */
function tend(pipe: Pipe, heartbeat: number): void {
  if (!("beat" in pipe)) return;
  const beating = pipe as BeatingPipe;
  const timer = setInterval(() => {
    if (beating.over) clearInterval(timer);
    else tendPipe(beating, performance.now(), heartbeat);
  }, SWEEP_MILLISECONDS);
  timer.unref();
}
