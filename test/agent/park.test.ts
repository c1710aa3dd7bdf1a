import { expect } from "chai";
import { once } from "node:events";
import { createServer as createSecureServer } from "node:https";
import { park } from "../../app/agent/agent.ts";
import { createWatch } from "../../app/agent/watch.ts";
import { WAYS } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { startRelay } from "../support/relay.ts";

/** park() as a program in plain JavaScript may call it. */
const parkAnything = park as (target: unknown, options?: unknown) => unknown;

describe("park()", () => {
  it("refuses at once, in a sentence, what it cannot serve", async () => {
    const relay = await startRelay();
    const options = { relay: relay.issue("pi").url };
    for (const target of [
      undefined,
      null,
      "8080",
      {},
      { host: "localhost", port: "abc" },
      { host: "localhost", port: 0 },
      70_000,
      createSecureServer(),
    ]) {
      expect(() => parkAnything(target, options)).to.throw(
        RangeError,
        /^park\(\) serves /,
      );
    }
    expect(() =>
      parkAnything(() => undefined, { ...options, private: "yes" }),
    ).to.throw(RangeError, /private must be true or false/);
    expect(() => parkAnything(() => undefined)).to.throw(
      RangeError,
      /needs options/,
    );
    expect(() =>
      parkAnything(() => undefined, { relay: "http://%zz:x@relay" }),
    ).to.throw(RangeError);
    const cut = relay.issue("pi").secret.slice(0, -1);
    expect(() =>
      parkAnything(() => undefined, { ...options, secret: cut }),
    ).to.throw(RangeError, /^The secret is not base32 text/);
  });

  it("says that the environment names a proxy it cannot speak to, and lives on", async () => {
    const relay = await startRelay();
    for (const proxy of ["http://[bad", "socks5://127.0.0.1:1080"]) {
      const former = process.env["http_proxy"];
      process.env["http_proxy"] = proxy;
      afterThisTest(() => {
        if (former === undefined) delete process.env["http_proxy"];
        else process.env["http_proxy"] = former;
      });
      const agent = park(8080, { relay: relay.issue("pi").url });
      afterThisTest(() => agent.close());
      const [reason] = await new Promise<[string, number]>((resolve) => {
        agent.once("trouble", (...trouble) => {
          resolve(trouble);
        });
      });
      expect(reason).to.match(/proxy that the environment names/);
      await agent.close();
    }
  });
});

describe("an agent of a relay without TLS that is asked by https", () => {
  for (const via of [undefined, ...WAYS]) {
    it(`says what to write instead, by ${via ?? "all ways"}`, async () => {
      const plain = await startRelay();
      const { port } = plain;
      const { secret } = plain.issue("pi");
      const relay = `https://127.0.0.1:${port}`;
      const agent = park(8080, { relay, id: "pi", secret, via });
      afterThisTest(() => agent.close());
      const [reason] = (await once(agent, "trouble")) as [string, number];
      expect(reason).to.equal(
        `127.0.0.1:${port} cannot be reached: it speaks no TLS; begin the URL with http://`,
      );
    });
  }
});

describe("a watch", () => {
  it("tells each exchange in a line, whatever the pieces", () => {
    const lines: string[] = [];
    const watch = createWatch((line) => lines.push(line));
    for (const octet of "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
      watch.there(Buffer.from(octet));
    watch.back(
      Buffer.from(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
      ),
    );
    expect(lines.map((line) => line.replace(/\d+ ms/, "N ms"))).to.deep.equal([
      "POST /a 201 N ms",
      "GET /b 404 N ms",
    ]);
  });

  it("gives up where it cannot follow, and says nothing wrong", () => {
    const lines: string[] = [];
    const watch = createWatch((line) => lines.push(line));
    watch.there(Buffer.from("not http at all\r\n\r\n"));
    watch.back(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    expect(lines).to.deep.equal([]);
  });
});
