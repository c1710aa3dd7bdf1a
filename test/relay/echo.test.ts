// The relay's echo: what shows to anybody that a way carries octets in both directions.
import { expect } from "chai";
import { proveEcho } from "../../app/client/search.ts";
import { WAYS } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { advanceClock } from "../support/clock.ts";
import { startRelay } from "../support/relay.ts";
import {
  connectTcp,
  connectTo,
  data,
  final,
  reach,
} from "../support/streams.ts";

const ECHO = connectTo("rendezvous.internal:7");

describe("the relay's echo", () => {
  for (const way of WAYS) {
    it(`gives back what it gets, by ${way}, without a tunnel`, async () => {
      const relay = await startRelay();
      const { signal } = new AbortController();
      await proveEcho(way, { url: new URL(relay.url) }, signal);
      expect(relay.counts().tunnels).to.equal(0);
    });
  }

  it("ends when its visitor does, and not before", async () => {
    const relay = await startRelay();
    const plain = await reach(relay, ECHO);
    plain.write("hello");
    await plain.take("hello");
    plain.write("again").socket.end();
    await plain.take("again");
    await plain.end();
    const capsules = await reach(relay, connectTcp("rendezvous.internal/7"));
    capsules.write(data("hello") + final());
    await capsules.take("hello");
    await capsules.take(final());
  });

  it("is cut after a megabyte, and after a quarter of an hour", async () => {
    const relay = await startRelay();
    const long = await reach(relay, ECHO);
    const block = Buffer.alloc(64 * 1024);
    const more = setInterval(() => long.write(block), 1);
    afterThisTest(() => {
      clearInterval(more);
    });
    expect(await long.close()).to.equal("reset");
    clearInterval(more);
    const old = await reach(relay, ECHO);
    advanceClock(16 * 60 * 1000);
    expect(await old.close()).to.equal("reset");
  });

  it("is never taken up: whoever comes a 33rd time ends his own first, and nobody else's", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const by = (address: string): string =>
      connectTo("rendezvous.internal:7", `X-Forwarded-For: ${address}\r\n`);
    const other = await reach(relay, by("1.1.1.1"));
    const crowd = [];
    for (let i = 0; i < 32; i++) crowd.push(await reach(relay, by("2.2.2.2")));
    const [first, second] = crowd;
    expect(first?.closed).to.be.undefined;
    const late = await reach(relay, by("::ffff:2.2.2.2"));
    expect(await first?.close()).to.equal("reset");
    for (const one of [other, second, late]) {
      one?.write("hello");
      await one?.take("hello");
    }
  });

  it("is never taken up by many: the 257th makes room by ending the first", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const crowd = [];
    for (let i = 0; i < 257; i++)
      crowd.push(
        await reach(
          relay,
          connectTo(
            "rendezvous.internal:7",
            `X-Forwarded-For: 10.0.${i >> 4}.1\r\n`,
          ),
        ),
      );
    expect(await crowd[0]?.close()).to.equal("reset");
    crowd[1]?.write("hello");
    await crowd[1]?.take("hello");
  });

  it("answers no other port of its name", async () => {
    const relay = await startRelay();
    const asked = reach(relay, connectTo("rendezvous.internal:8"));
    const reason: unknown = await asked.catch((error: unknown) => error);
    expect(String(reason)).to.match(/no stream: HTTP\/1\.1 4\d\d /);
  });
});
