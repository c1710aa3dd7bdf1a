// dial() in a program: how it is called off, and what it says to whoever calls it wrongly.
import { expect } from "chai";
import { once } from "node:events";
import { dial } from "../../app/client/dial.ts";
import { WAYS } from "../../app/protocol.ts";
import { startRelay, until } from "../support/relay.ts";
import { echo, offerService, readAll } from "../support/streams.ts";
import { startTcp } from "../support/tcp.ts";

/** What a promise is rejected with. */
async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it was not rejected");
    },
    (reason: unknown) => reason,
  );
}

describe("a dial with wrong options", () => {
  const right = { relay: "http://127.0.0.1:1", id: "pi", port: 22 };
  // As from plain JavaScript, where nobody has checked the types.
  const dialAny = dial as (options: unknown) => Promise<unknown>;
  for (const [what, options, words] of [
    [
      "no options",
      undefined,
      "dial() needs options: dial({ relay, id, port })",
    ],
    ["null", null, "dial() needs options"],
    ["no relay", { ...right, relay: undefined }, "relay must be a URL"],
    ["a relay without a scheme", { ...right, relay: "x" }, "relay must be"],
    ["a relay of ftp", { ...right, relay: "ftp://x" }, "https:// or http://"],
    ["no id", { ...right, id: undefined }, "id must be one DNS label"],
    ["a number as id", { ...right, id: 5 }, "63 characters, got 5."],
    ["an id with a dot", { ...right, id: "p.i" }, 'got "p.i".'],
    ["the port as a text", { ...right, port: "22" }, 'got "22".'],
    ["no port", { ...right, port: undefined }, "port must be an integer"],
    ["half a port", { ...right, port: 1.5 }, "from 1 to 65535, got 1.5."],
    ["a way that is none", { ...right, via: "zzz" }, "via must be one of"],
    ["a grant in octets", { ...right, grant: Buffer.from("x") }, "grant must"],
    ["certificates in octets", { ...right, ca: Buffer.from("x") }, "in PEM"],
    [
      "a controller",
      { ...right, signal: new AbortController() },
      "signal must",
    ],
  ] as const) {
    it(`says what is wrong with ${what}`, async () => {
      const reason = await rejection(dialAny(options));
      expect(reason).to.be.instanceOf(RangeError);
      expect(String(reason)).to.include(words).and.match(/\.$/);
    });
  }

  it("takes the relay as a URL too, and shows no secret of it", async () => {
    const relay = new URL("ftp://pi:HUNTER2@x");
    const reason = await rejection(dial({ ...right, relay }));
    expect(String(reason)).to.include("relay must be").and.not.include("HUNT");
  });
});

describe("a dial with a signal", () => {
  for (const via of WAYS) {
    it(`is given up by ${via}, and nobody waits at the relay any more`, async () => {
      const relay = await startRelay({ holdSeconds: 60 });
      const { signal, abort } = newAbort();
      const to = { relay: relay.url, id: "pi", port: 7, via, signal };
      const rejected = rejection(dial(to));
      await relay.until(() => relay.counts().waiting === 1);
      abort();
      expect(await rejected)
        .to.have.property("name")
        .that.equals("AbortError");
      await relay.until(() => relay.counts().waiting === 0);
    });

    it(`is given up by ${via} while it is refused`, async () => {
      let closed = false;
      const refused: (() => void)[] = [];
      const port = await startTcp((socket) => {
        socket.once("data", () => {
          socket.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n");
          for (const tell of refused) tell();
        });
        socket.on("close", () => (closed = true)).on("end", () => socket.end());
      });
      const isRefused = new Promise<void>((resolve) => refused.push(resolve));
      const { signal, abort } = newAbort();
      const relay = `http://127.0.0.1:${port}`;
      const rejected = rejection(
        dial({ relay, id: "pi", port: 7, via, signal }),
      );
      await isRefused;
      const reason = new Error("no time");
      abort(reason);
      expect(await rejected).to.equal(reason);
      await until(() => closed);
    });
  }

  it("that was aborted before asks nobody", async () => {
    const signal = AbortSignal.abort(new Error("too late"));
    // Nobody listens there.
    const to = { relay: "http://127.0.0.1:1", id: "pi", port: 7, signal };
    expect(await rejection(dial(to))).to.equal(signal.reason);
  });

  it("leaves the stream alone once it is there", async () => {
    const { relay } = await offerService(echo);
    const { signal, abort } = newAbort();
    const stream = await dial({ relay: relay.url, id: "pi", port: 7, signal });
    abort();
    stream.end("hello");
    expect(await readAll(stream)).to.equal("hello");
    if (!stream.closed) await once(stream, "close");
  });
});

function newAbort(): {
  signal: AbortSignal;
  abort: (reason?: unknown) => void;
} {
  const controller = new AbortController();
  const abort = controller.abort.bind(controller);
  return { signal: controller.signal, abort };
}
