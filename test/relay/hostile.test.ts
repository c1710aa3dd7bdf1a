// Visitors who mean harm to the TCP doors: they cost little, for a while, and nobody else.
import { expect } from "chai";
import { once } from "node:events";
import type { Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { generateSync } from "otplib";
import request from "supertest";
import { afterThisTest } from "../support/cleanup.ts";
import { advanceClock } from "../support/clock.ts";
import { Program } from "../support/programs.ts";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import {
  connectTcp,
  connectTo,
  data,
  echo,
  listen,
  offerService,
  reach,
} from "../support/streams.ts";
import { get } from "../support/visits.ts";

const MANY = 10_000;
const MEGABYTE = 1024 * 1024;
/** The beginning of a DATA capsule of 2^36 octets. */
const HUGE_CAPSULE = "\xa0\x28\xd7\xf2\xc0\x00\x00\x10\x00\x00\x00\x00";
/** More than all buffers on the way take. */
const PLENTY = Buffer.alloc(32 * MEGABYTE);

setFlagsFromString("--expose_gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** The memory that is in use. Buffers are given back by a thread of their own, after the collection that found them; it tells nobody, hence the wait. */
async function heapNow(): Promise<number> {
  for (let i = 0; i < 2; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** A program with so many connections that all say this, or nothing, and wait for the end: as many sockets again would be too many for one process. */
async function startCrowd(
  port: number,
  said: string,
  answered: boolean,
): Promise<Program> {
  const script = `
    const { connect } = require("node:net");
    const { once } = require("node:events");
    const ends = [];
    (async () => {
      while (ends.length < ${MANY}) {
        const some = Array.from({ length: 250 }, () => {
          const socket = connect(${port}, "127.0.0.1").on("error", () => {});
          ends.push(new Promise((resolve) => socket.on("close", resolve)));
          socket.write(${JSON.stringify(said)});
          return socket;
        });
        await Promise.all(some.map((socket) => once(socket, ${answered} ? "data" : "connect")));
        for (const socket of some) socket.resume();
      }
      console.log("all are here");
      await Promise.all(ends);
      console.log("all have gone");
    })();`;
  const program = new Program(process.execPath, ["-e", script]);
  await program.prints(/all are here/);
  return program;
}

function socketsOf(relay: TestRelay): Promise<number> {
  return new Promise((resolve, reject) => {
    relay.server.getConnections((error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

async function expectService(relay: TestRelay): Promise<void> {
  await request(relay.url).get("/?rendezvous=pi").expect(200);
}

describe("10 000 connections that say nothing", () => {
  for (const [what, said, answered, deadline] of [
    ["at all", "", false, 95_000],
    ["but half a head", "GET /?rend", false, 30_000],
    ["after a CONNECT to the place of rendezvous", "CONNECT", true, 10_000],
  ] as const) {
    it(`${what}: others are served, memory stays flat, and all are closed in time`, async function () {
      this.timeout(30_000);
      const relay = await startRelay({ maxConnectionsPerAddress: 0 });
      await parkHere(relay, "pi", (_asked, reply) => reply.end("hi"));
      const code = generateSync({ secret: relay.issue("meet").secret });
      await request(relay.url).put(`/?uuid=meet&response=${code}`).expect(200);
      const place = `127.0.0.1:${relay.port}`;
      const text = said === "CONNECT" ? connectTo(place) : said;
      await expectService(relay);
      const before = await heapNow();
      const crowd = await startCrowd(relay.port, text, answered);
      if (!answered)
        await relay.until(() => relay.counts().connections >= MANY);
      expect(((await heapNow()) - before) / MANY).to.be.below(8 * 1024);
      await expectService(relay);
      advanceClock(deadline + 1000);
      await crowd.prints(/all have gone/);
      // Those who were granted a CONNECT are no connections of the relay any more, but sockets.
      while ((await socketsOf(relay)) > 20)
        await new Promise((resolve) => setImmediate(resolve));
      expect((await heapNow()) - before).to.be.below(24 * MEGABYTE);
      await parkHere(relay, "pi", (_asked, reply) => reply.end("hi"));
      await expectService(relay);
    });
  }
});

describe("a hostile TCP visitor", () => {
  it("who never ends a WebSocket message has little of it kept, whatever he sends between its fragments", async () => {
    const VISITORS = 30;
    const relay = await startRelay();
    const path = "/.well-known/masque/tcp/rendezvous.internal/7/";
    // An octet of a message, and 64 KiB of pongs, which are read with it and not answered.
    const unit = `\0\x81\0\0\0\0x${`\x8a\xfd\0\0\0\0${"p".repeat(125)}`.repeat(500)}`;
    const first = `\x02${unit.slice(1)}`;
    const before = await heapNow();
    for (let i = 0; i < VISITORS; i++) {
      const visitor = await connectRaw(relay.port);
      visitor.write(
        get(
          path,
          "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: connect-tcp\r\n",
        ),
      );
      await visitor.take("\r\n\r\n");
      visitor.write(first + unit.repeat(14));
      // A ping is answered when all before it has been read.
      visitor.write(`\x89\x81\0\0\0\0!`);
      await visitor.take("\x8a\x01!");
    }
    // A busy connection has a buffer of 256 KiB to read into, too.
    const most = (256 + 256) * 1024;
    expect(((await heapNow()) - before) / VISITORS).to.be.below(most);
  });

  it("who announces a capsule of 2^62-1 octets is passed on as he sends, and no memory is set aside", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    let came = 0;
    const service = await next();
    service.on("data", (octets: Buffer) => (came += octets.length));
    visitor.write("\xa0\x28\xd7\xf2\xff\xff\xff\xff\xff\xff\xff\xff");
    const before = await heapNow();
    const megabyte = Buffer.alloc(MEGABYTE);
    for (let i = 0; i < 64; i++) {
      if (!visitor.socket.write(megabyte)) await once(visitor.socket, "drain");
    }
    await relay.until(() => came === 64 * MEGABYTE);
    expect((await heapNow()) - before).to.be.below(24 * MEGABYTE);
  });

  it("who sends an unknown capsule without end reaches nobody, and is read all the same", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    const service = await next();
    let came = 0;
    service.on("data", (octets: Buffer) => (came += octets.length));
    visitor.write("\x05\xff\xff\xff\xff\xff\xff\xff\xff");
    for (let i = 0; i < 16; i++) {
      if (!visitor.socket.write(Buffer.alloc(MEGABYTE)))
        await once(visitor.socket, "drain");
    }
    visitor.socket.end();
    await once(service, "error");
    expect(came).to.equal(0);
  });

  it("who moves nothing for IDLE_SECONDS is cut, heartbeats or not", async () => {
    const { relay, next } = await offerService(listen, { idleSeconds: 0.5 });
    const visitor = await reach(relay, connectTcp());
    const cut = once(await next(), "error");
    const beats = setInterval(() => visitor.write(data("")), 20);
    afterThisTest(() => {
      clearInterval(beats);
    });
    await visitor.close();
    await cut;
  });

  it("who moves something now and then is not", async () => {
    const { relay } = await offerService(echo, { idleSeconds: 0.5 });
    const visitor = await reach(relay, connectTo());
    // Necessary delays: 1.5 s in all, three times the limit, in pauses of half of it.
    for (let i = 0; i < 6; i++) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      visitor.write("x");
      await visitor.take("x");
    }
    expect(visitor.closed).to.be.undefined;
  });

  it("who sends more than the service reads is cut after STALL_SECONDS, and so is the service", async () => {
    const { relay, agent, next } = await offerService(
      (socket) => socket.pause(),
      { stallSeconds: 0.5 },
    );
    const visitor = await reach(relay, connectTo());
    const service = await next();
    await fill(visitor.socket);
    expect(await visitor.close()).to.equal("reset");
    await findCut(service);
    await relay.until(() => agent.counts.joined === 0);
  });

  it("who is read slowly is not", async () => {
    const { relay, next } = await offerService((socket) => socket.pause(), {
      stallSeconds: 1,
    });
    const visitor = await reach(relay, connectTo());
    const service = await next();
    await fill(visitor.socket);
    // Necessary delays: three times the limit, in pauses of half of it.
    for (let i = 0; i < 6; i++) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await take(service, 2 * MEGABYTE);
    }
    expect(visitor.closed).to.be.undefined;
  });

  for (const [form, begin] of Object.entries({
    CONNECT: connectTo(),
    "connect-tcp": connectTcp() + HUGE_CAPSULE,
  })) {
    it(`who resets a ${form} that the service does not read gives its tunnel back`, async () => {
      const { relay, agent, next } = await offerService((socket) =>
        socket.pause(),
      );
      const visitor = await reach(relay, begin);
      const service = await next();
      await fill(visitor.socket);
      // Twice: the first waits for what is still to be written.
      visitor.socket.resetAndDestroy().destroy();
      await relay.until(() => agent.counts.joined === 0);
      await findCut(service);
    });
  }

  for (const begin of ["FIN", "FIN and octets"]) {
    it(`who ends his direction (${begin}) and then resets gives his tunnel back, though the service goes on waiting`, async () => {
      const { relay, agent, next } = await offerService(listen);
      const visitor = await reach(relay, connectTo());
      const service = await next();
      const ended = once(service, "end");
      visitor.socket.end(begin === "FIN" ? "" : "question");
      await ended;
      visitor.socket.resetAndDestroy();
      await relay.until(() => agent.counts.joined === 0);
    });
  }

  it("who does not read sees all the same that the service was reset", async () => {
    const { relay, agent, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTo());
    visitor.socket.pause();
    const service = await next();
    await fill(service);
    service.resetAndDestroy().destroy();
    await relay.until(() => agent.counts.joined === 0);
    await findCut(visitor.socket);
  });

  it("who beats once and falls silent is ended after two heartbeats", async () => {
    const { relay, next } = await offerService(listen, {
      heartbeatSeconds: 0.3,
    });
    const quiet = await reach(relay, connectTcp());
    const [first, second] = [await next(), reach(relay, connectTcp())];
    const beating = await second;
    await next();
    beating.write(data(""));
    await beating.close();
    // The first has never beaten: his silence means nothing.
    expect(quiet.closed).to.be.undefined;
    await quiet.take(data(""));
    expect(first.destroyed).to.be.false;
  });
});

/** Reads so many octets or a few more, and no further. */
async function take(socket: Socket, count: number): Promise<void> {
  let came = 0;
  await new Promise<void>((resolve) => {
    const read = (octets: Buffer): void => {
      came += octets.length;
      if (came < count) return;
      socket.off("data", read).pause();
      resolve();
    };
    socket.on("data", read).resume();
  });
}

/** Reads to the end, which must be a reset: libuv tells one right behind octets as an end, but then even a write of nothing fails. */
async function findCut(socket: Socket): Promise<void> {
  const cut = once(socket, "error");
  socket.on("end", () => socket.write("")).resume();
  await cut;
}

/** Sends until nobody takes any more. */
async function fill(socket: Socket): Promise<void> {
  let taken = -1;
  while (taken < socket.bytesWritten - socket.writableLength) {
    taken = socket.bytesWritten - socket.writableLength;
    socket.write(PLENTY);
    // A necessary delay: that nothing moves has no event.
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

describe("a quiet TCP stream", () => {
  it("outlives heartbeats while the service thinks, after the visitor has ended his direction", async () => {
    const { relay } = await offerService(
      (socket) => {
        socket.resume().on("end", () => {
          // A necessary delay: several heartbeats of silence.
          setTimeout(() => socket.end("answer"), 2200);
        });
      },
      { heartbeatSeconds: 0.3 },
    );
    const visitor = await reach(relay, connectTo());
    visitor.socket.end("question");
    await visitor.end();
    expect(visitor.received).to.equal("answer");
    expect(await visitor.close()).to.equal("clean");
  });

  it("outlives heartbeats while the visitor does not read", async () => {
    const { relay, next } = await offerService(listen, {
      heartbeatSeconds: 0.3,
    });
    const visitor = await reach(relay, connectTo());
    visitor.socket.pause();
    const service = await next();
    const total = 32 * MEGABYTE;
    service.write(Buffer.alloc(total));
    // A necessary delay: several heartbeats in which nothing is read.
    await new Promise((resolve) => setTimeout(resolve, 2200));
    let came = visitor.received.length;
    visitor.socket.on("data", (text: string) => {
      came += text.length;
      visitor.received = "";
    });
    visitor.socket.resume();
    await relay.until(() => came >= total);
    expect(visitor.closed).to.be.undefined;
  });
});
