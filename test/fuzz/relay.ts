// A whole relay between hostile visitors and hostile hidden servers, with a visitor and a hidden server beside them who behave.
import { expect } from "chai";
import fc from "fast-check";
import { pino } from "pino";
import type { Agent } from "../../app/agent/agent.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import { startTcp } from "../support/tcp.ts";
import { settled } from "./end.ts";
import { answers, requests } from "./messages.ts";
import { cuts, nearly, piecesOf } from "./octets.ts";
import { capsules, frames } from "./pipes.ts";
import { slowTarget, type Plan, type Target } from "./target.ts";

/** Longer than anything that the relay waits for here. */
const PATIENCE_MILLISECONDS = 15 * 1000;

interface Attack {
  readonly request: string;
  readonly cuts: readonly number[];
  /** What the hidden server says to whatever it is asked next. */
  readonly answer: string;
  readonly isCut: boolean;
}

const upgrade = (to: string, fields: string): string =>
  `GET /.well-known/masque/tcp/${to}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n${fields}\r\n`;
const WEBSOCKET =
  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: connect-tcp\r\n";
const place = fc.constantFrom("rendezvous.internal/7", "pi/80", "pi/22");

/** TCP visits: the relay's echo, a service, and a port that is not offered. */
const streams = fc.oneof(
  fc
    .tuple(place, frames)
    .map(([to, octets]) => upgrade(to, WEBSOCKET) + octets),
  fc
    .tuple(place, capsules)
    .map(([to, octets]) => upgrade(to, "Upgrade: connect-tcp\r\n") + octets),
  fc
    .tuple(place, capsules)
    .map(
      ([to, octets]) =>
        `CONNECT ${to.replace("/", ":")} HTTP/1.1\r\nHost: x\r\n\r\n${octets}`,
    ),
);

const attack: fc.Arbitrary<Attack> = fc.record({
  request: fc.oneof(
    { weight: 4, arbitrary: requests },
    { weight: 1, arbitrary: nearly(streams, 1) },
  ),
  cuts,
  answer: answers,
  isCut: fc.boolean(),
});
const attacks = fc.array(attack, { minLength: 1, maxLength: 6 });

/** A visitor whose connection goes on, and who always gets what he asks for. */
class GoodVisitor {
  readonly #raw: Raw;
  #count = 0;

  constructor(raw: Raw) {
    this.#raw = raw;
  }

  async visit(): Promise<void> {
    const name = `mine-${++this.#count}`;
    this.#raw.write(
      `POST /${name}?rendezvous=good HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody`,
    );
    const { status, body } = await this.#raw.answer();
    expect([status, body]).to.deep.equal([200, `/${name} body`]);
    expect(this.#raw.received).to.equal("");
  }
}

interface Parts {
  readonly relay: TestRelay;
  readonly visitor: Raw;
  readonly agents: readonly Agent[];
  /** What the hostile hidden server says next. */
  readonly answers: Attack[];
  /** Lines of the relay's log that tell of a bug. */
  readonly errors: readonly string[];
}

class Scene {
  readonly #parts: Parts;
  readonly #good: GoodVisitor;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#good = new GoodVisitor(parts.visitor);
  }

  static async set(): Promise<Scene> {
    const errors: string[] = [];
    const log = pino(
      { level: "error" },
      { write: (line: string) => errors.push(line) },
    );
    const relay = await startRelay(
      { holdSeconds: 0.3, baseDomain: "example.com", trustProxy: 1 },
      log,
    );
    const answers: Attack[] = [];
    const port = await startTcp((socket) => {
      socket.once("data", () => {
        const [said] = answers.splice(0, 1);
        if (said === undefined) socket.destroy();
        else void say(socket, said);
      });
    });
    const agents = [
      await parkHere(relay, "pi", { host: "127.0.0.1", port }),
      await parkHere(relay, "good", (request, answer) => {
        let body = "";
        request.on("data", (octets: Buffer) => (body += octets.toString()));
        request.on("end", () => answer.end(`${request.url ?? ""} ${body}`));
      }),
    ];
    const visitor = await connectRaw(relay.port);
    return new Scene({ relay, visitor, agents, answers, errors });
  }

  async suffer(all: readonly Attack[]): Promise<void> {
    this.#parts.answers.splice(0, Infinity, ...all);
    const hostile = await Promise.all(
      all.map(async () => connectRaw(this.#parts.relay.port)),
    );
    await Promise.all([
      this.#good.visit(),
      ...hostile.map(async (raw, i) => {
        const { request = "", cuts: at = [] } = all[i] ?? {};
        for (const piece of piecesOf(request, at)) {
          raw.write(piece);
          await settled();
        }
      }),
    ]);
    await this.#good.visit();
    for (const [i, raw] of hostile.entries()) {
      expect(raw.received).not.to.match(/mine-|internal_error/);
      if (all[i]?.isCut === true) raw.socket.resetAndDestroy();
      else raw.socket.destroy();
    }
    await this.#until({ connections: 1, waiting: 0, pages: 0 });
    await this.#good.visit();
    expect(this.#parts.errors).to.deep.equal([]);
  }

  /** Everybody leaves. */
  async leave(): Promise<void> {
    const { agents, visitor } = this.#parts;
    for (const agent of agents) await agent.close();
    visitor.socket.destroy();
    const nothing = { connections: 0, waiting: 0, pages: 0, tunnels: 0 };
    await this.#until(nothing);
  }

  /** Waits until so much is left, and all tunnels are free. */
  async #until(wanted: Readonly<Record<string, number>>): Promise<void> {
    const { relay } = this.#parts;
    const deadline = performance.now() + PATIENCE_MILLISECONDS;
    await relay.until(() => {
      const counts = relay.counts();
      if (performance.now() > deadline)
        throw new Error(`something is left: ${JSON.stringify(counts)}`);
      return (
        counts.tunnels === counts.idle &&
        Object.entries(counts).every(([name, count]) =>
          [undefined, count].includes(wanted[name]),
        )
      );
    });
  }
}

async function say(
  socket: { write(octets: Buffer): unknown; end(): unknown },
  { answer, cuts: at }: Attack,
): Promise<void> {
  for (const piece of piecesOf(answer, at)) {
    socket.write(piece);
    await settled();
  }
  socket.end();
}

let scene: Scene | undefined;
const attacked = slowTarget(
  "a relay that is attacked from both sides serves who behaves, mixes up nobody, and is left with nothing",
  attacks,
  async (all) => scene?.suffer(all),
  8,
);

export const relay: readonly Target[] = [
  {
    ...attacked,
    run: async (plan: Plan) => {
      scene = await Scene.set();
      const count = await attacked.run(plan);
      await scene.leave();
      return count;
    },
  },
];
