// Which way gets through what stands before a relay: found out once, with the relay's own echo, and remembered while it works.
import { randomBytes } from "node:crypto";
import { ECHO_HOST, ECHO_PORT, DIAL_WAYS, type Way } from "../protocol.ts";
import { LadderError, climb, type Tried } from "../wire/ladder.ts";
import { UNOWNED } from "../wire/link.ts";
import { securedBy, type Address } from "../wire/outbound.ts";
import type { Pipe } from "../wire/pipe.ts";
import { DialError, goBy } from "./ways.ts";

/** How long a better way is waited for when a lesser one has carried octets in both directions. */
const PROOF_MILLISECONDS = 3 * 1000;
/** How long a way may take to be granted and to give back what it was given. */
const ECHO_MILLISECONDS = 15 * 1000;
const NONCE_OCTETS = 16;

/** What is known of a relay. */
export interface Known {
  readonly way: Way;
  /** As it was given, or where a redirect led. */
  readonly relay: Address;
}

export interface Found extends Known {
  readonly tried: Tried<Way>;
}

/** A program that dials through more relays than this finds the ways to the oldest anew. */
const MAX_REMEMBERED = 1024;

/** By the URL of the relay that was asked for, the oldest first. forget() takes out what works no longer. */
const remembered = new Map<string, Known>();

/** What is known of a relay; the certificates to trust are those of who asks now. */
export function recall({ url, ca }: Address): Known | undefined {
  const known = remembered.get(url.origin);
  return known === undefined
    ? undefined
    : { way: known.way, relay: { url: known.relay.url, ca } };
}

export function remember(relay: Address, { way, relay: to }: Known): void {
  const [oldest] = remembered.keys();
  if (oldest !== undefined && remembered.size >= MAX_REMEMBERED)
    remembered.delete(oldest);
  remembered.set(relay.url.origin, { way, relay: to });
}

export function forget(relay: Address): void {
  remembered.delete(relay.url.origin);
}

/**
 * Goes all ways to the relay's echo at once, and takes the best that gives back what it was given.
 * @throws LadderError of DialErrors when none does
 * @throws the signal's reason
 */
export async function search(
  relay: Address,
  signal: AbortSignal | undefined,
): Promise<Found> {
  try {
    const { way, tried } = await climb({
      ways: DIAL_WAYS,
      attempt: (one, calledOff) => proveEcho(one, relay, calledOff),
      discard: () => undefined,
      isFinal: () => false,
      milliseconds: PROOF_MILLISECONDS,
      signal,
    });
    return { way, relay, tried };
  } catch (error) {
    const secure = redirectOf(error, relay);
    if (secure === undefined) throw error;
    return search(secure, signal);
  }
}

/** From http to https, which cannot lead on to another. */
function redirectOf(error: unknown, relay: Address): Address | undefined {
  if (!(error instanceof LadderError)) return undefined;
  for (const failure of error.failures.values()) {
    const location =
      failure instanceof DialError ? failure.location : undefined;
    const secure = securedBy(location, relay);
    if (secure !== undefined) return secure;
  }
  return undefined;
}

/** Goes one way to the echo. Resolves when it has given back what it was given. */
export async function proveEcho(
  way: Way,
  relay: Address,
  signal: AbortSignal,
): Promise<void> {
  const to = { relay, host: ECHO_HOST, port: ECHO_PORT };
  const { pipe } = await goBy(way, to, signal, ECHO_MILLISECONDS);
  const giveUp = (): void => {
    pipe.reset();
  };
  signal.addEventListener("abort", giveUp);
  const deadline = setTimeout(giveUp, ECHO_MILLISECONDS);
  try {
    await echo(pipe, randomBytes(NONCE_OCTETS));
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener("abort", giveUp);
    pipe.reset();
  }
}

/** Resolves when a pipe has given back what it was given. */
export function echo(pipe: Pipe, nonce: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let came = Buffer.alloc(0);
    const fail = (): void => {
      reject(new DialError("it carried octets in one direction only"));
    };
    pipe.receiver = {
      ...UNOWNED,
      data(octets) {
        came = Buffer.concat([came, octets]);
        if (came.length < nonce.length) return;
        if (came.equals(nonce)) resolve();
        else reject(new DialError("it did not carry octets as they were"));
      },
      end: fail,
      gone: fail,
    };
    if (pipe.over) fail();
    pipe.resume();
    pipe.write(nonce);
  });
}
