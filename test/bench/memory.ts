// What hostile connections cost the relay: `npx tsx test/bench/memory.ts [COUNT]` prints the memory for each of a kind when garbage is collected, medians of three relays.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import { mochaHooks } from "../support/cleanup.ts";
import { REPORTING, reportOf, type Report } from "../support/report.ts";
import { build, startRelay } from "./stage.ts";
import { median } from "./table.ts";

const DEFAULT_COUNT = 400;
const ROUNDS = 3;
/** Visitors before, with large heads, so that what Node and the reading take once is not counted: 64 buffers to read into. */
const WARM_UPS = 80;
const ID = "victim";
/** As large as a head may be, without its last line. */
const HALF_HEAD = `GET /?rendezvous=${ID} HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(63 * 1024)}`;
const GET = `GET /?rendezvous=${ID} HTTP/1.1\r\nHost: x\r\n\r\n`;
const FLOOD_OCTETS = 16 * 1024 * 1024;
const POST = `POST /?rendezvous=${ID} HTTP/1.1\r\nHost: x\r\nContent-Length: ${FLOOD_OCTETS}\r\n`;
const ANSWER = `HTTP/1.1 200 OK\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`;
/** 120 KiB of a WebSocket message whose end never comes, in 15 fragments; the mask changes nothing. */
const HALF_MESSAGE = Buffer.concat(
  Array.from({ length: 15 }, (_, n) => {
    const frame = Buffer.alloc(8 * 1024);
    frame.set([n === 0 ? 2 : 0, 0xfe]);
    frame.writeUInt16BE(frame.length - 8, 2);
    return frame;
  }),
);
const FLOOD = Buffer.alloc(FLOOD_OCTETS, "x");
/** Time for the octets to come to where they are held. */
const SETTLE_MILLISECONDS = 5000;

/** Nothing ends by itself while it is measured. */
const ENV = {
  MAX_TUNNELS_PER_SERVER: "100000",
  MAX_WAITING_PER_SERVER: "100000",
  HOLD_SECONDS: "600",
  HEAD_SECONDS: "600",
  ANSWER_SECONDS: "600",
  MIN_OCTETS_PER_SECOND: "0",
  ...REPORTING,
} as const;

interface Stage {
  /** Connections that have said this, and then as much as they can. Nobody reads on them. */
  readonly open: (said: string, flood?: Buffer) => Promise<Socket[]>;
  /** Tunnels, parked one after the other. */
  readonly park: (asked?: (token: string) => string) => Promise<Socket[]>;
}

const KINDS: Readonly<Record<string, (stage: Stage) => Promise<unknown>>> = {
  "idle connections": ({ open }) => open(""),
  "half a head of 63 KiB": ({ open }) => open(HALF_HEAD),
  "idle tunnels": ({ park }) => park(),
  "unfinished WebSocket messages": async ({ park }) => {
    for (const tunnel of await park(byWebSocket)) tunnel.write(HALF_MESSAGE);
  },
  "waiting visitors, head of 63 KiB, body": ({ open }) =>
    open(
      `${POST}X: ${"x".repeat(63 * 1024)}\r\n\r\n`,
      FLOOD.subarray(0, 1024 * 1024),
    ),
  "bodies that no hidden server reads": async ({ open, park }) => {
    await park();
    await open(`${POST}\r\n`, FLOOD);
  },
  "answers that no visitor reads": async ({ open, park }) => {
    const tunnels = await park();
    await open(GET);
    for (const tunnel of tunnels) {
      tunnel.write(ANSWER);
      tunnel.write(FLOOD);
    }
  },
};

function byConnect(token: string): string {
  return `CONNECT uuid:${ID}?response=${token} HTTP/1.1\r\n\r\n`;
}

function byWebSocket(token: string): string {
  return `GET /-/park/${ID}?response=${token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ptth\r\n\r\n`;
}

/** KiB each. */
interface Held {
  /** Objects and buffers. */
  readonly held: number;
  /** Pages of the process, free ones between them; as it grows and gives back by whole pages, a few MB more or less in all. */
  readonly resident: number;
}

const held = ({ heapUsed, arrayBuffers }: Report): number =>
  heapUsed + arrayBuffers;

async function measure(
  act: (stage: Stage) => Promise<unknown>,
  count: number,
): Promise<Held> {
  const relay = await startRelay(ENV);
  const sockets: Socket[] = [];
  const reach = async (): Promise<Socket> => {
    const socket = connect({ port: relay.port, host: "127.0.0.1" });
    socket.on("error", () => undefined).pause();
    await once(socket, "connect");
    sockets.push(socket);
    return socket;
  };
  const key = decodeSecret(new URL(relay.url(ID)).password);
  const stage: Stage = {
    async open(said, flood) {
      const opened: Socket[] = [];
      while (opened.length < count) {
        const socket = await reach();
        socket.write(said);
        if (flood !== undefined) socket.write(flood);
        opened.push(socket);
      }
      return opened;
    },
    async park(asked = byConnect) {
      const parked: Socket[] = [];
      while (parked.length < count) {
        const socket = await reach();
        const token = await makeToken(ID, key);
        socket.write(asked(token));
        await once(socket, "readable");
        socket.read();
        parked.push(socket);
      }
      return parked;
    },
  };
  const first: Socket[] = [];
  while (first.length < WARM_UPS) first.push(await reach());
  for (const socket of first) socket.write(HALF_HEAD);
  await settle();
  for (const socket of first) socket.destroy();
  await settle();
  const before = await reportOf(relay.program, 1);
  await act(stage);
  await settle();
  const after = await reportOf(relay.program, 2);
  for (const socket of sockets) socket.destroy();
  await mochaHooks.afterEach();
  const each = (octets: number): number => octets / 1024 / count;
  return {
    held: each(held(after) - held(before)),
    resident: each(after.rss - before.rss),
  };
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MILLISECONDS));
}

const count = Number(process.argv[2] ?? DEFAULT_COUNT);
await build();
console.log(
  `KiB each, of ${count} of a kind, in a relay of their own:\n\n${"held".padStart(50)}  resident`,
);
for (const [name, act] of Object.entries(KINDS)) {
  const rounds: Held[] = [];
  while (rounds.length < ROUNDS) rounds.push(await measure(act, count));
  const column = (of: keyof Held): string =>
    median(rounds.map((round) => round[of]))
      .toFixed(0)
      .padStart(9);
  console.log(`${name.padEnd(40)} ${column("held")} ${column("resident")}`);
}
