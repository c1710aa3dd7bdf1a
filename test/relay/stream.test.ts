// TCP streams that stand: what is passed on, how they end, and how they are cut.
import { expect } from "chai";
import { once } from "node:events";
import type { Raw } from "../support/raw.ts";
import {
  DATA,
  connectTcp,
  connectTo,
  data,
  final,
  listen,
  offerService,
  reach,
  readAll,
  unknown,
} from "../support/streams.ts";

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++)
    await new Promise((resolve) => setImmediate(resolve));
}

describe("a TCP stream", () => {
  const forms = [
    { form: "connect-tcp", request: connectTcp(), data, final },
    {
      form: "CONNECT",
      request: connectTo(),
      data: (text: string) => text,
      final: () => "",
    },
  ] as const;

  for (const { form, request, data, final } of forms) {
    const close = (visitor: Raw): void => {
      visitor.write(final());
      if (form === "CONNECT") visitor.socket.end();
    };

    it(`by ${form} goes on towards the visitor when he has ended`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, request);
      const service = await next();
      const heard = readAll(service);
      visitor.write(data("question"));
      close(visitor);
      expect(await heard).to.equal("question");
      service.write("answer");
      await visitor.take(data("answer"));
      service.end();
      await visitor.end();
      expect(visitor.received).to.equal(final());
      visitor.socket.end();
      expect(await visitor.close()).to.equal("clean");
      await relay.until(() => relay.counts().connections === 0);
    });

    it(`by ${form} goes on towards the service when that has ended`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, request);
      const service = await next();
      const heard = readAll(service);
      service.end("greeting");
      await visitor.take(data("greeting") + final());
      if (form === "CONNECT") await visitor.end();
      else expect(visitor.ended).to.be.false;
      visitor.write(data("still here"));
      close(visitor);
      expect(await heard).to.equal("still here");
      await visitor.end();
    });

    it(`by ${form} is reset at the service when the visitor's is reset`, async () => {
      const { relay, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      const cut = once(await next(), "error");
      visitor.socket.resetAndDestroy();
      const [error] = (await cut) as [NodeJS.ErrnoException];
      expect(error.code).to.equal("ECONNRESET");
    });

    it(`by ${form} is reset at the visitor's when the service resets it`, async () => {
      const { relay, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      (await next()).resetAndDestroy();
      expect(await visitor.close()).to.equal("reset");
    });

    it(`by ${form} is reset at both ends when the agent dies`, async () => {
      const { relay, agent, next } = await offerService(listen);
      const visitor = await reach(relay, request);
      await next();
      await agent.close();
      expect(await visitor.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  for (const [what, octets] of [
    ["no FINAL_DATA", ""],
    ["a type in part", "\xa0\x28"],
    ["a length in part", `${DATA}\x40`],
    ["a capsule in part", `${DATA}\x04`],
    ["a FINAL_DATA in part", final("some").slice(0, -4)],
    ["DATA after FINAL_DATA", final() + data("more")],
    ["FINAL_DATA after FINAL_DATA", final() + final()],
  ] as const) {
    it(`that ends with ${what} is a cut, and is passed on as a reset`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const visitor = await reach(relay, connectTcp());
      const service = await next();
      const cut = new Promise<string>((resolve) => {
        service.on("error", (error: NodeJS.ErrnoException) => {
          resolve(error.code ?? "");
        });
      });
      visitor.write(data("some"));
      await once(service, "data");
      visitor.socket.end(octets, "latin1");
      expect(await cut).to.equal("ECONNRESET");
      expect(await visitor.close()).to.be.oneOf(["clean", "reset"]);
    });
  }

  it("passes over capsules of types that nobody knows", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    const heard = readAll(await next());
    // 0x4000 octets of type 0x29 * 3 + 0x17, reserved so that they are skipped (RFC 9297 5.4).
    const huge = `\x40\x92\x80\x00\x40\x00${"x".repeat(0x4000)}`;
    for (const octets of [
      ...[unknown("skip"), data("one"), huge, unknown(""), data("two")],
      ...[final("end"), unknown("skip")],
    ])
      visitor.write(octets);
    expect(await heard).to.equal("onetwoend");
  });

  it("takes empty DATA for heartbeats, and gives the service nothing", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTcp());
    const heard = readAll(await next());
    visitor.write(data("") + data("a") + data("") + final());
    expect(await heard).to.equal("a");
  });

  it("holds megabytes back when the other side does not read", async () => {
    const { relay, next } = await offerService(() => undefined);
    const visitor = await reach(relay, connectTo());
    const service = await next();
    service.pause();
    const octets = Buffer.alloc(64 * 1024);
    // Until nothing moves any more: the kernel's buffers of three connections are full.
    let written = 0;
    while (written < 256 * 1024 * 1024) {
      written += octets.length;
      if (visitor.socket.write(octets)) continue;
      const moved = await Promise.race([
        once(visitor.socket, "drain").then(() => true),
        turns(200).then(() => false),
      ]);
      if (!moved) break;
    }
    expect(written).to.be.below(64 * 1024 * 1024);
    const { arrayBuffers } = process.memoryUsage();
    expect(arrayBuffers).to.be.below(64 * 1024 * 1024);
    visitor.socket.end();
    let came = 0;
    service.on("data", (more: Buffer) => (came += more.length));
    service.resume();
    await once(service, "end");
    expect(came).to.equal(written);
  });
});
