// A relay of a test's own, in this process, on a free port of 127.0.0.1.
import { once } from "node:events";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { park, type Agent } from "../../app/agent/agent.ts";
import type { ParkOptions } from "../../app/agent/options.ts";
import { issue, type Issued } from "../../app/issue.ts";
import { checkSettings, type RelaySettings } from "../../app/relay/options.ts";
import { createRelay, type Relay } from "../../app/relay/relay.ts";
import { afterThisTest, duringThisTest } from "./cleanup.ts";

export const RELAY_SECRET = "a secret that is long enough for every test";

/** Tests ask as fast as they can. */
const NO_RATES = { ratePerAddress: 0, ratePerServer: 0 };

export interface TestRelay extends Relay {
  readonly port: number;
  readonly url: string;
  /** The secret, URLs and so on of an id on this relay. */
  issue(id: string): Issued;
  /** Waits until the counts are so; they are looked at whenever something may have changed. */
  until(condition: () => boolean): Promise<void>;
}

/** Unknown ids are refused at once (a relay that has just begun would hold them), unless `holdSeconds` says otherwise. */
export async function startRelay(
  settings: Partial<RelaySettings> = {},
  log?: Logger,
): Promise<TestRelay> {
  const given = { relaySecret: RELAY_SECRET, ...NO_RATES, ...settings };
  const relay = createRelay(given, log);
  relay.server.listen(0, "127.0.0.1");
  await once(relay.server, "listening");
  const { port } = relay.server.address() as AddressInfo;
  // Certificates are for names.
  const url =
    settings.tls === undefined
      ? `http://127.0.0.1:${port}`
      : `https://localhost:${port}`;
  afterThisTest(async () => {
    const gone = relay.drain();
    await Promise.all([gone, relay.drain()]);
  });
  return {
    ...relay,
    port,
    url,
    issue: (id) => issue(id, { ...checkSettings(given), relay: new URL(url) }),
    until,
  };
}

/** Parks a server of this process and waits until the first tunnel stands. */
export async function parkHere(
  relay: TestRelay,
  id: string,
  target: Server | RequestListener | { host: string; port: number },
  options: Partial<ParkOptions> = {},
): Promise<Agent> {
  const { secret } = relay.issue(id);
  const agent = park(target, { relay: relay.url, id, secret, ...options });
  afterThisTest(() => agent.close());
  await agent.ready();
  await until(() => relay.counts().idle > 0);
  return agent;
}

/**
 * Waits for a condition on state that has no event of its own. Each turn of the event loop is a chance;
 * mocha's timeout is the deadline.
 */
export async function until(condition: () => boolean): Promise<void> {
  const check = duringThisTest();
  while (!condition()) {
    check();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
