// Accepted sockets that read into buffers which are used again: every octet arrives, whoever is slow, on both paths.
import { expect } from "chai";
import { once } from "node:events";
import {
  connect,
  createServer,
  type AddressInfo,
  type Server,
  type Socket,
} from "node:net";
import { adopts, canAdopt } from "../../app/wire/adopt.ts";
import { acceptLink, Link, type Receiver } from "../../app/wire/link.ts";
import { splice, type Spliced } from "../../app/wire/splice.ts";
import { readsPublicly } from "../support/adoption.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { checkPattern, pieceOf, sendPattern } from "../support/pattern.ts";
import { until } from "../support/relay.ts";

const MEGABYTE = 1_000_000;

const UNOWNED: Receiver = { data() {}, end() {}, drain() {}, gone() {} };

interface Switchboard {
  readonly port: number;
  /** What was counted of each splice that is over. */
  readonly finished: Spliced[];
}

const OPTIONS = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true };

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Splices connections two by two, in the order of the number that each one sends first (4 octets). */
async function startSwitchboard(): Promise<Switchboard> {
  const waiting = new Map<number, Link>();
  const finished: Spliced[] = [];
  const server = createServer(OPTIONS, (socket) => {
    const link = acceptLink(socket, server, {
      ...UNOWNED,
      data(octets) {
        const number = octets.readUInt32BE();
        const other = waiting.get(number);
        link.receiver = UNOWNED;
        link.pause();
        if (other === undefined) waiting.set(number, link);
        else splice(other, link, (octets) => finished.push(octets));
        link.write("go");
      },
    });
  });
  return { port: await listen(server), finished };
}

async function dialSwitchboard(port: number, number: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  afterThisTest(() => socket.destroy());
  const hello = Buffer.alloc(4);
  hello.writeUInt32BE(number);
  socket.write(hello);
  await once(socket, "readable");
  socket.read(2);
  return socket;
}

describe("an accepted socket", () => {
  it(`is ${readsPublicly ? "read through the public API" : "taken over"} in this run`, async () => {
    const accepted = new Promise<boolean>((resolve) => {
      const server = createServer(OPTIONS, (socket) => {
        resolve(canAdopt(socket));
        socket.destroy();
      });
      void listen(server).then((port) => {
        const socket = connect(port, "127.0.0.1");
        afterThisTest(() => socket.destroy());
      });
    });
    expect(await accepted).to.equal(!readsPublicly);
    expect(adopts()).to.equal(!readsPublicly);
  });

  it("passes on every octet of 64 pairs, both ways, to fast and slow readers", async function () {
    this.timeout(60_000);
    const { port, finished } = await startSwitchboard();
    const total = Number(process.env["STRESS_MB"] ?? 2) * MEGABYTE;
    const counts = await Promise.all(
      Array.from({ length: 64 }, async (_, pair) => {
        const [one, other] = [
          await dialSwitchboard(port, pair),
          await dialSwitchboard(port, pair),
        ];
        const pauses = pair % 4 === 0 ? 0 : (pair % 4) / 8;
        const [there, back] = await Promise.all([
          checkPattern(other, 2 * pair, pauses),
          checkPattern(one, 2 * pair + 1, pauses / 2),
          sendPattern(one, 2 * pair, total),
          sendPattern(other, 2 * pair + 1, total),
        ]);
        return [there, back];
      }),
    );
    expect(counts.flat().every((count) => count === total)).to.be.true;
    await until(() => finished.length === 64);
    for (const { there, back } of finished)
      expect([there, back]).to.deep.equal([total, total]);
  });

  it("passes on what comes in single octets", async () => {
    const { port } = await startSwitchboard();
    const [one, other] = [
      await dialSwitchboard(port, 1),
      await dialSwitchboard(port, 1),
    ];
    one.setNoDelay();
    const checked = checkPattern(other, 5, 0.1);
    for (let at = 0; at < 2000; at++) one.write(pieceOf(5, at, 1));
    one.end();
    expect(await checked).to.equal(2000);
  });
});

describe("a buffer that was lent", () => {
  it("is left alone until the write has left, even when its reader has gone in the same moment", async () => {
    // Each source writes 80 KB or more to a sink that does not read, and is destroyed while it delivers the last of them.
    const sinks: Socket[] = [];
    const seeds: number[] = [];
    const sinkServer = createServer((socket) => {
      socket.pause();
      sinks.push(socket);
    });
    const sinkPort = await listen(sinkServer);
    const BROKEN = 24;
    let brokenCount = 0;
    const server = createServer(OPTIONS, (socket) => {
      const sink = connect(sinkPort, "127.0.0.1");
      const out = new Link(sink, UNOWNED);
      afterThisTest(() => sink.destroy());
      sink.on("connect", () => {
        feed(socket, out);
      });
    });
    function feed(socket: Socket, out: Link): void {
      let at = 0;
      let seed = -1;
      const link = acceptLink(socket, server, {
        ...UNOWNED,
        data(octets) {
          if (seed < 0) {
            seed = octets.readUInt32BE();
            seeds.push(seed);
            octets = octets.subarray(4);
          }
          at += octets.length;
          out.write(octets);
          // The kernel takes no more: this write waits for its reader.
          if (out.backlog > 0 && octets.length >= 32 * 1024) {
            brokenCount++;
            out.end();
            totals.set(seed, at);
            link.destroy();
          }
        },
      });
    }
    const totals = new Map<number, number>();
    const port = await listen(server);
    const sources: Socket[] = [];
    for (let i = 0; i < BROKEN; i++) {
      const source = connect(port, "127.0.0.1");
      source.on("error", () => undefined);
      afterThisTest(() => source.destroy());
      const hello = Buffer.alloc(4);
      hello.writeUInt32BE(i);
      source.write(hello);
      void sendPattern(source, i, 64 * MEGABYTE);
      sources.push(source);
      await until(() => brokenCount === i + 1);
    }
    expect(seeds).to.deep.equal(sources.map((_, i) => i));
    // Others read on meanwhile, into whatever buffers they are given.
    const { port: other } = await startSwitchboard();
    await Promise.all(
      Array.from({ length: 64 }, async (_, pair) => {
        const [one, two] = [
          await dialSwitchboard(other, pair),
          await dialSwitchboard(other, pair),
        ];
        await Promise.all([
          checkPattern(two, 1000 + pair, 0),
          sendPattern(one, 1000 + pair, MEGABYTE),
        ]);
      }),
    );
    const counts = await Promise.all(
      sinks.map((sink, i) => {
        const checked = checkPattern(sink, i, 0);
        sink.resume();
        return checked;
      }),
    );
    expect(counts).to.deep.equal(seeds.map((seed) => totals.get(seed)));
  });
});
