// A bad network on each link: whatever it does to a visit, the answer is right or clearly failed, and afterwards all is as before.
//   FAULT_SEED repeats a run as far as time lets it; FAULT_EXCHANGES makes it longer, and prints what became of each kind.
import { expect } from "chai";
import { Agent } from "node:http";
import { KINDS, run, type Kind, type Outcome } from "../support/errands.ts";
import { HARMS, type FaultyLink, type Harm } from "../support/faults.ts";
import { LINKS, SPARE, startChain, type LinkName } from "../support/linked.ts";
import { dice } from "../support/pattern.ts";
import { until } from "../support/relay.ts";

const EXCHANGES = Number(process.env["FAULT_EXCHANGES"] ?? 2016);
/** Long enough to look at each harm by itself. */
const IS_LONG = EXCHANGES > 5000;
const SEED = Number(process.env["FAULT_SEED"] ?? Date.now() % 1_000_000);
const VISITORS = 40;
const PATIENCE_MILLISECONDS = 3000;
/** The part of connections to which something happens. */
const SHARE = 0.45;

/** Harms after which the end of a connection looks like one in good order. */
const ENDS: readonly Harm[] = ["cut", "half"];
/** Links on which such an end cannot be told from the service's own, by kind of visit; none for all others. */
const BARE: Readonly<Partial<Record<Kind, readonly LinkName[]>>> = {
  close: LINKS,
  upgrade: LINKS,
  connect: ["visitor", "router", "service"],
  "connect-tcp": ["service"],
  websocket: ["service"],
};

describe("a bad network", function () {
  this.timeout(IS_LONG ? 0 : 170_000);

  it(`costs a visit at most its answer, and nobody else's, and leaves nothing behind (FAULT_SEED=${SEED})`, async () => {
    const roll = dice(SEED);
    const chain = await startChain();
    const { relay, links, ids, ledgers, agents } = chain;
    const all = Object.values(links).flat();
    const wrong: string[] = [];
    const before = handles();
    const table = new Map<string, Map<Outcome, number>>();

    /** Many exchanges by several visitors, while harm comes to one link. */
    async function trouble(
      link: LinkName,
      harms: readonly Harm[],
      exchanges: number,
    ): Promise<void> {
      for (const one of links[link]) one.draw = () => drawn(harms, roll);
      const shared = new Agent({ keepAlive: true, maxSockets: 8 });
      const seen = new Map<Outcome, number>();
      table.set(`${link} ${harms.join()}`, seen);
      let left = exchanges;
      const visitor = async (): Promise<void> => {
        while (left-- > 0) {
          const kind = KINDS[Math.floor(roll() * KINDS.length)] ?? "get";
          const id = ids[Math.floor(roll() * ids.length)] ?? "";
          const began = performance.now();
          const isPast = roll() < 0.3;
          const outcome = await run({
            ...{ kind, id, roll, agent: shared },
            port: isPast ? chain.direct : chain.port,
            direct: chain.direct,
            patience: PATIENCE_MILLISECONDS,
          });
          const isExcused = outcome !== "short" || mayEnd(kind, links, began);
          if (outcome.startsWith("wrong") || !isExcused)
            wrong.push(
              `${kind} of ${id}, ${harms.join()} on ${link}: ${outcome}`,
            );
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: VISITORS }, visitor));
      shared.destroy();
      for (const one of all) one.heal();
    }

    const steps = IS_LONG ? HARMS.map((harm) => [harm]) : [HARMS];
    const each = Math.ceil(EXCHANGES / LINKS.length / steps.length);
    for (const link of LINKS)
      for (const harms of steps) await trouble(link, harms, each);

    if (IS_LONG) console.log(tell(table));
    expect(wrong).to.deep.equal([]);
    const right = [...table.values()].reduce(
      (sum, seen) => sum + (seen.get("right") ?? 0),
      0,
    );
    expect(right, "right answers").to.be.above(EXCHANGES / 2);
    expect(ledgers.flatMap((ledger) => ledger.wrong)).to.deep.equal([]);
    const twice = ledgers.flatMap(({ posts }) =>
      [...posts].filter(([, times]) => times > 1),
    );
    expect(twice, "requests that came twice").to.deep.equal([]);
    for (const [name, some] of Object.entries(links))
      expect(some.flatMap(({ done }) => done).length, name).to.be.above(0);

    // Nobody visits any more.
    for (const one of [...links.visitor, ...links.router]) one.cut();
    await until(() => {
      const { tunnels, idle, waiting, connections, pages } = relay.counts();
      return (
        [tunnels, idle].every((some) => some === SPARE * ids.length) &&
        waiting + connections + pages === 0 &&
        agents.every(
          ({ counts }) =>
            counts.idle === SPARE && counts.joined + counts.opening === 0,
        )
      );
    });
    await until(() => {
      const now = handles();
      return now.sockets === before.sockets && now.timers <= before.timers;
    });
    for (const id of ids)
      for (const kind of KINDS)
        expect(await quiet(chain, id, kind, roll), kind).to.equal("right");
  });
});

/** What keeps this process alive, the relay's, the agents' and the network's. */
function handles(): { sockets: number; timers: number } {
  const all = process.getActiveResourcesInfo();
  return {
    sockets: all.filter((one) => one === "TCPSocketWrap").length,
    timers: all.filter((one) => one === "Timeout").length,
  };
}

/** A fault at an octet that may be anywhere from the first one to deep in a large answer. */
function drawn(
  harms: readonly Harm[],
  roll: () => number,
): ReturnType<FaultyLink["draw"]> {
  if (roll() > SHARE) return undefined;
  const harm = harms[Math.floor(roll() * harms.length)] ?? "cut";
  const octet = Math.floor(Math.exp(roll() * Math.log(100_000)));
  return { harm, octet, way: roll() < 0.4 ? "there" : "back" };
}

function mayEnd(
  kind: Kind,
  links: Readonly<Record<LinkName, readonly FaultyLink[]>>,
  since: number,
): boolean {
  return (BARE[kind] ?? []).some((name) =>
    links[name].some((link) => link.hasDone(ENDS, since)),
  );
}

/** A visit without any fault. */
async function quiet(
  { port, direct }: Awaited<ReturnType<typeof startChain>>,
  id: string,
  kind: Kind,
  roll: () => number,
): Promise<Outcome> {
  const agent = new Agent();
  const outcome = await run({
    ...{ kind, id, roll, agent, port, direct },
    patience: 10_000,
  });
  agent.destroy();
  return outcome;
}

function tell(
  table: ReadonlyMap<string, ReadonlyMap<Outcome, number>>,
): string {
  const outcomes = [
    ...new Set([...table.values()].flatMap((row) => [...row.keys()])),
  ].sort();
  const rows = [...table].map(([name, row]) =>
    [name, ...outcomes.map((one) => row.get(one) ?? 0)].join(" | "),
  );
  return [["link and harm", ...outcomes].join(" | "), ...rows].join("\n");
}
