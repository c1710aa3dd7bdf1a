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
