// A legacy hidden server by hand: raw octets on a tunnel that was parked with a TOTP, as a program of 2013 would do it.
import { generateSync } from "otplib";
import { connectRaw, type Raw } from "./raw.ts";
import type { TestRelay } from "./relay.ts";

/** Parks one legacy tunnel; what the relay sends on it can be read from what comes back. */
export async function parkRaw(relay: TestRelay, id: string): Promise<Raw> {
  const code = generateSync({ secret: relay.issue(id).secret });
  const raw = await connectRaw(relay.port);
  const idle = relay.counts().idle;
  raw.write(`CONNECT uuid:${id}?response=${code} HTTP/1.1\r\n\r\n`);
  await raw.take("HTTP/1.1 200 OK\r\n\r\n");
  await relay.until(() => relay.counts().idle > idle);
  return raw;
}
