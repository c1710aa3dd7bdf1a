// A relay, three hidden servers that park in three ways, and a bad network on each of the four links between.
//   visitor -1- router -2- relay ==3== agent -4- hidden server
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Agent } from "../../app/agent/agent.ts";
import { WAYS } from "../../app/protocol.ts";
import { park } from "../../app/agent/agent.ts";
import { afterThisTest } from "./cleanup.ts";
import { startLedger, type Ledger } from "./errands.ts";
import { FaultyLink } from "./faults.ts";
import { startRelay, type TestRelay } from "./relay.ts";
import { createForwarder } from "./routers/forward.ts";

export const LINKS = ["visitor", "router", "relay", "service"] as const;
/** A link by who stands at its nearer end. */
export type LinkName = (typeof LINKS)[number];

export interface Chain {
  readonly relay: TestRelay;
  readonly links: Readonly<Record<LinkName, readonly FaultyLink[]>>;
  readonly ids: readonly string[];
  readonly ledgers: readonly Ledger[];
  readonly agents: readonly Agent[];
  /** Where a visitor comes in: through a router, and past it. */
  readonly port: number;
  readonly direct: number;
}

/** Tunnels that each of the three keeps parked. */
export const SPARE = 4;

export async function startChain(): Promise<Chain> {
  const relay = await startRelay({
    ...{ heartbeatSeconds: 0.4, holdSeconds: 1.5, answerSeconds: 1 },
    ...{ idleSeconds: 2, stallSeconds: 2, drainSeconds: 1 },
  });
  const router = await FaultyLink.start(relay.port);
  const visitor = await FaultyLink.start(await startForwarding(router.port));
  const ids = WAYS.map((way) => `by-${way}`);
  const ledgers: Ledger[] = [];
  const agents: Agent[] = [];
  const [relays, services]: [FaultyLink[], FaultyLink[]] = [[], []];
  for (const [n, id] of ids.entries()) {
    const ledger = await startLedger(id);
    const http = await FaultyLink.start(ledger.port);
    const tcp = await FaultyLink.start(ledger.tcpPort);
    const out = await FaultyLink.start(relay.port);
    const host = "127.0.0.1";
    const agent = park(
      { host, port: http.port },
      {
        ...{ relay: `http://${host}:${out.port}`, id, spare: SPARE },
        secret: relay.issue(id).secret,
        via: WAYS[n],
        tcp: new Map([[7, { host, port: tcp.port }]]),
      },
    );
    afterThisTest(() => agent.close());
    ledgers.push(ledger);
    agents.push(agent);
    relays.push(out);
    services.push(http, tcp);
  }
  await relay.until(() => relay.counts().idle === SPARE * ids.length);
  const links = {
    ...{ visitor: [visitor], router: [router] },
    ...{ relay: relays, service: services },
  };
  const { port } = visitor;
  return { relay, links, ids, ledgers, agents, port, direct: router.port };
}

/** A router that passes requests on one by one, on connections that visitors share. */
async function startForwarding(relayPort: number): Promise<number> {
  const forwarder = createForwarder({
    ...{ relayPort, firstMilliseconds: 5000, cutMilliseconds: 5000 },
    late: [504, "Gateway Timeout"],
    added: () => ({}),
  });
  const server: Server = createServer((request, response) => {
    forwarder.exchange(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
