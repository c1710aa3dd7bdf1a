// Drain: how a relay leaves. Nobody new comes in; what is under way ends, and what is on its way there is served for a while.
import type { Server } from "node:net";
import type { Link } from "../wire/link.ts";
import { Refused } from "./cookieline.ts";
import type { Connection } from "./connection.ts";
import type { Echoes } from "./echo.ts";
import type { Generic } from "./generic.ts";
import type { Lot } from "./lot.ts";

/**
 * In this part of the time to drain requests on open connections are still served: whoever closed one at once would lose
 * what is on its way there. Idle agents are sent away over it, so that they do not all come back at once.
 */
const LEAVING_SHARE = 0.25;
/** Where nobody can ask any more it need not last so long: so many agents a second can come back. */
const LEAVING_TUNNEL_MILLISECONDS = 10;

/** What a relay has that must leave. */
export interface Leaving {
  readonly ports: readonly Server[];
  readonly links: ReadonlySet<Link>;
  readonly connections: ReadonlySet<Connection>;
  readonly lot: Lot;
  readonly generic: Generic;
  readonly echoes: Echoes;
}

/** Resolves when everybody has gone; whoever has not by the deadline, in milliseconds, is cut off. */
export async function drain(
  { ports, links, connections, lot, generic, echoes }: Leaving,
  milliseconds: number,
): Promise<void> {
  const deadline = setTimeout(() => {
    destroyAll(links);
  }, milliseconds);
  const allClosed = Promise.all(ports.map(closePort));
  const refuseLines = (): void => {
    generic.drain();
    for (const { receiver } of links)
      if (receiver instanceof Refused) receiver.hurry();
  };
  refuseLines();
  lot.close();
  for (const connection of connections) connection.finishSoon();
  const idle = lot.idle();
  const leavingMilliseconds = Math.min(
    LEAVING_SHARE * milliseconds,
    connections.size > 0 ? Infinity : idle.length * LEAVING_TUNNEL_MILLISECONDS,
  );
  for (const tunnel of idle) {
    const leave = (): void => {
      // The last one serves whoever comes meanwhile.
      if (lot.hasOther(tunnel) && lot.take(tunnel)) tunnel.leave();
    };
    setTimeout(leave, Math.random() * leavingMilliseconds).unref();
  }
  setTimeout(() => {
    refuseLines();
    echoes.close();
    lot.drain();
    for (const tunnel of lot.idle()) tunnel.leave();
    for (const connection of connections) connection.windUp();
  }, leavingMilliseconds).unref();
  await allClosed;
  clearTimeout(deadline);
}

/** Cuts everybody off. */
export function destroyAll(links: Iterable<Link>): void {
  for (const link of links) link.destroy();
}

/** Resolves when nobody can come in any more and everybody has gone. */
function closePort(port: Server): Promise<void> {
  return new Promise((resolve) => {
    // One that never listened is closed already.
    port.close(() => {
      resolve();
    });
  });
}
