// Whether an id can park by one way: a tunnel that carries octets in both directions, and is let go at once.
import { decodeSecret, type Way } from "../protocol.ts";
import type { Address } from "../wire/outbound.ts";
import { VERSION } from "../version.ts";
import { IdleTunnel } from "./idle.ts";
import { ParkError, parkOnce, type Identity } from "./reach.ts";

/** Who hears that the relay has taken the tunnel, and who calls the proof off. */
export interface Proving {
  readonly granted: () => void;
  readonly signal: AbortSignal;
}

/**
 * How to prove a way for an id.
 * @throws RangeError for a secret that cannot be
 */
export function createProof(
  id: string,
  secret: string,
): (way: Way, relay: Address, proving: Proving) => Promise<void> {
  const identity = { id, key: decodeSecret(secret), isPrivate: false };
  return (way, relay, proving) => provePark(way, relay, identity, proving);
}

/**
 * Parks one tunnel, and resolves when pings have come and pongs have arrived. No visitor ever gets it: the last pong is not sent.
 * @throws ParkError
 */
async function provePark(
  way: Way,
  relay: Address,
  identity: Identity,
  { granted, signal }: Proving,
): Promise<void> {
  const { link, early } = await parkOnce(way, relay, identity, VERSION, signal);
  granted();
  const giveUp = (): void => {
    link.destroy();
  };
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (): void => {
        reject(new ParkError("it carried octets in one direction only"));
      };
      const events = { pinged: () => true, claimed: fail, lost: fail };
      const tunnel = new IdleTunnel(link, events, resolve);
      if (link.over) tunnel.gone();
      else if (early.length > 0) tunnel.data(early);
      link.resume();
    });
  } finally {
    signal.removeEventListener("abort", giveUp);
    link.destroy();
  }
}
