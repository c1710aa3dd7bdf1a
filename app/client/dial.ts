// Reaches a TCP service of a hidden server through a relay, by whatever way gets through what stands between.
//   client -> (proxy) -> (router) -> relay ==tunnel==> agent -> TCP service
import type { Duplex } from "node:stream";
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
 * @throws RangeError for options that cannot be
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
  const to = checkDestination(options);
  const { signal } = options;
  let problem: DialError | undefined;
  signal?.throwIfAborted();
  for (const way of options.via === undefined ? WAYS : [options.via]) {
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

function checkDestination(options: DialOptions): Destination {
  const url = new URL(options.relay);
  const id = options.id.toLowerCase();
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new RangeError(
      "The relay's URL must begin with https:// or http://.",
    );
  if (!isId(id))
    throw new RangeError(
      "The id must be one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters.",
    );
  if (readPort(String(options.port)) === undefined)
    throw new RangeError("The port must be a number from 1 to 65535.");
  return { relay: { url, ca: options.ca }, id, port: options.port };
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
