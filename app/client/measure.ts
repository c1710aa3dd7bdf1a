// What stands before a relay does to streams, large heads and silence.
import { randomBytes } from "node:crypto";
import { ECHO_HOST, ECHO_PORT, type Way } from "../protocol.ts";
import { UNOWNED } from "../wire/link.ts";
import type { Address } from "../wire/outbound.ts";
import type { Pipe } from "../wire/pipe.ts";
import { AskError, ask, type Answer, type Asking } from "./ask.ts";
import type { Finding } from "./finding.ts";
import { echo } from "./search.ts";
import { refusalWords, textOf, type Told } from "./trial.ts";
import { goBy } from "./ways.ts";

const STREAM_PATH = "/-/stream";
export const WHOAMI_PATH = "/-/whoami";
/** The relay sends its pieces over twice as long. */
const STREAMED_MILLISECONDS = 100;
/** How long an upload is left open for an answer to its first octets. */
const UPLOAD_MILLISECONDS = 1000;
const ASK_MILLISECONDS = 4 * 1000;
const HEAD_KIB = [8, 16, 32, 60];
/** What a head has beside the one large field. */
const REST_OF_HEAD_OCTETS = 512;
const ECHOES = 5;
const ECHOES_MILLISECONDS = 1500;
/** How long a relay's tunnels are silent, unless it was told otherwise. */
const HEARTBEAT_SECONDS = 25;
const NONCE_OCTETS = 16;
/** How long an echo may take after a long silence. */
const AFTERWARDS_MILLISECONDS = 3 * 1000;

/** How a relay is asked: as it was found to be reached. */
export interface Route {
  readonly relay: Address;
  readonly plainly: boolean;
}

/** An echo of the relay's, open; the caller resets it. */
export async function openEcho(
  way: Way,
  relay: Address,
  { granted, signal }: Told,
): Promise<Pipe> {
  const to = { relay, host: ECHO_HOST, port: ECHO_PORT };
  const { pipe } = await goBy(way, to, signal);
  granted();
  const giveUp = (): void => {
    pipe.reset();
  };
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  try {
    await echo(pipe, nonce());
    return pipe;
  } catch (error) {
    pipe.reset();
    throw error;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

export async function measureDownload(route: Route): Promise<Finding> {
  const check = "answers";
  const answer = await tryAsk(route, { path: STREAM_PATH });
  if ("mark" in answer) return { ...answer, check };
  const spread = Math.round(answer.spread);
  const streamed = spread >= STREAMED_MILLISECONDS;
  return {
    check,
    mark: streamed ? "ok" : "warn",
    words: streamed
      ? "streamed: each piece comes when it is sent"
      : "buffered: a streamed answer comes all at its end (server-sent events come late)",
    facts: { streamed, spreadMilliseconds: spread },
  };
}

export async function measureUpload(route: Route): Promise<Finding> {
  const check = "uploads";
  const slowBody = { milliseconds: UPLOAD_MILLISECONDS };
  const answer = await tryAsk(route, { path: STREAM_PATH, slowBody });
  if ("mark" in answer) return { ...answer, check };
  const streamed = answer.early;
  return {
    check,
    mark: streamed ? "ok" : "warn",
    words: streamed
      ? "streamed: the relay has the first octets before the last are sent"
      : "buffered: the relay has nothing of an upload before its end",
    facts: { streamed },
  };
}

/** The largest head of a request that gets through, of a few sizes. */
export async function measureHead(route: Route): Promise<Finding> {
  const tried = await Promise.all(
    HEAD_KIB.map(async (size) => {
      const padding = "x".repeat(size * 1024 - REST_OF_HEAD_OCTETS);
      const headers = { "X-Padding": padding };
      const answer = await tryAsk(route, { path: WHOAMI_PATH, headers });
      return { size, refused: "mark" in answer ? answer.words : undefined };
    }),
  );
  const failed = tried.find(({ refused }) => refused !== undefined);
  const largest = tried
    .filter(({ size }) => failed === undefined || size < failed.size)
    .at(-1)?.size;
  const passes =
    largest === undefined ? "less than 8 KiB" : `${String(largest)} KiB`;
  return {
    check: "request head",
    mark: failed === undefined ? "ok" : "warn",
    words:
      failed === undefined
        ? `${passes} pass`
        : `${passes} pass; ${String(failed.size)} KiB: ${failed.refused ?? ""}`,
    facts: { largestKibibytes: largest ?? 0 },
  };
}

/** The time that a few octets take to the relay and back, on a stream that is open. */
export async function measureRoundTrip(
  way: Way,
  relay: Address,
): Promise<Finding> {
  const check = "round trip";
  const called = new AbortController();
  const deadline = setTimeout(() => {
    called.abort();
  }, ECHOES_MILLISECONDS);
  const times: number[] = [];
  try {
    const pipe = await openEcho(way, relay, untold(called.signal));
    called.signal.addEventListener("abort", () => {
      pipe.reset();
    });
    while (times.length < ECHOES && !called.signal.aborted) {
      const began = performance.now();
      await echo(pipe, nonce());
      times.push(performance.now() - began);
    }
  } catch {
    // What was measured is enough.
  } finally {
    clearTimeout(deadline);
    called.abort();
  }
  const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  if (median === undefined)
    return { check, mark: "warn", words: `no echo in time by ${way}` };
  const milliseconds = Number(median.toFixed(1));
  return {
    check,
    mark: "ok",
    words: `${String(milliseconds)} ms by ${way}, the median of ${String(times.length)}`,
    facts: { milliseconds, way },
  };
}

/** Says nothing by one way for so long, and then something. */
export async function measureSilence(
  way: Way,
  relay: Address,
  seconds: number,
): Promise<Finding> {
  const check = `idle ${way}`;
  const opening = new AbortController();
  const opened = setTimeout(() => {
    opening.abort();
  }, ASK_MILLISECONDS);
  try {
    const pipe = await openEcho(way, relay, untold(opening.signal));
    const began = performance.now();
    const isCut = await silence(pipe, seconds * 1000);
    const lasted = Math.round(performance.now() - began) / 1000;
    const cut = lasted.toFixed(1);
    if (isCut)
      return {
        check,
        mark: "warn",
        words: `cut after ${cut} s of silence${lasted < HEARTBEAT_SECONDS ? "; let HEARTBEAT_SECONDS of the relay be less" : ""}`,
        facts: { survived: false, seconds: Number(cut) },
      };
    const speaks = await within(AFTERWARDS_MILLISECONDS, pipe);
    pipe.reset();
    return {
      check,
      mark: speaks ? "ok" : "warn",
      words: speaks
        ? `${String(seconds)} s of silence do no harm`
        : `dead after ${String(seconds)} s of silence, and nobody has said so`,
      facts: { survived: speaks, seconds },
    };
  } catch (error) {
    return { check, mark: "warn", words: textOf(error) };
  } finally {
    clearTimeout(opened);
  }
}

/** Whether a pipe is cut within a time in which nobody says anything. */
function silence(pipe: Pipe, milliseconds: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds, false);
    const cut = (): void => {
      clearTimeout(timer);
      pipe.reset();
      resolve(true);
    };
    pipe.receiver = { ...UNOWNED, end: cut, gone: cut };
    if (pipe.over) cut();
  });
}

/** Whether a pipe gives back what it is given, in time. */
async function within(milliseconds: number, pipe: Pipe): Promise<boolean> {
  const deadline = setTimeout(() => {
    pipe.reset();
  }, milliseconds);
  try {
    await echo(pipe, nonce());
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(deadline);
  }
}

/** Asks for a page of the relay; anything but the page is told. */
async function tryAsk(
  { relay, plainly }: Route,
  asking: Pick<Asking, "path" | "headers" | "slowBody">,
): Promise<Answer | Pick<Finding, "mark" | "words">> {
  try {
    const milliseconds = ASK_MILLISECONDS;
    const answer = await ask(relay, { ...asking, plainly, milliseconds });
    return answer.status === 200
      ? answer
      : { mark: "warn", words: refusalWords(answer) };
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    return { mark: "warn", words: textOf(error.cause) };
  }
}

function untold(signal: AbortSignal): Told {
  return { granted: () => undefined, signal };
}

function nonce(): Buffer {
  return randomBytes(NONCE_OCTETS);
}
