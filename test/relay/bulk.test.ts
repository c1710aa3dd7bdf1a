// Everything at once through one relay: downloads and streams, fast readers and slow ones, and every octet is looked at.
import { expect } from "chai";
import { once } from "node:events";
import { Agent, createServer, get, type IncomingMessage } from "node:http";
import { dial } from "../../app/client/dial.ts";
import { WAYS } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { checkPattern, sendPattern } from "../support/pattern.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import { startTcp } from "../support/tcp.ts";

const TOTAL = 3_000_000;
const DOWNLOADS = 24;
const STREAMS_EACH_WAY = 8;

describe("a relay with many at once", () => {
  it("gives every visitor his own octets, and all of them", async function () {
    this.timeout(60_000);
    const relay = await startRelay({ maxTunnelsPerServer: 200 });
    const server = createServer((asked, answer) => {
      const seed = Number(asked.url?.slice(1));
      if (seed % 2 === 0) answer.setHeader("Content-Length", TOTAL);
      void sendPattern(answer, seed, TOTAL);
    });
    const port = await startTcp((socket) => socket.pipe(socket));
    await parkHere(relay, "pi", server, {
      tcp: new Map([[7, { host: "127.0.0.1", port }]]),
      max: 150,
    });
    const agent = new Agent({ keepAlive: true });
    afterThisTest(() => {
      agent.destroy();
    });

    const download = async (seed: number): Promise<number> => {
      const url = `${relay.url}/${seed}?rendezvous=pi`;
      const [answer] = (await once(get(url, { agent }), "response")) as [
        IncomingMessage,
      ];
      return checkPattern(answer, seed, (seed % 3) / 8);
    };
    const echo = async (seed: number): Promise<number> => {
      const via = WAYS[seed % WAYS.length];
      const stream = await dial({ relay: relay.url, id: "pi", port: 7, via });
      const checked = checkPattern(stream, seed, (seed % 3) / 8);
      await sendPattern(stream, seed, TOTAL);
      return checked;
    };
    const counts = await Promise.all([
      ...Array.from({ length: DOWNLOADS }, (_, i) => download(i)),
      ...Array.from({ length: STREAMS_EACH_WAY * WAYS.length }, (_, i) =>
        echo(1000 + i),
      ),
    ]);
    expect(counts.every((count) => count === TOTAL)).to.be.true;
  });
});
