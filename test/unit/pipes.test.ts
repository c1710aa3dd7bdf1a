// Pipes over links: half-close, cuts, heartbeats and counts, on capsules, on WebSockets and as plain Node streams.
import { expect } from "chai";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { duplexPair, type Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import { CapsulePipe } from "../../app/wire/capsulepipe.ts";
import { Link, type Receiver } from "../../app/wire/link.ts";
import { tendPipe, type BeatingPipe } from "../../app/wire/pipe.ts";
import { PipeStream } from "../../app/wire/pipestream.ts";
import { splice, type Spliced } from "../../app/wire/splice.ts";
import { WebSocketPipe, acceptWebSocket } from "../../app/wire/websocket.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { until } from "../support/relay.ts";

const UNOWNED: Receiver = { data() {}, end() {}, drain() {}, gone() {} };
const HEARTBEAT = 25 * 1000;

/** Remembers what a pipe told. */
class Ear implements Receiver {
  text = "";
  ended = 0;
  drained = 0;
  gones: boolean[] = [];

  data(octets: Buffer): void {
    this.text += octets.toString("latin1");
  }
  end(): void {
    this.ended++;
  }
  drain(): void {
    this.drained++;
  }
  gone(clean: boolean): void {
    this.gones.push(clean);
  }
}

interface Pair {
  readonly near: BeatingPipe;
  readonly far: BeatingPipe;
  readonly nearEar: Ear;
  readonly farEar: Ear;
}

/** Two ends in memory, whose buffers hold 64 octets. */
function memoryPair(): [Duplex, Duplex] {
  const pair = duplexPair({ highWaterMark: 64 });
  afterThisTest(() => {
    for (const end of pair) end.destroy();
  });
  return pair;
}

async function capsules(): Promise<Pair> {
  const [one, other] = await socketPair();
  const [nearEar, farEar] = [new Ear(), new Ear()];
  const near = new CapsulePipe(new Link(one, UNOWNED), nearEar, true);
  const far = new CapsulePipe(new Link(other, UNOWNED), farEar, true);
  return { near, far, nearEar, farEar };
}

async function webSockets(patience = Infinity): Promise<Pair> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = new WebSocket(`ws://127.0.0.1:${port}`);
  const opened = once(client, "open");
  const [accepted] = (await once(server, "connection")) as [WebSocket];
  const [nearEar, farEar] = [new Ear(), new Ear()];
  const far = new WebSocketPipe(accepted, farEar, patience);
  await opened;
  const near = new WebSocketPipe(client, nearEar, patience);
  afterThisTest(() => {
    client.terminate();
    accepted.terminate();
    server.close();
  });
  return { near, far, nearEar, farEar };
}

/** A masked frame in latin1; the mask changes nothing. */
const frame = (opcode: number, text: string): string =>
  `${String.fromCharCode(0x80 | opcode, 0x80 | text.length)}\0\0\0\0${text}`;

/** A WebSocket that a visitor has opened, who takes what he is sent or not, and the link that his frames come by. */
function visitedBy(ear: Receiver, takes = true): Link {
  const [stream, far] = memoryPair();
  if (takes) far.resume();
  const link = new Link(stream, UNOWNED);
  const fields = [
    ...["Connection", "Upgrade", "Upgrade", "websocket"],
    ...["Sec-WebSocket-Version", "13"],
    ...["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
  ];
  const handshake = { target: "/", fields };
  acceptWebSocket(
    link,
    { handshake, protocol: "connect-tcp" },
    Buffer.alloc(0),
    (socket) => new WebSocketPipe(socket, ear),
  );
  return link;
}

describe("a WebSocket of a visitor who sends very short messages", () => {
  it("tells those that come together in one piece, with nothing kept around it", async () => {
    const told: Buffer[] = [];
    const link = visitedBy({
      ...UNOWNED,
      data: (octets) => void told.push(octets),
    });
    const pongs = frame(10, "p".repeat(100)).repeat(10);
    const messages = frame(2, "a").repeat(100) + frame(2, "bc").repeat(100);
    link.receiver.data(Buffer.from(messages + pongs, "latin1"));
    await until(() => told.length > 0);
    expect(told.map(String)).to.deep.equal([
      "a".repeat(100) + "bc".repeat(100),
    ]);
    expect(told[0]?.buffer.byteLength).to.equal(300);
  });

  it("tells them before the end that comes with them", async () => {
    const ear = new Ear();
    const link = visitedBy(ear);
    const messages = frame(2, "a") + frame(2, "b") + frame(2, "");
    link.receiver.data(Buffer.from(messages + frame(2, "c"), "latin1"));
    await until(() => ear.ended > 0);
    expect(ear.text).to.equal("ab");
  });
});

describe("a WebSocket of a visitor who breaks the rules", () => {
  it("is cut when he pings on and takes no pongs", async () => {
    const ear = new Ear();
    const link = visitedBy(ear, false);
    link.receiver.data(Buffer.from(frame(9, "p").repeat(100), "latin1"));
    await until(() => ear.gones.length > 0);
    expect(ear.gones).to.deep.equal([false]);
    expect(link.closed).to.be.true;
  });

  it("ends by itself, whatever comes behind a frame that is none", async () => {
    const ear = new Ear();
    const link = visitedBy(ear);
    // While the first message is told, the others wait; a close cannot have the code 0.
    for (const octets of [frame(2, "a"), frame(8, "\0\0"), "zzzz"])
      link.receiver.data(Buffer.from(octets, "latin1"));
    await until(() => ear.gones.length > 0);
    expect(ear.text).to.equal("a");
    expect(ear.gones).to.deep.equal([false]);
  });
});

for (const [what, make] of [
  ["a capsule pipe", capsules],
  ["a WebSocket pipe", () => webSockets()],
] as const) {
  describe(what, () => {
    it("carries octets both ways, and counts them", async () => {
      const { near, far, nearEar, farEar } = await make();
      near.write(Buffer.from("there"));
      far.write(Buffer.from("and back"));
      near.write(Buffer.alloc(0));
      await until(() => farEar.text.length === 5 && nearEar.text.length === 8);
      expect([near.sent, far.received]).to.deep.equal([5, 5]);
      expect([far.sent, near.received]).to.deep.equal([8, 8]);
      expect([nearEar.ended, farEar.ended]).to.deep.equal([0, 0]);
    });

    it("ends one direction and then the other, and closes in good order", async () => {
      const { near, far, nearEar, farEar } = await make();
      near.write(Buffer.from("all"));
      near.end();
      near.end();
      near.write(Buffer.from("not any more"));
      await until(() => farEar.ended === 1);
      expect(farEar.text).to.equal("all");
      far.write(Buffer.from("late"));
      far.end();
      await until(() => near.over && far.over);
      expect(nearEar.text).to.equal("late");
      expect([nearEar.ended, farEar.ended]).to.deep.equal([1, 1]);
      expect([nearEar.gones, farEar.gones]).to.deep.equal([[true], [true]]);
    });

    it("tells a reset as a cut, to both", async () => {
      const { near, far, nearEar, farEar } = await make();
      near.reset();
      await until(() => near.over && far.over);
      expect([nearEar.ended, farEar.ended]).to.deep.equal([0, 0]);
      expect([nearEar.gones, farEar.gones]).to.deep.equal([[false], [false]]);
    });

    it("tells a reset after one end as a cut", async () => {
      const { near, far, farEar } = await make();
      far.end();
      near.reset();
      await until(() => far.over);
      expect(farEar.gones).to.deep.equal([false]);
    });

    it("beats when it has sent nothing for a heartbeat, and is heard", async () => {
      const { near, far, farEar } = await make();
      const heard = far.heardAt;
      tendPipe(near, near.sentAt + HEARTBEAT - 1, HEARTBEAT);
      const sent = near.sentAt;
      tendPipe(near, sent + HEARTBEAT + 1, HEARTBEAT);
      await until(() => far.heardAt > heard);
      expect(farEar.text).to.equal("");
      expect(far.received).to.equal(0);
    });

    it("is cut when it has been silent for more than two heartbeats", async () => {
      const { near, nearEar } = await make();
      tendPipe(near, near.heardAt + 2 * HEARTBEAT, HEARTBEAT);
      expect(near.over).to.be.false;
      tendPipe(near, near.heardAt + 2 * HEARTBEAT + 1, HEARTBEAT);
      await until(() => near.over);
      expect(nearEar.gones).to.deep.equal([false]);
    });

    it("is not taken for silent while nobody reads it", async () => {
      const { near, far } = await make();
      near.pause();
      far.beat();
      tendPipe(near, near.heardAt + 3 * HEARTBEAT, HEARTBEAT);
      expect(near.expectsBeats).to.be.false;
      const before = near.heardAt;
      near.resume();
      expect(near.expectsBeats).to.be.true;
      expect(near.heardAt).to.be.above(before);
      await until(() => near.heardAt > before);
      expect([near.over, far.over]).to.deep.equal([false, false]);
    });

    it("stays while a side that has ended waits for a long answer", async () => {
      const { near, far, nearEar, farEar } = await make();
      near.write(Buffer.from("question"));
      near.end();
      await until(() => farEar.ended === 1);
      // The asker cannot beat with capsules any more; whoever answers goes on beating.
      const now = performance.now();
      if (far instanceof CapsulePipe)
        tendPipe(far, now + 3 * HEARTBEAT, HEARTBEAT);
      else tendPipe(far, now + HEARTBEAT, HEARTBEAT);
      far.write(Buffer.from("answer"));
      far.end();
      await until(() => near.over && far.over);
      expect(nearEar.text).to.equal("answer");
      expect(nearEar.gones).to.deep.equal([true]);
    });

    it("asks its writer to wait, and tells when to go on", async () => {
      const { near, far, nearEar, farEar } = await make();
      far.pause();
      const octets = Buffer.alloc(64 * 1024);
      let written = 0;
      while (near.write(octets)) {
        written += octets.length;
        expect(written).to.be.below(64 * 1024 * 1024);
        await new Promise((resolve) => setImmediate(resolve));
      }
      written += octets.length;
      expect(nearEar.drained).to.equal(0);
      far.resume();
      await until(() => nearEar.drained > 0);
      await until(() => farEar.text.length === written);
    });
  });
}

describe("a WebSocket pipe that writes very short messages", () => {
  it("asks its writer to wait, however little they have, and tells when to go on", async () => {
    const { near, nearEar, farEar } = await webSockets();
    let written = 1;
    while (near.write(Buffer.from("a"))) written++;
    expect(written).to.be.below(100);
    await until(() => nearEar.drained > 0);
    await until(() => farEar.text.length === written);
    expect(nearEar.drained).to.equal(1);
  });
});

describe("a capsule pipe on a link that is gone", () => {
  it("tells so at once", async () => {
    const [one] = memoryPair();
    const link = new Link(one, UNOWNED);
    link.destroy();
    await until(() => link.over);
    const ear = new Ear();
    expect(new CapsulePipe(link, ear, true).over).to.be.true;
    expect(ear.gones).to.deep.equal([false]);
  });

  it("expects no beats of one that has never beaten", async () => {
    const [one, other] = memoryPair();
    const near = new CapsulePipe(new Link(one, UNOWNED), new Ear(), false);
    tendPipe(near, near.heardAt + 10 * HEARTBEAT, HEARTBEAT);
    expect(near.over).to.be.false;
    other.resume();
    other.write(Buffer.from("a028d7f200", "hex"));
    await until(() => near.expectsBeats);
  });
});

describe("a WebSocket pipe", () => {
  it("ends with one who does not know the empty message, after some silence", async () => {
    const { near, nearEar, farEar } = await webSockets(50);
    near.end();
    await until(() => nearEar.gones.length > 0 && farEar.gones.length > 0);
    expect([nearEar.gones, farEar.gones]).to.deep.equal([[true], [true]]);
  });

  for (const [what, act, code] of [
    [
      "a text message",
      (socket: WebSocket) => {
        socket.send("text");
      },
      1003,
    ],
    [
      "a message without end",
      (socket: WebSocket) => {
        socket.send(Buffer.alloc(2_000_000));
      },
      1009,
    ],
  ] as const) {
    it(`is cut by ${what}`, async () => {
      const server = new WebSocketServer({
        port: 0,
        host: "127.0.0.1",
        maxPayload: 1024 * 1024,
      });
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const client = new WebSocket(`ws://127.0.0.1:${port}`);
      const [accepted] = (await once(server, "connection")) as [WebSocket];
      afterThisTest(() => {
        client.terminate();
        server.close();
      });
      const ear = new Ear();
      new WebSocketPipe(accepted, ear);
      if (client.readyState !== WebSocket.OPEN) await once(client, "open");
      act(client);
      const [told] = (await once(client, "close")) as [number];
      expect(told).to.equal(code);
      await until(() => ear.gones.length > 0);
      expect(ear.gones).to.deep.equal([false]);
      expect([ear.text, ear.ended]).to.deep.equal(["", 0]);
    });
  }

  it("tells a close with 1000 as the end, and any other as a cut", async () => {
    for (const [code, ended] of [
      [1000, 1],
      [1001, 0],
      [4000, 0],
    ] as const) {
      const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const client = new WebSocket(`ws://127.0.0.1:${port}`);
      const opened = once(client, "open");
      const [accepted] = (await once(server, "connection")) as [WebSocket];
      const ear = new Ear();
      new WebSocketPipe(accepted, ear);
      await opened;
      client.close(code);
      await until(() => ear.gones.length > 0);
      expect([ear.ended, ear.gones]).to.deep.equal([ended, [ended === 1]]);
      server.close();
    }
  });
});

/** A connection and its accepted end. */
async function socketPair(): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const one = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const [other] = (await once(server, "connection")) as [Socket];
  server.close();
  afterThisTest(() => {
    one.destroy();
    other.destroy();
  });
  return [one, other];
}

const A = Buffer.from("a");

describe("a link", () => {
  for (const [how, put] of [
    ["by themselves", (link: Link) => link.write(A)],
    ["behind a head", (link: Link) => link.writeJoined("a", A)],
  ] as const) {
    it(`asks its writer to wait when very many writes wait, however short they are, and tells when to go on: ${how}`, async () => {
      const pair = duplexPair({ highWaterMark: 1024 * 1024 });
      const [one, other] = pair;
      afterThisTest(() => {
        for (const end of pair) end.destroy();
      });
      const ear = new Ear();
      const link = new Link(one, ear);
      for (const round of [1, 2]) {
        const before = link.sent;
        let written = 1;
        while (put(link)) written++;
        expect(written).to.be.below(100);
        expect(link.needsDrain).to.be.true;
        // What had been read already goes on being written.
        link.write(Buffer.from("more"));
        expect(ear.drained).to.equal(round - 1);
        for (let left = link.sent - before; left > 0;) {
          const octets = other.read() as Buffer | null;
          if (octets === null) await once(other, "readable");
          else left -= octets.length;
        }
        await until(() => ear.drained === round);
        expect(link.needsDrain).to.be.false;
      }
    });
  }

  it("keeps none but the first of many short pieces while it is paused", async () => {
    const [one, other] = await socketPair();
    const ear = new Ear();
    const link = new Link(one, ear);
    link.pause();
    for (let i = 0; i < 30; i++) {
      await new Promise<void>((resolve) => {
        other.write("a", () => {
          resolve();
        });
      });
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(one.readableLength).to.be.below(3);
    link.resume();
    await until(() => ear.text.length === 30);
  });

  it("tells a reset right behind the last octets as a cut and not as an end", async () => {
    const [one, other] = await socketPair();
    const ear = new Ear();
    new Link(other, ear);
    one.write("last");
    one.resetAndDestroy();
    await until(() => ear.gones.length > 0);
    expect([ear.text, ear.ended, ear.gones]).to.deep.equal([
      "last",
      0,
      [false],
    ]);
  });

  it("tells an end right behind the last octets as an end", async () => {
    const [one, other] = await socketPair();
    const ear = new Ear();
    const link = new Link(other, ear);
    one.end("last");
    await until(() => ear.ended > 0);
    expect(link.write("answer")).to.be.true;
    link.end();
    one.resume();
    await until(() => ear.gones.length > 0);
    expect([ear.text, ear.gones]).to.deep.equal(["last", [true]]);
  });

  it("that is reset while its end is on its way is closed, and so is its other side", async () => {
    const [one, other] = await socketPair();
    const ear = new Ear();
    const link = new Link(one, ear);
    other.resume();
    const closed = once(other, "close").catch(() => undefined);
    // Who has only been told of an end hears nothing more before he writes.
    other.on("end", () => {
      const timer = setInterval(() => other.write("x"), 2);
      other.on("close", () => {
        clearInterval(timer);
      });
    });
    link.end();
    link.reset();
    await until(() => link.over);
    expect(ear.gones).to.have.length(1);
    await closed;
  });

  it("is closed, and nothing else, by a receiver that throws", async () => {
    const [one, other] = await socketPair();
    const ear = new Ear();
    const bug = new Error("a bug");
    new Link(other, {
      ...UNOWNED,
      data() {
        throw bug;
      },
      gone: (clean) => {
        ear.gone(clean);
      },
    });
    const seen = once(other, "error");
    one.write("x");
    expect(await seen).to.deep.equal([bug]);
    await until(() => ear.gones.length > 0);
    expect(ear.gones).to.deep.equal([false]);
  });
});

describe("a splice", () => {
  interface Joined {
    readonly left: Duplex;
    readonly right: Duplex;
    readonly done: Spliced[];
  }

  /** Two pairs in memory whose inner ends are spliced. */
  function join(before?: (one: Link, other: Link) => void): Joined {
    const [left, innerLeft] = memoryPair();
    const [right, innerRight] = memoryPair();
    const done: Spliced[] = [];
    const [one, other] = [
      new Link(innerLeft, UNOWNED),
      new Link(innerRight, UNOWNED),
    ];
    before?.(one, other);
    splice(one, other, (octets) => done.push(octets));
    return { left, right, done };
  }

  async function textOf(stream: Duplex): Promise<string> {
    let text = "";
    for await (const octets of stream.iterator({ destroyOnReturn: false }))
      text += String(octets);
    return text;
  }

  it("passes each direction's end on by itself, and counts the octets", async () => {
    const { left, right, done } = join();
    left.end("question");
    expect(await textOf(right)).to.equal("question");
    expect(left.destroyed || done.length > 0).to.be.false;
    right.end("the answer");
    expect(await textOf(left)).to.equal("the answer");
    await until(() => done.length === 1);
    expect(done).to.deep.equal([{ there: 8, back: 10 }]);
  });

  it("holds back a fast writer while the reader stands still, and not the other direction", async () => {
    const { left, right } = join();
    let written = 0;
    // Five buffers of 64 octets lie between the two.
    while (left.write(Buffer.alloc(64)) || (await moved(left))) written += 64;
    expect(written).to.be.below(4096);
    right.write("the other way");
    const [octets] = (await once(left, "data")) as [Buffer];
    expect(octets.toString()).to.equal("the other way");
  });

  async function moved(stream: Duplex): Promise<boolean> {
    for (let turn = 0; turn < 20; turn++) {
      if (!stream.writableNeedDrain) return true;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return false;
  }

  it("cuts the other when one is cut, and is over once", async () => {
    const links: Link[] = [];
    const { right, done } = join((one, other) => {
      links.push(one, other);
    });
    right.resume();
    let ended = false;
    right.on("end", () => (ended = true));
    links[0]?.stream.destroy(new Error("cut"));
    await until(() => done.length > 0);
    expect(links.every(({ closed }) => closed)).to.be.true;
    expect(done).to.have.length(1);
    expect(ended).to.be.false;
  });

  it("is over when one was gone before it began", async () => {
    const [outer, inner] = memoryPair();
    const one = new Link(inner, UNOWNED);
    inner.destroy();
    await until(() => one.over);
    const [, innerRight] = memoryPair();
    const done: Spliced[] = [];
    splice(one, new Link(innerRight, UNOWNED), (octets) => done.push(octets));
    await until(() => done.length === 1);
    expect(innerRight.destroyed).to.be.true;
    outer.destroy();
  });
});

describe("a pipe as a Node stream", () => {
  function make(): { stream: PipeStream; far: Duplex; link: Link } {
    const [near, far] = memoryPair();
    const link = new Link(near, UNOWNED);
    const stream = new PipeStream(link);
    afterThisTest(() => stream.destroy());
    return { stream, far, link };
  }

  it("may end one direction and read on", async () => {
    const { stream, far } = make();
    stream.end("question");
    let heard = "";
    for await (const octets of far.iterator({ destroyOnReturn: false }))
      heard += String(octets);
    expect(heard).to.equal("question");
    far.end("answer");
    let text = "";
    for await (const octets of stream) text += String(octets);
    expect(text).to.equal("answer");
  });

  it("fails when the pipe is cut, and never ends", async () => {
    const { stream, link } = make();
    let ended = false;
    stream.on("end", () => (ended = true)).resume();
    const failed = once(stream, "error");
    link.stream.destroy(new Error("reset"));
    const [error] = (await failed) as [Error];
    expect(error.message).to.equal("the connection was cut");
    expect(ended).to.be.false;
  });

  it("cuts the pipe when it is destroyed before its end", async () => {
    const { stream, link } = make();
    stream.destroy();
    await until(() => link.over);
  });

  it("keeps none but the first of many short pieces that nobody reads", async () => {
    const { stream, far } = make();
    for (let i = 0; i < 30; i++) {
      far.write("a");
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(stream.readableLength).to.be.below(3);
    far.end();
    let came = 0;
    for await (const octets of stream) came += (octets as Buffer).length;
    expect(came).to.equal(30);
  });

  it("keeps no more than its buffers while nobody reads", async () => {
    const { stream, far } = make();
    let written = 0;
    const before = stream.readableLength;
    while (written < 10_000_000) {
      written += 1024;
      if (far.write(Buffer.alloc(1024))) continue;
      for (let i = 0; i < 20 && far.writableNeedDrain; i++)
        await new Promise((resolve) => setImmediate(resolve));
      if (far.writableNeedDrain) break;
    }
    expect(written).to.be.below(1_000_000);
    expect(before).to.equal(0);
    far.end();
    let came = 0;
    for await (const octets of stream) came += (octets as Buffer).length;
    expect(came).to.equal(written);
  });
});
