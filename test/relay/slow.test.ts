// Somebody who does not read: the other side is held back, and nobody else is.
import { expect } from "chai";
import { parkRaw } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";
import { OK, get, seenBy } from "../support/visits.ts";

/** More than the socket buffers of both ends hold, several times. */
const FLOOD_OCTETS = 64 * 1024 * 1024;
const PIECE = Buffer.alloc(64 * 1024, "x");

describe("somebody who does not read", () => {
  /** Writes until it is told to wait and nothing has moved for a while of writes; gives the octets that left. */
  async function flood(from: Raw): Promise<number> {
    let written = 0;
    while (written < FLOOD_OCTETS) {
      written += PIECE.length;
      if (from.socket.write(PIECE)) continue;
      const before = from.socket.bytesWritten - from.socket.writableLength;
      // Another program's chance to read: many turns of the event loop, and nothing has left since.
      let turns = 0;
      while (from.socket.writableNeedDrain && turns < 2000) {
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
      }
      if (
        from.socket.writableNeedDrain &&
        from.socket.bytesWritten - from.socket.writableLength === before
      )
        break;
    }
    return written;
  }

  for (const slow of ["visitor", "hidden"] as const) {
    it(`stops the other side's writes, and little is kept: the ${slow === "visitor" ? "visitor" : "hidden server"}`, async () => {
      const relay = await startRelay();
      const { visitor, hidden } = await seenBy(
        relay,
        `POST /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`,
      );
      const reader = slow === "visitor" ? visitor : hidden;
      const writer = slow === "visitor" ? hidden : visitor;
      if (slow === "visitor") {
        hidden.write(
          `HTTP/1.1 200 OK\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`,
        );
        await visitor.take("\r\n\r\n");
      }
      reader.socket.pause();
      const before = process.memoryUsage();
      const written = await flood(writer);
      expect(written).to.be.below(FLOOD_OCTETS / 2);
      const after = process.memoryUsage();
      expect(after.arrayBuffers - before.arrayBuffers).to.be.below(
        FLOOD_OCTETS / 4,
      );
      // Everything arrives once he reads again.
      reader.socket.resume();
      await reader.takeOctets(written);
      // And meanwhile nobody else was kept waiting.
      const other = await connectRaw(relay.port);
      other.write(get("/-/health"));
      expect((await other.answer()).status).to.equal(200);
    });
  }

  it("keeps nobody else waiting", async () => {
    const relay = await startRelay();
    const { visitor, hidden } = await seenBy(relay, get("/?rendezvous=pi"));
    hidden.write(`HTTP/1.1 200 OK\r\nContent-Length: ${FLOOD_OCTETS}\r\n\r\n`);
    await visitor.take("\r\n\r\n");
    visitor.socket.pause();
    await flood(hidden);
    const second = await parkRaw(relay, "pi");
    const other = await connectRaw(relay.port);
    other.write(get("/?rendezvous=pi"));
    await second.take("\r\n\r\n");
    second.write(OK);
    expect((await other.answer()).body).to.equal("ok");
  });

  it("but asks and asks has his requests wait, and gets every answer in the end", async () => {
    const relay = await startRelay();
    const large = "x".repeat(256 * 1024);
    let asked = 0;
    await parkHere(relay, "pi", (_request, answer) => {
      asked++;
      answer.end(large);
    });
    const visitor = await connectRaw(relay.port);
    visitor.socket.pause();
    const count = 64;
    visitor.write(get("/?rendezvous=pi").repeat(count));
    await relay.until(() => asked > 0);
    const health = await connectRaw(relay.port);
    for (let i = 0; i < 50; i++) {
      health.write(get("/-/health"));
      await health.answer();
    }
    expect(asked).to.be.below(count);
    visitor.socket.resume();
    for (let i = 0; i < count; i++)
      expect((await visitor.answer()).body).to.have.length(large.length);
    expect(asked).to.equal(count);
  });
});
