// A private hidden server of a test's own, and grants for it.
import { createServer } from "node:http";
import type { Agent } from "../../app/agent/agent.ts";
import type { ParkOptions } from "../../app/agent/options.ts";
import { makeGrant, type GrantLimits } from "../../app/grant.ts";
import { connectRaw, type RawAnswer } from "./raw.ts";
import { parkHere, type TestRelay } from "./relay.ts";

/** What a grant's owner hands out; good for a minute unless it says otherwise. */
export function grantFor(
  relay: TestRelay,
  id: string,
  limits: Partial<GrantLimits> = {},
): string {
  const { secret } = relay.issue(id);
  return makeGrant(id, secret, { seconds: 60, ...limits }).token;
}

/** Parks a server that remembers the heads it was sent, and answers 200. */
export async function parkRecorder(
  relay: TestRelay,
  id: string,
  options: Partial<ParkOptions> = { private: true },
): Promise<{ seen: string[]; agent: Agent }> {
  const seen: string[] = [];
  const server = createServer(({ method, url, rawHeaders }, answer) => {
    seen.push(`${method ?? ""} ${url ?? ""}\n${rawHeaders.join("\n")}`);
    answer.setHeader("Set-Cookie", ["own=1", `rendezvous-grant-${id}=x`]);
    answer.end("ok");
  });
  return { seen, agent: await parkHere(relay, id, server, options) };
}

/** Sends a request on a connection of its own, and gives the answer. */
export async function ask(
  relay: TestRelay,
  target: string,
  fields: Readonly<Record<string, string>> = {},
  method = "GET",
): Promise<RawAnswer> {
  const raw = await connectRaw(relay.port);
  const lines = Object.entries({ Host: "x", ...fields }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  raw.write(`${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n`);
  return raw.answer(method);
}

/** The code of a failure; "" for an answer that is none. */
export function codeOf({ body }: RawAnswer): string {
  return /"code":"(\w+)"/.exec(body)?.[1] ?? "";
}
