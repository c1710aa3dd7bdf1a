// Hidden servers by hand: raw octets on a tunnel that was parked with a TOTP, as a program of 2013 would do it, or as an agent.
import { expect } from "chai";
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

/** Parks one tunnel that speaks for an agent, as far as the ping: returns its nonce, which nobody has answered. */
export async function parkRawUnproved(
  relay: TestRelay,
  id: string,
  fields = "",
): Promise<{ raw: Raw; nonce: string }> {
  const code = generateSync({ secret: relay.issue(id).secret });
  const raw = await connectRaw(relay.port);
  raw.write(
    `CONNECT uuid:${id}?response=${code} HTTP/1.1\r\nRendezvous-Agent: 1.0.0\r\n${fields}\r\n`,
  );
  await raw.take("HTTP/1.1 200 OK\r\n");
  await raw.take("\r\n\r\n");
  return { raw, nonce: await takePing(raw) };
}

/** Waits for a ping; gives its nonce. */
export async function takePing(raw: Raw): Promise<string> {
  const ping = await raw.take("\r\n\r\n");
  const nonce =
    /^OPTIONS \* HTTP\/1\.1\r\n.*\r\nRendezvous-Ping: (\S+)\r\n\r\n$/.exec(
      ping,
    )?.[1];
  if (nonce === undefined) throw new Error(`this is no ping: ${ping}`);
  return nonce;
}

export function pong(nonce: string, more = ""): string {
  return `HTTP/1.1 204 No Content\r\nRendezvous-Pong: ${nonce}\r\n${more}\r\n`;
}

/** Parks one tunnel as an agent would: it may carry many exchanges. */
export async function parkRawAgent(
  relay: TestRelay,
  id: string,
  fields = "",
): Promise<Raw> {
  const idle = relay.counts().idle;
  const { raw, nonce } = await parkRawUnproved(relay, id, fields);
  raw.write(pong(nonce));
  await relay.until(() => relay.counts().idle > idle);
  return raw;
}

/** Parks as an agent would for visitors who wait already: the tunnel is claimed at once, and never stands idle. */
export async function parkForWaiting(
  relay: TestRelay,
  id: string,
): Promise<Raw> {
  const { raw, nonce } = await parkRawUnproved(relay, id);
  return raw.write(pong(nonce));
}

/** An agent's answer when it has reached a TCP service. */
export const SWITCH =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nCapsule-Protocol: ?1\r\n\r\n";

/** Takes the relay's question for a stream off a tunnel. */
export async function takeAsk(hidden: Raw, port = 7): Promise<string> {
  const question = await hidden.take("\r\n\r\n");
  expect(question).to.match(
    new RegExp(
      `^GET /\\.well-known/masque/tcp/localhost/${String(port)}/ HTTP/1\\.1\\r\\n`,
    ),
  );
  return question;
}
