// Reaches a TCP service of a hidden server through a relay, by whatever way gets through what stands between.
//   client -> (proxy) -> (router) -> relay ==tunnel==> agent -> TCP service
import type { Duplex } from "node:stream";
import { inspect } from "node:util";
import {
  DIAL_WAYS,
  WAYS,
  isId,
  isVerdict,
  readPort,
  readWay,
  type Way,
} from "../protocol.ts";
import { LadderError, type Tried } from "../wire/ladder.ts";
import type { Address } from "../wire/outbound.ts";
import { tendPipe, type BeatingPipe, type Pipe } from "../wire/pipe.ts";
import { PipeStream } from "../wire/pipestream.ts";
import { forget, recall, remember, search } from "./search.ts";
import { DialError, goBy, type Destination } from "./ways.ts";

/** Under the shortest idle cut of a known router (30 s). */
const HEARTBEAT_SECONDS = 20;
/** Short beside the shortest heartbeat, a second. */
const SWEEP_MILLISECONDS = 250;

export interface DialOptions {
  /** The relay's URL, `https://relay.example.com`. */
  readonly relay: string | URL;
  readonly id: string;
  readonly port: number;
  /** The one way to go; left out, the best that gets through. */
  readonly via?: Way | undefined;
  /** For a private server: what its owner has made with `rendezvous share`. */
  readonly grant?: string | undefined;
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

/** A pipe that leads there, and by which way; `tried` is told when the way had to be found out. */
export interface Led {
  readonly pipe: Pipe;
  readonly way: Way;
  readonly tried?: Tried<Way>;
}

/** The same as dial(), as a pipe. */
export async function reach(options: DialOptions): Promise<Led> {
  const { relay, host, port, grant, via, signal } = checkOptions(options);
  signal?.throwIfAborted();
  const go = async (way: Way, at = relay, until = signal): Promise<Led> => {
    const to = { relay: at, host, port, grant };
    const { pipe, heartbeatSeconds = HEARTBEAT_SECONDS } = await goBy(
      way,
      to,
      until,
    );
    tend(pipe, heartbeatSeconds * 1000);
    return { pipe, way };
  };
  try {
    if (via !== undefined) return await go(via);
    const known = recall(relay);
    return await (known === undefined
      ? findWay(relay, go, signal)
      : go(known.way, known.relay).catch((error: unknown) => {
          if (isFinal(error) || signal?.aborted === true) throw error;
          forget(relay);
          return findWay(relay, go, signal);
        }));
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

type Go = (way: Way, relay?: Address, until?: AbortSignal) => Promise<Led>;

/** Finds a way, and goes it. The best one is gone meanwhile: where it gets through, hardly any time is lost. */
async function findWay(
  relay: Address,
  go: Go,
  signal: AbortSignal | undefined,
): Promise<Led> {
  const [best] = DIAL_WAYS;
  const others = new AbortController();
  const callOff = (): void => {
    others.abort();
  };
  signal?.addEventListener("abort", callOff);
  if (signal?.aborted === true) callOff();
  const hoped = go(best, relay, others.signal);
  let granted: Led | undefined;
  hoped.then(
    (led) => {
      granted = led;
    },
    () => undefined,
  );
  const refused = new Promise<never>((_resolve, reject) => {
    hoped.catch((error: unknown) => {
      if (isFinal(error)) reject(error);
    });
  });
  try {
    const found = await Promise.race([search(relay, others.signal), refused]);
    const { way, tried } = found;
    remember(relay, found);
    if (way === best && found.relay === relay)
      return { ...(await hoped), tried };
    drop(hoped);
    callOff();
    return { ...(await go(way, found.relay)), tried };
  } catch (error) {
    // It leads there, whatever became of the echo.
    if (granted !== undefined && error instanceof LadderError) return granted;
    drop(hoped);
    callOff();
    throw error instanceof LadderError ? summaryOf(error) : error;
  } finally {
    signal?.removeEventListener("abort", callOff);
  }
}

/** Whether no other way would do better. */
function isFinal(error: unknown): error is DialError {
  return error instanceof DialError && isVerdict(error.code);
}

function drop(hoped: Promise<Led>): void {
  hoped.then(
    ({ pipe }) => {
      pipe.reset();
    },
    () => undefined,
  );
}

/** Why no way leads there: all reasons, and the first answer that came. */
function summaryOf({ message, failures }: LadderError<unknown>): DialError {
  for (const failure of failures.values()) {
    if (failure instanceof DialError && failure.status !== undefined)
      return new DialError(message, { status: failure.status });
  }
  return new DialError(message);
}

interface Checked extends Destination {
  readonly via: Way | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Programs in plain JavaScript find out here what they have done, and not from the network. */
function checkOptions(options: unknown): Checked {
  if (!isGiven(options))
    throw new RangeError("dial() needs options: dial({ relay, id, port }).");
  const { relay, id, port, via, grant, ca, signal } = options;
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
  const way = readWay(via);
  if (via !== undefined && way === undefined)
    throw new RangeError(
      `via must be one of ${WAYS.join(", ")}, got ${shown(via)}. Leave it out for the best that gets through.`,
    );
  if (grant !== undefined && typeof grant !== "string")
    throw new RangeError(
      "grant must be a text as `npx rendezvous share` makes it. Leave it out for a server that is open.",
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
    relay: { url, ca },
    host: id.toLowerCase(),
    port,
    grant,
    via: way,
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
