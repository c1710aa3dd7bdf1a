// Upgraded connections: octets both ways, and how each side ends them.
import { expect } from "chai";
import type { RelaySettings } from "../../app/relay/options.ts";
import type { Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { OK, answered, get, plain, seenBy } from "../support/visits.ts";

const UPGRADE = "Connection: Upgrade\r\nUpgrade: chat\r\n";
const SWITCH = `HTTP/1.1 101 Switching Protocols\r\n${UPGRADE}\r\n`;

describe("an upgraded connection", () => {
  it("carries octets both ways, the early ones included", async () => {
    const relay = await startRelay();
    const { head, visitor, hidden } = await seenBy(
      relay,
      `${get("/?rendezvous=pi", UPGRADE)}early question`,
    );
    expect(head).to.match(/\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n$/);
    hidden.write(`${SWITCH}early answer`);
    expect(plain(await visitor.take("\r\n\r\n"))).to.equal(
      "HTTP/1.1 101 Switching Protocols\r\nVia: 1.1 RELAY\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
    );
    expect(await visitor.take("early answer")).to.equal("early answer");
    expect(await hidden.take("early question")).to.equal("early question");
    visitor.write("\0\xff\r\n\r\nGET");
    expect(await hidden.take("GET")).to.equal("\0\xff\r\n\r\nGET");
    hidden.write("\xfe");
    expect(await visitor.take("\xfe")).to.equal("\xfe");
  });

  async function upgraded(settings: Partial<RelaySettings> = {}): Promise<{
    visitor: Raw;
    hidden: Raw;
    relay: TestRelay;
  }> {
    const both = await answered(
      SWITCH,
      get("/?rendezvous=pi", UPGRADE),
      settings,
    );
    await both.visitor.take("\r\n\r\n");
    return both;
  }

  it("passes a half-close of either side on, and the other direction goes on", async () => {
    const { visitor, hidden, relay } = await upgraded();
    visitor.write("last").socket.end();
    await hidden.end();
    expect(hidden.received).to.equal("last");
    hidden.write("still here");
    expect(await visitor.take("still here")).to.equal("still here");
    hidden.socket.end();
    await visitor.end();
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("on which nothing moves for IDLE_SECONDS is cut", async () => {
    const { visitor, hidden, relay } = await upgraded({ idleSeconds: 0.5 });
    expect(await visitor.close()).to.equal("reset");
    expect(await hidden.close()).to.equal("reset");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("whose octets nobody takes for STALL_SECONDS is cut", async () => {
    const { visitor, hidden, relay } = await upgraded({ stallSeconds: 0.5 });
    visitor.socket.pause();
    // More than all buffers on the way take.
    hidden.socket.write(Buffer.alloc(32 * 1024 * 1024));
    expect(await hidden.close()).to.equal("reset");
    await relay.until(() => relay.counts().tunnels === 0);
  });

  it("passes a half-close of the hidden server on first, too", async () => {
    const { visitor, hidden } = await upgraded();
    hidden.write("last").socket.end();
    await visitor.end();
    expect(visitor.received).to.equal("last");
    visitor.write("still here");
    expect(await hidden.take("still here")).to.include("still here");
  });

  for (const who of ["visitor", "hidden"] as const) {
    it(`passes a reset of the ${who === "visitor" ? "visitor" : "hidden server"} on`, async () => {
      const both = await upgraded();
      both[who].socket.resetAndDestroy();
      expect(
        await both[who === "visitor" ? "hidden" : "visitor"].close(),
      ).to.equal("reset");
      await both.relay.until(() => both.relay.counts().tunnels === 0);
    });
  }

  it("that the hidden server refuses is an ordinary answer, and the connection goes on", async () => {
    const { visitor } = await answered(OK, get("/?rendezvous=pi", UPGRADE));
    expect((await visitor.answer()).body).to.equal("ok");
    visitor.write(get("/-/health"));
    expect((await visitor.answer()).status).to.equal(200);
  });
});
