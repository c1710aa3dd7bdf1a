// Visits over HTTP by hand: what a visitor sends, what the hidden server `pi` sees of it, and what the visitor is answered.
import { expect } from "chai";
import type { RelaySettings } from "../../app/relay/options.ts";
import { parkRawAgent } from "./hidden.ts";
import { connectRaw, type Raw } from "./raw.ts";
import { startRelay, type TestRelay } from "./relay.ts";

export const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

export const get = (target: string, fields = ""): string =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\n${fields}\r\n`;
/** Without the name that this relay has given itself. */
export const plain = (text: string): string =>
  text.replaceAll(/rendezvous-[0-9a-f]{8}/g, "RELAY");

/** What the hidden server `pi` sees of a request: the value of a field, and the whole head. */
export async function seenBy(
  relay: TestRelay,
  sent: string,
): Promise<{
  head: string;
  field: (name: string) => string | undefined;
  visitor: Raw;
  hidden: Raw;
}> {
  const hidden = await parkRawAgent(relay, "pi");
  const visitor = await connectRaw(relay.port);
  visitor.write(sent);
  const head = await hidden.take("\r\n\r\n");
  const field = (name: string): string | undefined =>
    head
      .split("\r\n")
      .find((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`))
      ?.slice(name.length + 1)
      .trim();
  return { head, field, visitor, hidden };
}

/** What the visitor sees of an answer. */
export async function answered(
  answer: string,
  sent = get("/?rendezvous=pi"),
  settings: Partial<RelaySettings> = {},
): Promise<{ visitor: Raw; hidden: Raw; relay: TestRelay }> {
  const relay = await startRelay(settings);
  const { visitor, hidden } = await seenBy(relay, sent);
  hidden.write(answer);
  return { visitor, hidden, relay };
}

/** That the visitor's next answer is the relay's own, with this code, and with this Retry-After or none. */
export async function expectProblem(
  visitor: Raw,
  status: number,
  code: string,
  retryAfter?: string,
): Promise<void> {
  const answer = await visitor.answer();
  expect(answer.body).to.include(`"code":"${code}"`);
  expect(answer.status).to.equal(status);
  expect(answer.fields["retry-after"]).to.equal(retryAfter);
}
