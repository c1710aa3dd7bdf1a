// A local port that leads to a hidden server: what its callers may do while they are dialled for.
import { expect } from "chai";
import { once } from "node:events";
import { connect, type AddressInfo, type Socket } from "node:net";
import { createListener } from "../../app/client/listen.ts";
import { WAYS, type Way } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { needs } from "../support/programs.ts";
import { startRelay, until } from "../support/relay.ts";
import { echo, offerService, readAll } from "../support/streams.ts";
import { connectionsTo, startBlackHole, startDial } from "../support/tcp.ts";

const SOME_OCTETS = 300 * 1024;

interface Listening {
  /** A caller who is connected. */
  readonly call: () => Promise<Socket>;
  /** What could not be dialled for. */
  readonly failures: unknown[];
}

async function listenFor(relay: string, via?: Way): Promise<Listening> {
  const failures: unknown[] = [];
  const server = createListener({ relay, id: "pi", port: 7, via }, (error) =>
    failures.push(error),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const call = async (): Promise<Socket> => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    afterThisTest(() => {
      socket.destroy();
    });
    await once(socket, "connect");
    return socket;
  };
  return { call, failures };
}

describe("a caller of a local port", () => {
  for (const via of WAYS) {
    it(`who leaves while he waits for a tunnel does not wait at the relay any more, by ${via}`, async () => {
      const relay = await startRelay({ holdSeconds: 60 });
      const { call, failures } = await listenFor(relay.url, via);
      const callers = await Promise.all(Array.from({ length: 20 }, call));
      await relay.until(() => relay.counts().waiting === callers.length);
      for (const caller of callers) caller.resetAndDestroy();
      await relay.until(() => relay.counts().waiting === 0);
      expect(failures).to.deep.equal([]);
    });

    it(`who leaves while the service does not accept frees the agent, by ${via}`, async function () {
      needs(this, "python3");
      const { port } = await startBlackHole();
      const full = connectionsTo(port, "SYN_SENT");
      const { relay, agent } = await offerService(
        () => undefined,
        {},
        { tcp: new Map([[7, { host: "127.0.0.1", port }]]) },
      );
      const { call } = await listenFor(relay.url, via);
      const caller = await call();
      caller.write("what I have to say");
      await until(() => connectionsTo(port, "SYN_SENT") > full);
      expect(agent.counts.joined).to.equal(1);
      caller.resetAndDestroy();
      await until(() => agent.counts.joined === 0);
      await until(() => connectionsTo(port, "SYN_SENT") === full);
    });

    it(`who has ended his direction is served all the same, by ${via}`, async () => {
      const { relay } = await offerService(echo);
      const { call } = await listenFor(relay.url, via);
      const caller = await call();
      caller.end("x\n");
      expect(await readAll(caller)).to.equal("x\n");
    });

    it(`loses nothing of the much that he says at once, by ${via}`, async () => {
      const { relay } = await offerService(echo);
      const { call } = await listenFor(relay.url, via);
      const caller = await call();
      const words = "0123456789abcdef".repeat(SOME_OCTETS / 16);
      caller.end(words);
      expect((await readAll(caller)) === words).to.be.true;
    });
  }

  it("is cut when nobody can be reached for him, and the reason is told", async () => {
    const relay = await startRelay({ holdSeconds: 0.3 });
    const { call, failures } = await listenFor(relay.url);
    expect(await readAll(await call())).to.equal("(ECONNRESET)");
    expect(failures).to.have.length(1);
    expect(failures[0]).to.have.property("code", "unknown_server");
  });
});

describe("`rendezvous dial --listen`", () => {
  it("takes any free port for 0, says which, and knows the long name", async () => {
    const { relay } = await offerService(echo);
    const program = startDial(
      ...[relay.url, "pi.rendezvous.internal", 7],
      ...["--listen", "127.0.0.1:0"],
    );
    const [, port] = await program.prints(
      /^Listening on 127\.0\.0\.1:(\d+) for pi:7\.$/m,
    );
    const socket = connect(Number(port), "127.0.0.1");
    socket.end("hello");
    expect(await readAll(socket)).to.equal("hello");
  });
});
