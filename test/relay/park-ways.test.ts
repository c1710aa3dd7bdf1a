// To the lot a tunnel is a tunnel: every visit works on one that an agent has parked by any of the three ways.
import { expect } from "chai";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { WebSocket } from "ws";
import type { Agent } from "../../app/agent/agent.ts";
import { dial } from "../../app/client/dial.ts";
import { WAYS, type Way } from "../../app/protocol.ts";
import type { RelaySettings } from "../../app/relay/options.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { checkPattern, sendPattern } from "../support/pattern.ts";
import { parkRawAgent, pong, takePing } from "../support/hidden.ts";
import { connectRaw } from "../support/raw.ts";
import {
  parkHere,
  startRelay,
  until,
  type TestRelay,
} from "../support/relay.ts";
import {
  connectTo,
  connectTcp,
  data,
  final,
  reach,
} from "../support/streams.ts";
import { startEcho, startTcp } from "../support/tcp.ts";
import { get } from "../support/visits.ts";

/** A hidden server that says what it was asked, and answers every kind of request. */
function makeHidden(): Server {
  const hidden = createServer((request, answer) => {
    if (request.method === "POST") request.pipe(answer);
    else if (request.url === "/chunks") {
      answer.write("one ");
      answer.write("two");
      answer.end();
    } else answer.end(`hello ${String(request.url)}`);
  });
  return hidden.on("upgrade", (_request, socket) => {
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    );
    socket.pipe(socket);
  });
}

async function start(
  via: Way,
  settings: Partial<RelaySettings> = {},
): Promise<{ relay: TestRelay; agent: Agent }> {
  const relay = await startRelay(settings);
  const tcp = new Map([[7, { host: "127.0.0.1", port: await startEcho() }]]);
  const agent = await parkHere(relay, "pi", makeHidden(), { via, tcp });
  return { relay, agent };
}

for (const parked of WAYS) {
  describe(`a tunnel that was parked by ${parked}`, () => {
    it("carries exchanges one after another", async () => {
      const { relay } = await start(parked);
      const visitor = await connectRaw(relay.port);
      for (let i = 0; i < 20; i++) {
        visitor.write(get(`/${String(i)}?rendezvous=pi`));
        expect((await visitor.answer()).body).to.equal(`hello /${String(i)}`);
      }
    });

    it("carries bodies both ways, chunked ones too", async () => {
      const { relay } = await start(parked);
      const visitor = await connectRaw(relay.port);
      visitor.write(get("/chunks?rendezvous=pi"));
      expect((await visitor.answer()).body).to.equal("one two");
      const body = "0123456789abcdef".repeat(20_000);
      const post = "POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n";
      visitor.write(`${post}Content-Length: ${body.length}\r\n\r\n${body}`);
      expect((await visitor.answer()).body === body).to.equal(true);
      visitor.write(`${post}Transfer-Encoding: chunked\r\n\r\n`);
      visitor.write(`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`);
      expect((await visitor.answer()).body === body).to.equal(true);
    });

    it("carries an upgrade of the visit", async () => {
      const { relay, agent } = await start(parked);
      const visitor = await connectRaw(relay.port);
      visitor.write(
        get("/?rendezvous=pi", "Connection: Upgrade\r\nUpgrade: echo\r\n"),
      );
      expect((await visitor.answer()).status).to.equal(101);
      visitor.write("hello");
      await visitor.take("hello");
      visitor.socket.end();
      await visitor.end();
      await until(() => agent.counts.joined === 0);
    });

    it("carries TCP visits by CONNECT, connect-tcp and WebSocket", async () => {
      const { relay, agent } = await start(parked);
      const plain = await reach(relay, connectTo());
      plain.write("hello").socket.end();
      await plain.take("hello");
      await plain.end();
      const capsules = await reach(relay, connectTcp());
      capsules.write(data("hello") + final());
      await capsules.take("hello");
      await capsules.take(final());
      const url = `ws://127.0.0.1:${relay.port}/.well-known/masque/tcp/pi/7/`;
      const socket = new WebSocket(url, "connect-tcp");
      afterThisTest(() => {
        socket.terminate();
      });
      await once(socket, "open");
      socket.send(Buffer.from("hello"));
      const [came] = (await once(socket, "message")) as [Buffer];
      expect(came.toString()).to.equal("hello");
      socket.close();
      capsules.socket.end();
      await until(() => agent.counts.joined === 0);
    });

    for (const dialled of WAYS) {
      it(`carries 20 MB both ways at once, for a dial by ${dialled}, every octet right`, async () => {
        const { relay, agent } = await start(parked);
        const stream = await dial({
          relay: relay.url,
          id: "pi",
          port: 7,
          via: dialled,
        });
        const total = 20 * 1000 * 1000;
        const [count] = await Promise.all([
          checkPattern(stream, 1, 0.1),
          sendPattern(stream, 1, total),
        ]);
        expect(count).to.equal(total);
        await until(() => agent.counts.joined === 0);
      });
    }

    it("stands still for a reader who does, and the others go on", async () => {
      const relay = await startRelay();
      // It counts what it could get rid of, and never ends.
      let written = 0;
      const port = await startTcp((socket) => {
        const block = Buffer.alloc(64 * 1024);
        const more = (): void => {
          do written += block.length;
          while (socket.write(block));
        };
        socket.on("drain", more);
        socket.resume();
        more();
      });
      const tcp = new Map([[7, { host: "127.0.0.1", port }]]);
      await parkHere(relay, "pi", makeHidden(), { via: parked, tcp });
      const slow = await reach(relay, connectTo());
      slow.socket.pause();
      const visitor = await connectRaw(relay.port);
      // It has come to a stop when nothing more was written during so many other visits.
      for (let still = 0, last = -1; still < 50; still++) {
        if (written !== last) still = 0;
        last = written;
        visitor.write(get("/?rendezvous=pi"));
        expect((await visitor.answer()).status).to.equal(200);
      }
      // What the kernel keeps for five sockets, and a little of ours.
      expect(written).to.be.below(64 * 1024 * 1024);
      const { length } = slow.received;
      slow.socket.resume();
      await until(() => slow.received.length > length);
    });

    it("is kept while it is claimed and silent, longer than two heartbeats", async () => {
      const { relay, agent } = await start(parked, { heartbeatSeconds: 0.5 });
      const visitor = await reach(relay, connectTo());
      // As a clock: another agent that is pinged three times meanwhile.
      const clock = await parkRawAgent(relay, "clock");
      for (let i = 0; i < 3; i++) clock.write(pong(await takePing(clock)));
      visitor.write("hello");
      await visitor.take("hello");
      expect(agent.counts.joined).to.equal(1);
    });

    it("is cut for the visitor when its agent goes", async () => {
      const { relay, agent } = await start(parked);
      const visitor = await reach(relay, connectTo());
      await agent.close();
      expect(await visitor.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  });
}
