// A bug of the relay's own: it costs the request that met it, is logged whole, and nobody else notices.
import { expect } from "chai";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { pino, type Logger } from "pino";
import { createRelay } from "../../app/relay/relay.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { RELAY_SECRET } from "../support/relay.ts";
import { get } from "../support/visits.ts";

const BUG = "a bug that nobody foresaw";

/** A relay whose log throws where it is told of this, which is as good as any bug there. */
async function startBuggy(
  message: string,
): Promise<{ lines: string[]; connect: () => Promise<Raw> }> {
  const lines: string[] = [];
  const log: Logger = pino(
    {
      hooks: {
        logMethod(args, method) {
          if (args.includes(message)) throw new Error(BUG);
          method.apply(this, args);
        },
      },
    },
    { write: (line: string) => lines.push(line) },
  );
  const relay = createRelay(
    { relaySecret: RELAY_SECRET, revoked: ["lost"] },
    log,
  );
  relay.server.listen(0, "127.0.0.1");
  await once(relay.server, "listening");
  afterThisTest(async () => {
    await Promise.all([relay.drain(), relay.drain()]);
  });
  const { port } = relay.server.address() as AddressInfo;
  return { lines, connect: () => connectRaw(port) };
}

describe("a bug of the relay", () => {
  for (const [where, message, request] of [
    ["in the visit door", "a visit failed", get("/?rendezvous=lost")],
    [
      "in the TCP door",
      "a TCP visit failed",
      "CONNECT nowhere.example:7 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    [
      "in the park door",
      "parking was refused",
      "CONNECT uuid:pi?response=no.to.ken HTTP/1.1\r\n\r\n",
    ],
    [
      "in the generic door",
      "a registration was refused",
      "PUT /?uuid=pi&response=no.to.ken HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
  ] as const) {
    it(`${where} is a 500 for the request that met it, and a line of the log with its stack`, async () => {
      const { lines, connect } = await startBuggy(message);
      const other = await connect();
      const unlucky = await connect();
      unlucky.write(request);
      const { status, body } = await unlucky.answer();
      expect(status).to.equal(500);
      expect(body)
        .to.include('"code":"internal_error"')
        .and.not.include(BUG)
        .and.not.include(".ts:");
      const logged = lines.filter((line) => line.includes(BUG));
      expect(logged).to.have.length(1);
      expect(logged[0]).to.match(/"level":50,.*"stack":"Error: /);
      other.write(get("/-/health"));
      expect((await other.answer()).status).to.equal(200);
    });
  }
});
