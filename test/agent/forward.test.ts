// Agent and dial behind a forward proxy that allows no CONNECT.
import { expect } from "chai";
import { once } from "node:events";
import { park } from "../../app/agent/agent.ts";
import { reach } from "../../app/client/dial.ts";
import { PipeStream } from "../../app/wire/pipestream.ts";
import type { Way } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { startForwardProxy } from "../support/forward.ts";
import { startRelay } from "../support/relay.ts";
import { echo, offerService, readAll } from "../support/streams.ts";

describe("behind a proxy that refuses CONNECT and passes an Upgrade on", () => {
  for (const via of [undefined, "upgrade", "websocket"] as const) {
    const expected = via ?? "upgrade";
    const when = via === undefined ? "" : " when it is told to";

    it(`an agent parks by ${expected}${when}`, async () => {
      const relay = await startRelay();
      const { asked } = await startForwardProxy();
      const agent = park(8080, {
        relay: relay.url,
        id: "pi",
        secret: relay.issue("pi").secret,
        spare: 2,
        via,
      });
      afterThisTest(() => agent.close());
      const [way] = (await once(agent, "way")) as [Way];
      expect(way).to.equal(expected);
      await relay.until(() => relay.counts().idle === 2);
      expect(asked).to.include(`GET ${relay.url}/-/park/pi HTTP/1.1`);
    });

    it(`a dial goes by ${expected}${when}`, async () => {
      const { relay } = await offerService(echo);
      const { asked } = await startForwardProxy();
      const to = { relay: relay.url, id: "pi", port: 7, via };
      const { pipe, way } = await reach(to);
      const stream = new PipeStream(pipe);
      stream.end("hello");
      expect(await readAll(stream)).to.equal("hello");
      expect(way).to.equal(expected);
      const path = "/.well-known/masque/tcp/pi/7/";
      expect(asked).to.include(`GET ${relay.url}${path} HTTP/1.1`);
    });
  }

  it("an agent that is told to CONNECT says that it is the proxy who refuses", async () => {
    const relay = await startRelay();
    await startForwardProxy();
    const { url } = relay.issue("pi");
    const agent = park(8080, { relay: url, via: "connect" });
    afterThisTest(() => agent.close());
    const [reason] = (await once(agent, "trouble")) as [string];
    expect(reason).to.match(/^the proxy on the way to .* refused \(403\)/);
  });
});
