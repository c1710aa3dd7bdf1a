// Everything that comes to a relay on an ordinary day and a bad one, for as long as it is wanted.
import { Agent as HttpAgent } from "node:http";
import { connect, type Socket } from "node:net";
import { generateSync } from "otplib";
import { WAYS } from "../../app/protocol.ts";
import { park, type Agent } from "../../app/agent/agent.ts";
import { afterThisTest } from "../support/cleanup.ts";
import {
  KINDS,
  Reader,
  Failed,
  codeOf,
  run as runErrand,
  startLedger,
  type Kind,
  type Ledger,
  type Outcome,
} from "../support/errands.ts";
import { issueFor, startAgent } from "../support/parked.ts";
import { dice } from "../support/pattern.ts";
import type { Program } from "../support/programs.ts";
import { until } from "../support/relay.ts";

const VISITORS = 12;
/** Idle tunnels of an agent at rest. */
const SPARE = 4;
/** An agent program is killed so often, and started again. */
const FLAP_MILLISECONDS = 6000;
const PATIENCE_MILLISECONDS = 15_000;
/** Servers that park by themselves, and those of the generic protocol. */
const LEGACY = ["legacy-a", "legacy-b", "legacy-c"];
const FLAPPING = "flapping";

/** What may come of a visit to a server whose agent is killed at any moment. */
const LOSSES: readonly Outcome[] = [
  ...["right", "cut", "short", "silence", "tunnel_lost", "bad_answer"],
  ...["server_offline", "busy", "unknown_server", "no_answer"],
  ...["local_service_down", "target_down"],
];

type Task =
  | Kind
  | ("flapping" | "abort" | "slow" | "unknown" | "token" | "garbage")
  | ("partial" | "legacy" | "generic");

/** By how often each is done. */
const TASKS: readonly Task[] = [
  ...KINDS,
  ...KINDS,
  ...(["flapping", "flapping", "abort", "slow", "unknown"] as const),
  ...(["token", "garbage", "partial", "legacy", "generic"] as const),
];

export interface Load {
  /** What became of everything so far, by task and outcome. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** What must not have been. */
  readonly wrong: readonly string[];
  /** Lets what is under way end, and begins nothing. */
  rest(): Promise<void>;
  goOn(): void;
  stop(): Promise<void>;
}

/** Where the load stands. */
interface Run {
  phase: "loading" | "resting" | "over";
  /** Tasks under way. */
  busy: number;
  /** Visitors wait for it before each task. */
  turn: Promise<void>;
}

/** Loads the relay program that listens on these ports. */
export async function startLoad(
  port: number,
  genericPort: number,
  seed: number,
): Promise<Load> {
  const roll = dice(seed);
  const outcomes = new Map<string, number>();
  const wrong: string[] = [];
  const ids = WAYS.map((way) => `by-${way}`);
  const ledgers: Ledger[] = [];
  const agents: Agent[] = [];
  const run: Run = { phase: "loading", busy: 0, turn: Promise.resolve() };
  for (const [n, id] of ids.entries()) {
    const ledger = await startLedger(id);
    ledgers.push(ledger);
    const host = "127.0.0.1";
    const agent = park(
      { host, port: ledger.port },
      {
        ...{ relay: `http://${host}:${port}`, id, via: WAYS[n] },
        secret: issueFor(id, port).secret,
        tcp: new Map([[7, { host, port: ledger.tcpPort }]]),
        spare: SPARE,
      },
    );
    afterThisTest(() => agent.close());
    agent.on("trouble", (reason) => {
      if (run.phase !== "over") wrong.push(`agent of ${id}: ${reason}`);
    });
    await agent.ready();
    agents.push(agent);
  }
  const flapping = await startLedger(FLAPPING);
  ledgers.push(flapping);
  const startFlapping = (): Program =>
    startAgent(FLAPPING, port, flapping.port, [
      ...["--tcp", `7=127.0.0.1:${flapping.tcpPort}`],
    ]);
  let program = startFlapping();
  let flapped = Promise.resolve();
  const flap = (signal: "SIGKILL" | "SIGTERM"): Promise<void> =>
    (flapped = flapped.then(async () => {
      await program.stop(signal);
      if (run.phase !== "over") program = startFlapping();
    }));
  const flaps = setInterval(() => {
    if (run.phase === "loading")
      void flap(roll() < 0.5 ? "SIGKILL" : "SIGTERM");
  }, FLAP_MILLISECONDS);

  let shared = new HttpAgent({ keepAlive: true, maxSockets: 6 });
  const errand = (kind: Kind, id: string, patience: number): Promise<Outcome> =>
    runErrand({
      ...{ kind, id, port, direct: port, roll },
      patience,
      agent: shared,
    });
  const any = <T>(list: readonly T[]): T | undefined =>
    list[Math.floor(roll() * list.length)];

  const tasks: Readonly<
    Record<Exclude<Task, Kind>, () => Promise<readonly [Outcome, boolean]>>
  > = {
    flapping: async () => {
      const kind = any(KINDS) ?? "get";
      const outcome = await errand(kind, FLAPPING, PATIENCE_MILLISECONDS);
      return [outcome, LOSSES.includes(outcome)];
    },
    abort: async () => {
      const outcome = await errand(
        roll() < 0.5 ? "large" : "connect",
        any(ids) ?? "",
        1 + roll() * 15,
      );
      return [outcome, ["silence", "right", "cut"].includes(outcome)];
    },
    slow: () => expecting("right", slow(port, any(ids) ?? "", roll)),
    unknown: () =>
      expecting(
        "unknown_server",
        errand("get", `nobody-${Math.floor(roll() * 1e9)}`, 10_000),
      ),
    token: async () => {
      const outcome = await ask(
        port,
        `CONNECT uuid:guess-${Math.floor(roll() * 1e9)}?response=123456 HTTP/1.1\r\n\r\n`,
        // Whoever guesses ends the codes of his address.
        "127.0.0.66",
      );
      return [outcome, ["bad_token", "too_many_failures"].includes(outcome)];
    },
    garbage: () =>
      expecting("bad_request", ask(port, "GET / HTTP/1.1\r\nHost : x\r\n\r\n")),
    partial: () => expecting("left", partial(port)),
    legacy: () => expecting("right", legacy(port, LEGACY, roll)),
    generic: () => expecting("right", generic(port, genericPort)),
  };

  let resume = (): void => undefined;
  let allRest = (): void => undefined;
  const visitor = async (): Promise<void> => {
    while (run.phase !== "over") {
      await run.turn;
      // Not all at once, and not all that the machine can do.
      await new Promise((resolve) => setTimeout(resolve, roll() * 60));
      const task = any(TASKS);
      if (run.phase !== "loading" || task === undefined) continue;
      run.busy++;
      const [outcome, isRight] = isKind(task)
        ? await expecting(
            "right",
            errand(task, any(ids) ?? "", PATIENCE_MILLISECONDS),
          )
        : await tasks[task]().catch(
            (error: unknown) => [`wrong: ${String(error)}`, false] as const,
          );
      run.busy--;
      const name = `${task} ${outcome}`;
      outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
      if (!isRight) wrong.push(name);
      if (run.busy === 0) allRest();
    }
  };
  const visitors = Array.from({ length: VISITORS }, visitor);
  const rest = async (): Promise<void> => {
    run.phase = "resting";
    run.turn = new Promise((done) => (resume = done));
    if (run.busy > 0) await new Promise<void>((done) => (allRest = done));
    shared.destroy();
    // An agent that has grown under a rush keeps more tunnels for a while; a new one has not.
    await flap("SIGTERM");
    await program.prints(/ is up/);
    await until(() =>
      agents.every(({ counts }) => counts.joined === 0 && counts.idle <= SPARE),
    );
  };
  return {
    outcomes,
    get wrong() {
      const twice = ledgers.flatMap(({ posts }) =>
        [...posts.values()].filter((times) => times > 1),
      );
      return [
        ...wrong,
        ...ledgers.flatMap((ledger) => ledger.wrong),
        ...twice.map((times) => `a POST came ${times} times`),
      ];
    },
    rest,
    goOn() {
      for (const { posts } of ledgers)
        for (const [key, times] of posts) if (times === 1) posts.delete(key);
      shared = new HttpAgent({ keepAlive: true, maxSockets: 6 });
      run.phase = "loading";
      resume();
    },
    async stop() {
      clearInterval(flaps);
      run.phase = "over";
      resume();
      await Promise.all(visitors);
      shared.destroy();
      await flapped;
      await program.stop();
    },
  };
}

const isKind = (task: Task): task is Kind =>
  KINDS.some((kind) => kind === task);

async function expecting(
  wanted: Outcome,
  came: Promise<Outcome>,
): Promise<readonly [Outcome, boolean]> {
  const outcome = await came;
  return [outcome, outcome === wanted];
}

async function within<T>(
  socket: Socket,
  act: (reader: Reader) => Promise<T>,
): Promise<T | Outcome> {
  const late = setTimeout(() => {
    socket.destroy();
  }, PATIENCE_MILLISECONDS);
  try {
    return await act(new Reader(socket));
  } catch (error) {
    if (error instanceof Failed) return error.message;
    throw error;
  } finally {
    clearTimeout(late);
    socket.destroy();
  }
}

/** One request, and the code that it is refused with. */
function ask(
  port: number,
  request: string,
  localAddress = "127.0.0.1",
): Promise<Outcome> {
  const socket = connect({ port, host: "127.0.0.1", localAddress });
  socket.write(request);
  return within(socket, async (reader) => {
    const { status, body } = await reader.answer();
    return codeOf(status, body.toString());
  });
}

/** Reads a large answer in small steps. */
function slow(port: number, id: string, roll: () => number): Promise<Outcome> {
  const socket = connect({ port, host: "127.0.0.1" });
  const down = 300_000;
  const pauses = setInterval(() => {
    if (socket.isPaused()) socket.resume();
    else if (roll() < 0.7) socket.pause();
  }, 15);
  socket.write(
    `GET /get?key=slow&down=${down}&rendezvous=${id} HTTP/1.1\r\nHost: x\r\n\r\n`,
  );
  return within(socket, async (reader) => {
    const { status, body } = await reader.answer();
    return status === 200 && body.length === down
      ? "right"
      : `wrong: ${status}`;
  }).finally(() => {
    clearInterval(pauses);
  });
}

/** Whoever leaves in the middle of a head. */
async function partial(port: number): Promise<Outcome> {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  await new Promise((sent) =>
    socket.write("GET /?rendezvous=by-connect HTTP/1.1\r\nHo", sent),
  );
  socket.destroy();
  return "left";
}

/** A hidden server of 2013 parks, is visited once, and is gone. */
async function legacy(
  port: number,
  ids: readonly string[],
  roll: () => number,
): Promise<Outcome> {
  const id = `${ids[Math.floor(roll() * ids.length)] ?? ""}-${Math.floor(roll() * 20)}`;
  const { secret } = issueFor(id, port);
  const hidden = connect({ port, host: "127.0.0.1" });
  hidden.write(
    `CONNECT uuid:${id}?response=${generateSync({ secret })} HTTP/1.1\r\n\r\n`,
  );
  const visitor = connect({ port, host: "127.0.0.1" });
  return within(hidden, (server) =>
    within(visitor, async (reader) => {
      const granted = (await server.upTo("\r\n\r\n")).toString();
      if (!granted.startsWith("HTTP/1.1 200 ")) return granted;
      visitor.write(`GET /?rendezvous=${id} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await server.upTo("\r\n\r\n");
      hidden.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`);
      const { body } = await reader.answer();
      return body.toString() === "ok" ? "right" : `wrong: ${body.toString()}`;
    }),
  );
}

let genericCount = 0;

/** A responder and an initiator meet, wrapped or on the plain port. */
async function generic(port: number, genericPort: number): Promise<Outcome> {
  // In turns, so that no two meet by one id; few, for a relay remembers each for a day.
  const id = `generic-${genericCount++ % 40}`;
  const { secret } = issueFor(id, port);
  const cookieOf = async (request: string): Promise<string> => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.write(`${request} HTTP/1.1\r\nHost: relay\r\n\r\n`);
    const text = await within(socket, async (reader) =>
      (await reader.answer()).body.toString(),
    );
    return /"cookie":"([^"]+)"/.exec(text)?.[1] ?? `wrong: ${text}`;
  };
  const go = (cookie: string): Socket => {
    const socket = connect({ port: genericPort, host: "127.0.0.1" });
    socket.write(`${cookie}\n`);
    return socket;
  };
  const responder = go(
    await cookieOf(`PUT /?uuid=${id}&response=${generateSync({ secret })}`),
  );
  return within(responder, async (server) => {
    let text = "";
    // It may not have come to wait yet.
    for (let n = 0; n < 500 && !text.startsWith("+OK"); n++) {
      const initiator = go(await cookieOf(`GET /?uuid=${id}`));
      text = await within(initiator, async (reader) => {
        const told = (await reader.upTo("\n")).toString();
        if (!told.startsWith("+OK")) return told;
        await server.upTo("\n");
        initiator.write("hello\n");
        const heard = (await server.upTo("\n")).toString();
        responder.write(heard);
        return `+OK ${(await reader.upTo("\n")).toString()}`;
      });
    }
    return text === "+OK hello\n" ? "right" : `wrong: ${text}`;
  });
}
