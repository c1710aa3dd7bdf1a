// The file of the relay's revocations.
import process from "node:process";
import { readRevoked } from "../config.ts";
import type { Relay } from "../relay/relay.ts";
import type { Reading } from "./files.ts";

/** Gives the relay what REVOKED and its file have become. */
export function revokedReading(
  file: string,
  first: readonly string[],
  relay: Pick<Relay, "setRevoked">,
): Reading {
  let current = first.join();
  return {
    files: [file],
    unusable: "the new list of revocations cannot be used, the old one stays",
    load(): void {
      const revoked = readRevoked(process.env);
      if (revoked.join() === current) return;
      relay.setRevoked(revoked);
      current = revoked.join();
    },
  };
}
