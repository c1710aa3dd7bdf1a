// The ways of a client: which one is taken, what leads on to the next, and what does not.
import { expect } from "chai";
import { createServer, type Server, type Socket } from "node:net";
import { dial, reach } from "../../app/client/dial.ts";
import { DialError } from "../../app/client/ways.ts";
import { WAYS, type Way } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { hurryTimers } from "../support/clock.ts";
import { freePort } from "../support/programs.ts";
import { until } from "../support/relay.ts";
import { echo, offerService, readAll } from "../support/streams.ts";
import { startTcp } from "../support/tcp.ts";

/** Something in a relay's place: it gives each way's request the answer of this name. */
interface FakeRelay {
  readonly url: string;
  /** The ways that were tried, in order. */
  readonly tried: Way[];
}

function wayOf(head: string): Way {
  if (head.startsWith("CONNECT ")) return "connect";
  return /^upgrade: websocket\r$/im.test(head) ? "websocket" : "upgrade";
}

async function fakeRelay(
  answer: (way: Way, socket: Socket) => void,
): Promise<FakeRelay> {
  const tried: Way[] = [];
  const port = await startTcp((socket) => {
    let head = "";
    socket.on("data", (octets: Buffer) => {
      if (head.includes("\r\n\r\n")) return;
      head += octets.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      const way = wayOf(head);
      tried.push(way);
      answer(way, socket);
    });
    socket.on("end", () => socket.end());
  });
  return { url: `http://127.0.0.1:${port}`, tried };
}

async function failure(promise: Promise<unknown>): Promise<DialError> {
  try {
    await promise;
  } catch (error) {
    expect(error).to.be.instanceOf(DialError);
    return error as DialError;
  }
  throw new Error("it did not fail");
}

const page = (status: string, body = "<h1>No</h1>", more = ""): string =>
  `HTTP/1.1 ${status}\r\nContent-Type: text/html\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;
const problem = (status: string, code: string): string =>
  page(status, JSON.stringify({ code, detail: `It is ${code}.` }));

/** Changes the environment until this test is over. */
function setVariable(name: string, value: string): void {
  const before = process.env[name];
  process.env[name] = value;
  afterThisTest(() => {
    if (before === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = before;
  });
}

describe("a client's way", () => {
  for (const via of WAYS) {
    it(`by ${via} leads to the service, half-close included`, async () => {
      const { relay } = await offerService(echo);
      const { way } = await reach({ relay: relay.url, id: "pi", port: 7, via });
      expect(way).to.equal(via);
      const stream = await dial({ relay: relay.url, id: "PI", port: 7, via });
      stream.end("hello");
      expect(await readAll(stream)).to.equal("hello");
    });

    it(`by ${via} waits for an answer that comes long after its own end`, async () => {
      const { relay } = await offerService((socket) => {
        socket.resume().on("end", () => {
          // A necessary delay: longer than the 2 s after which the relay itself would close.
          setTimeout(() => socket.end("late"), 2300);
        });
      });
      const stream = await dial({ relay: relay.url, id: "pi", port: 7, via });
      stream.end("question");
      expect(await readAll(stream)).to.equal("late");
    });

    it(`by ${via} ends in an error when the stream is cut`, async () => {
      const { relay, next } = await offerService(() => undefined);
      const stream = await dial({ relay: relay.url, id: "pi", port: 7, via });
      const heard = readAll(stream);
      (await next()).resetAndDestroy();
      expect(await heard).to.equal("()");
    });

    it(`by ${via} tells the relay's own reason`, async () => {
      const { relay } = await offerService(echo);
      const to = { relay: relay.url, id: "pi", port: 22, via };
      const { status, code } = await failure(dial(to));
      expect([status, code]).to.deep.equal([403, "not_offered"]);
    });
  }

  for (const via of ["connect", "upgrade"] as const) {
    it(`by ${via} is given up after 45 s`, async () => {
      const { url } = await fakeRelay(() => undefined);
      hurryTimers(1000);
      const to = { relay: url, id: "pi", port: 7, via };
      const { message } = await failure(dial(to));
      expect(message).to.contain("did not answer within 45 s");
    });
  }

  it("is the best that gets through", async () => {
    const { relay } = await offerService(echo);
    const to = { relay: relay.url, id: "pi", port: 7 };
    const { way, pipe } = await reach(to);
    expect(way).to.equal("upgrade");
    pipe.reset();
  });
});

describe("a client's search for a way", () => {
  for (const [what, answer] of [
    ["426", page("426 Upgrade Required", "", "Upgrade: connect-tcp\r\n")],
    ["501", page("501 Not Implemented")],
    ["405 on a connection that stays open", page("405 Method Not Allowed")],
    ["405 with an empty body", page("405 Method Not Allowed", "")],
    ["a page that says 403", page("403 Forbidden")],
    ["a page that says 200", page("200 OK").replace("200", "202")],
    ["a page in other words", page("404 Not Found", '{"detail":1}')],
    ["the relay's upgrade_wanted", problem("426 Upgrade", "upgrade_wanted")],
    ["the relay's not_found", problem("404 Not Found", "not_found")],
    ["no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["the end", ""],
  ] as const) {
    it(`that meets ${what} by all ways has gone them all`, async () => {
      const { url, tried } = await fakeRelay((_way, socket) => {
        if (answer === "") socket.destroy();
        else socket.write(answer);
      });
      await failure(dial({ relay: url, id: "pi", port: 7 }));
      expect([...new Set(tried)].sort()).to.deep.equal([...WAYS].sort());
    }).timeout(10_000);
  }

  for (const [status, code] of [
    ["403 Forbidden", "not_offered"],
    ["404 Not Found", "unknown_server"],
    ["503 Service Unavailable", "server_offline"],
    ["504 Gateway Timeout", "no_answer"],
  ] as const) {
    it(`ends with the relay's own ${code}`, async () => {
      const { url } = await fakeRelay((_way, socket) => {
        socket.write(problem(status, code));
      });
      const error = await failure(dial({ relay: url, id: "pi", port: 7 }));
      expect(error).to.include({ code, status: Number(status.slice(0, 3)) });
      expect(error.message).to.equal(`It is ${code}.`);
    });
  }

  for (const via of WAYS) {
    for (const status of ["404 Not Found", "200 OK"]) {
      if (via === "connect" && status === "200 OK") continue;
      it(`says that it was no relay that answered ${status}, by ${via}`, async () => {
        const { url } = await fakeRelay((_way, socket) => {
          socket.write(page(status));
        });
        const error = await failure(
          dial({ relay: url, id: "pi", port: 7, via }),
        );
        expect(error.message).to.equal(
          `${new URL(url).host} answered ${status.slice(0, 3)}, and does not look like a rendezvous relay`,
        );
      });
    }

    it(`says that it was the proxy who said no, by ${via}`, async () => {
      const { url } = await fakeRelay((_way, socket) => {
        socket.write(page("403 Forbidden"));
      });
      setVariable("http_proxy", url);
      setVariable("no_proxy", "");
      const relay = "http://relay.invalid";
      const { message } = await failure(
        dial({ relay, id: "pi", port: 7, via }),
      );
      expect(message).to.match(
        /^the proxy on the way to relay.invalid answered 403/,
      );
    });
  }

  for (const via of WAYS) {
    it(`says which proxy is not there, and that a relay behind one is not, by ${via}`, async () => {
      const proxy = `http://127.0.0.1:${await freePort()}`;
      setVariable("http_proxy", proxy.replace("//", "//somebody:HUNTER2@"));
      setVariable("no_proxy", "");
      const relay = "http://relay.invalid";
      const to = { relay, id: "pi", port: 7, via };
      expect((await failure(dial(to))).message).to.match(
        new RegExp(
          `^the proxy ${proxy} on the way to relay.invalid cannot be reached: connect ECONNREFUSED`,
        ),
      );
      const blind = await startTcp((socket) => {
        socket.once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\n");
          socket.once("data", () => socket.resetAndDestroy());
        });
      });
      setVariable("http_proxy", `http://127.0.0.1:${blind}`);
      expect((await failure(dial(to))).message).to.match(
        /^relay.invalid cannot be reached: /,
      );
    });
  }

  it("goes the one way that it is told, and no other", async () => {
    for (const via of WAYS) {
      const { url, tried } = await fakeRelay((_way, socket) => {
        socket.write(page("405 Method Not Allowed"));
      });
      await failure(dial({ relay: url, id: "pi", port: 7, via }));
      expect(tried).to.deep.equal([via]);
    }
  });

  it("loses no octets that come with the answer", async () => {
    const { url } = await fakeRelay((_way, socket) => {
      socket.end("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-hello");
    });
    const to = { relay: url, id: "pi", port: 7, via: "connect" } as const;
    const stream = await dial(to);
    stream.end();
    expect(await readAll(stream)).to.equal("SSH-2.0-hello");
  });

  it("refuses what cannot be before it begins", async () => {
    for (const wrong of [{ id: "no id" }, { port: 0 }, { relay: "ftp://x" }]) {
      const to = { relay: "http://127.0.0.1:1", id: "pi", port: 7, ...wrong };
      let problem: unknown;
      await dial(to).catch((error: unknown) => (problem = error));
      expect(problem).to.be.instanceOf(RangeError);
    }
  });

  for (const via of [undefined, ...WAYS]) {
    it(`tells what to write where there is no TLS, by ${via ?? "all ways"}`, async () => {
      const { relay } = await offerService(echo);
      const url = `https://127.0.0.1:${relay.port}`;
      const to = { relay: url, id: "pi", port: 7, via };
      expect((await failure(dial(to))).message).to.equal(
        `127.0.0.1:${relay.port} cannot be reached: it speaks no TLS; begin the URL with http://`,
      );
    });
  }

  it("tells that nobody is there", async () => {
    const gone: Server = createServer().listen(0, "127.0.0.1");
    await until(() => gone.listening);
    const { port } = gone.address() as { port: number };
    gone.close();
    const to = { relay: `http://127.0.0.1:${port}`, id: "pi", port: 7 };
    expect((await failure(dial(to))).message).to.contain("cannot be reached");
  });
});
