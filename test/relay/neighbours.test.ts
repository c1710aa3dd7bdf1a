// Hidden servers of one relay: mallory has an id of his own and does what he likes with it; victim and its visitors must not notice.
import { expect } from "chai";
import { once } from "node:events";
import type { RequestListener } from "node:http";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import type { RelaySettings } from "../../app/relay/options.ts";
import {
  SWITCH,
  parkRawAgent,
  parkRawUnproved,
  pong,
  takePing,
} from "../support/hidden.ts";
import { connectRaw, type Raw, type RawAnswer } from "../support/raw.ts";
import { parkHere, startRelay, type TestRelay } from "../support/relay.ts";
import { connectTcp, data, visit } from "../support/streams.ts";
import { OK, get } from "../support/visits.ts";

/** What only victim and its visitors know. */
const SECRET = "nobody-but-victim";
const SPARE = 3;
const PROMPT_MILLISECONDS = 2000;
const TO_MALLORY = get("/?rendezvous=mallory");
const MEGABYTE = "x".repeat(1024 * 1024);

interface Stage {
  readonly relay: TestRelay;
  /** Mallory's end of a tunnel that is parked. */
  readonly mallory: Raw;
  /** One more of his tunnels. */
  readonly parkMore: () => Promise<Raw>;
  /** A visitor of his, whose request he has got. */
  readonly lure: (request?: string) => Promise<Raw>;
  /** Visits victim in each way, and looks whether mallory has seen anything of it. */
  readonly expectVictimServed: () => Promise<void>;
}

async function begin(settings: Partial<RelaySettings> = {}): Promise<Stage> {
  const relay = await startRelay(settings);
  const serve: RequestListener = (request, answer) => {
    request.resume().on("end", () => {
      answer.setHeader("X-Mark", SECRET);
      answer.end(`${SECRET} ${request.method ?? ""} ${request.url ?? ""}`);
    });
  };
  await parkHere(relay, "victim", serve, { spare: SPARE });
  await relay.until(() => relay.counts().idle === SPARE);
  let seen = "";
  const watch = (raw: Raw): Raw => {
    raw.socket.on("data", (text: string) => (seen += text));
    return raw;
  };
  const parkMore = async (): Promise<Raw> =>
    watch(await parkRawAgent(relay, "mallory"));
  const mallory = await parkMore();
  return {
    relay,
    mallory,
    parkMore,
    lure: async (request = TO_MALLORY) => {
      const visitor = await visit(relay, request);
      await mallory.take("\r\n\r\n");
      return visitor;
    },
    expectVictimServed: async () => {
      const since = performance.now();
      const kept = await connectRaw(relay.port);
      for (let n = 0; n < 5; n++) {
        const asked = get(
          `/${n}?rendezvous=victim`,
          `Cookie: ${SECRET}\r\nAuthorization: ${SECRET}\r\n`,
        );
        const fresh = await connectRaw(relay.port);
        for (const visitor of [kept, fresh]) {
          visitor.write(asked);
          const { status, body, fields } = await visitor.answer();
          expect(status).to.equal(200);
          expect(body).to.equal(`${SECRET} GET /${n}`);
          expect(fields).to.include({ "x-mark": SECRET });
        }
        fresh.write(
          `POST /${n}?rendezvous=victim HTTP/1.1\r\nHost: x\r\nContent-Length: ${SECRET.length}\r\n\r\n${SECRET}`,
        );
        expect((await fresh.answer()).body).to.equal(`${SECRET} POST /${n}`);
        fresh.socket.destroy();
      }
      kept.socket.destroy();
      expect(performance.now() - since).to.be.below(PROMPT_MILLISECONDS);
      expect(seen).to.not.include(SECRET);
    },
  };
}

function codeOf({ status, body }: RawAnswer): string {
  const { code } = JSON.parse(body) as { code: string };
  return `${status} ${code}`;
}

describe("a hidden server that answers badly fails its own visitor, and victim's are served, when it", () => {
  /** What it says to a request, and what becomes of the visitor. */
  const refused: readonly (readonly [
    title: string,
    answer: string,
    code: string,
  ])[] = [
    [
      "floods interim answers",
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000),
      "502 bad_answer",
    ],
    [
      "switches protocols unasked",
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
      "502 bad_answer",
    ],
    [
      "sends a head without end",
      `HTTP/1.1 200 OK\r\nX: ${MEGABYTE}`,
      "502 bad_answer",
    ],
    [
      "sends field lines without end",
      `HTTP/1.1 200 OK\r\n${"X: y\r\n".repeat(100_000)}`,
      "502 bad_answer",
    ],
    ["sends two answers in one piece", OK + OK, "502 bad_answer"],
    [
      "has two lengths",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "502 bad_answer",
    ],
    [
      "speaks something else",
      `${"\x00\xff".repeat(500)}\r\n\r\n`,
      "502 bad_answer",
    ],
  ];
  for (const [title, answer, code] of refused) {
    it(title, async () => {
      const { mallory, lure, expectVictimServed } = await begin();
      const visitor = await lure();
      mallory.write(answer);
      // What came before it is his own.
      let told = await visitor.answer();
      while (told.status < 200) told = await visitor.answer();
      expect(codeOf(told)).to.equal(code);
      expect(await mallory.close()).to.equal("reset");
      await expectVictimServed();
    });
  }

  const HEAD = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const cut: readonly (readonly [title: string, answer: string])[] = [
    ["sends a chunk extension without end", `1;a=${MEGABYTE}`],
    ["sends trailers without end", `0\r\n${"X: y\r\n".repeat(100_000)}`],
    ["sends a trailer that frames", "0\r\nContent-Length: 5\r\n\r\n"],
    ["sends a chunk size without end", "0".repeat(100_000)],
    ["sends octets behind its last chunk", `0\r\n\r\n${OK}`],
  ];
  for (const [title, rest] of cut) {
    it(title, async () => {
      const { mallory, lure, expectVictimServed } = await begin();
      const visitor = await lure();
      mallory.write(HEAD);
      await visitor.take("\r\n\r\n");
      mallory.write(rest);
      expect(await visitor.close()).to.equal("reset");
      await expectVictimServed();
    });
  }

  it("ends in the middle of its head, or of its body", async () => {
    const { mallory, parkMore, relay, lure, expectVictimServed } =
      await begin();
    const early = await lure();
    mallory.write("HTTP/1.1 200 OK\r\nContent-Le").socket.end();
    expect(codeOf(await early.answer())).to.equal("502 bad_answer");
    const other = await parkMore();
    const late = await visit(relay, TO_MALLORY);
    await other.take("\r\n\r\n");
    other.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome");
    await late.take("some");
    other.socket.end();
    expect(await late.close()).to.equal("reset");
    await expectVictimServed();
  });

  it("says nothing, or its head octet by octet, and never ends it", async () => {
    const { mallory, parkMore, relay, lure, expectVictimServed } = await begin({
      answerSeconds: 0.5,
    });
    const visitor = await lure();
    const other = await parkMore();
    const second = await visit(relay, TO_MALLORY);
    await other.take("\r\n\r\n");
    const drip = setInterval(() => other.write("H"), 5);
    other.socket.once("close", () => {
      clearInterval(drip);
    });
    other.write("HTTP/1.1 200 OK\r\nX: ");
    await expectVictimServed();
    for (const each of [visitor, second])
      expect(codeOf(await each.answer())).to.equal("504 no_answer");
    await mallory.close();
  });
});

describe("a hidden server that never ends holds up its own visitor only, when it", () => {
  /** Writes until nobody takes any more, which has no event, hence the wait; gives how much went out. */
  async function flood(mallory: Raw, most: number): Promise<number> {
    let sent = 0;
    const stuck = (): Promise<unknown> =>
      Promise.race([
        once(mallory.socket, "drain").then(() => false),
        new Promise((resolve) => setTimeout(resolve, 300, true)),
      ]);
    while (sent < most) {
      sent += MEGABYTE.length;
      if (!mallory.socket.write(MEGABYTE, "latin1") && (await stuck()) === true)
        break;
    }
    return sent;
  }
  const MOST = 64 * 1024 * 1024;

  for (const [what, request, head] of [
    ["an answer", TO_MALLORY, "HTTP/1.1 200 OK\r\n\r\n"],
    [
      "an upgraded connection",
      get("/?rendezvous=mallory", "Connection: Upgrade\r\nUpgrade: chat\r\n"),
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
    ],
  ] as const) {
    it(`pours ${what} on a visitor who does not read`, async () => {
      const { mallory, lure, expectVictimServed } = await begin();
      const visitor = await lure(request);
      mallory.write(head);
      await visitor.take("\r\n\r\n");
      visitor.socket.pause();
      // The relay takes no more than buffers hold.
      expect(await flood(mallory, MOST)).to.be.below(MOST);
      await expectVictimServed();
    });
  }

  it("pours a TCP stream, or capsules that nobody knows, on a visitor", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure(connectTcp("mallory/7"));
    mallory.write(SWITCH + data("hello"));
    await visitor.take("hello");
    visitor.socket.pause();
    // Type 5, of 2^30 octets: skipped as it comes.
    mallory.write("\x05\xc0\x00\x00\x00\x40\x00\x00\x00");
    await Promise.all([flood(mallory, MOST / 4), expectVictimServed()]);
    await expectVictimServed();
  });

  it("pours an answer on a visitor who reads, and victim's are served between", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure();
    visitor.socket.on("data", () => (visitor.received = ""));
    mallory.write("HTTP/1.1 200 OK\r\n\r\n");
    await Promise.all([flood(mallory, MOST), expectVictimServed()]);
  });
});

describe("a hidden server cannot reach beyond its own id, when it", () => {
  it("sets the relay's cookie, in whatever answer: the visitor gets only the other cookies", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const set = [
      "rendezvous=victim",
      "rendezvous=victim; Path=/; Domain=x; Max-Age=99999",
      " rendezvous =victim",
      "=rendezvous=victim",
    ].map((cookie) => `Set-Cookie: ${cookie}\r\nset-cookie: a=b\r\n`);
    const visitor = await lure();
    mallory.write(`HTTP/1.1 103 Early Hints\r\n${set.join("")}\r\n`);
    mallory.write(
      `HTTP/1.1 200 OK\r\n${set.join("")}Content-Length: 2\r\n\r\nok`,
    );
    for (const { status, fields } of [
      await visitor.answer(),
      await visitor.answer(),
    ]) {
      expect(status).to.be.oneOf([103, 200]);
      expect(fields["set-cookie"]).to.equal("a=b, a=b, a=b, a=b");
    }
    await expectVictimServed();
  });

  it("sets it in trailers: they are dropped, and others stay", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure();
    mallory.write(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: rendezvous=victim\r\nCDN-Cache-Control: public\r\n\r\n",
    );
    const head = await visitor.take("\r\n\r\n");
    expect(head).to.not.match(/set-cookie/i);
    expect(await visitor.take("\r\n\r\n")).to.equal(
      "2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    await expectVictimServed();
  });

  it("tells a router in front to serve something of its own: what routers obey is dropped", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure();
    mallory.write(
      "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /internal/\r\nX-Sendfile: /etc/passwd\r\nX-LIGHTTPD-send-file: /etc/passwd\r\nX-Reproxy-URL: http://127.0.0.1/\r\nX-Accel-Buffering: no\r\nContent-Length: 2\r\n\r\nok",
    );
    const { fields, body } = await visitor.answer();
    expect(body).to.equal("ok");
    expect(
      Object.keys(fields).filter((name) => name.startsWith("x-")),
    ).to.deep.equal(["x-accel-buffering"]);
    await expectVictimServed();
  });

  it("answers a request that is still to come: its tunnel ends, and nobody gets that answer", async () => {
    const { relay, mallory, expectVictimServed } = await begin();
    mallory.write(OK.replace("ok", "no"));
    await mallory.end();
    const other = await parkRawAgent(relay, "mallory");
    const visitor = await visit(relay, TO_MALLORY);
    await other.take("\r\n\r\n");
    other.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    await expectVictimServed();
  });

  it("answers twice: the visitor's next request, to victim, gets victim's answer", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure();
    mallory.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
    mallory.write(OK.replace("ok", "no"));
    visitor.write(get("/next?rendezvous=victim"));
    expect((await visitor.answer()).body).to.equal(`${SECRET} GET /next`);
    await mallory.end();
    await expectVictimServed();
  });

  it("answers late a request that has another of victim's behind it in the same piece", async () => {
    const { mallory, lure, expectVictimServed } = await begin();
    const visitor = await lure(
      TO_MALLORY +
        get("/behind?rendezvous=victim") +
        get("/last?rendezvous=victim"),
    );
    await expectVictimServed();
    mallory.write(OK);
    for (const body of ["ok", `${SECRET} GET /behind`, `${SECRET} GET /last`])
      expect((await visitor.answer()).body).to.equal(body);
    await expectVictimServed();
  });

  it("sends requests on its tunnel: they are nobody's, and the tunnel ends", async () => {
    const { mallory, expectVictimServed } = await begin();
    mallory.write(get("/?rendezvous=victim"));
    await mallory.end();
    expect(mallory.received).to.equal("");
    await expectVictimServed();
  });

  it("parks or registers as victim, with whatever it can make of its own secret", async () => {
    const { relay, expectVictimServed } = await begin();
    const key = decodeSecret(relay.issue("mallory").secret);
    const login = async (id: string, sub: string): Promise<string> =>
      Buffer.from(`${id}:${await makeToken(sub, key)}`).toString("base64");
    const tries = [
      `CONNECT uuid:victim?response=${await makeToken("mallory", key)}`,
      `CONNECT uuid:victim?response=${await makeToken("victim", key)}`,
      `CONNECT uuid:victim HTTP/1.1\r\nAuthorization: Basic ${await login("mallory", "mallory")}`,
      `GET /-/park/victim HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ptth\r\nAuthorization: Basic ${await login("victim", "mallory")}`,
      `PUT /?uuid=victim&response=${await makeToken("mallory", key)}`,
    ];
    const { tunnels } = relay.counts();
    for (const line of tries) {
      const [request = "", ...fields] = line.split("\r\n");
      const first = request.includes(" HTTP/1.1")
        ? request
        : `${request} HTTP/1.1`;
      const raw = await visit(
        relay,
        `${[first, "Host: x", ...fields].join("\r\n")}\r\n\r\n`,
      );
      expect(codeOf(await raw.answer()), line).to.equal("401 bad_token");
    }
    expect(relay.counts().tunnels).to.equal(tunnels);
    await expectVictimServed();
  });

  it("answers pings that were not put to it", async () => {
    const { relay, expectVictimServed } = await begin();
    const idle = relay.counts().idle;
    const waiting = await parkRawUnproved(relay, "victim");
    const mallory = await parkRawUnproved(relay, "mallory");
    mallory.raw.write(pong(waiting.nonce));
    await mallory.raw.end();
    expect(relay.counts().idle).to.equal(idle);
    await expectVictimServed();
    waiting.raw.write(pong(waiting.nonce));
    await relay.until(() => relay.counts().idle === idle + 1);
  });

  it("parks as many tunnels as it can: its limit ends that, and victim's agents come in", async () => {
    const { relay, expectVictimServed } = await begin({
      maxTunnelsPerServer: 16,
    });
    const { tunnels } = relay.counts();
    const key = decodeSecret(relay.issue("mallory").secret);
    const answers = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const token = await makeToken("mallory", key);
        const raw = await visit(
          relay,
          `CONNECT uuid:mallory?response=${token} HTTP/1.1\r\n\r\n`,
        );
        return raw.take("\r\n");
      }),
    );
    expect(
      answers.filter((line) => line === "HTTP/1.1 200 OK\r\n"),
    ).to.have.length(15);
    expect(
      answers.filter((line) => line.startsWith("HTTP/1.1 503")),
    ).to.have.length(85);
    expect(relay.counts().tunnels).to.equal(tunnels + 15);
    const another = await parkRawAgent(relay, "victim");
    another.socket.destroy();
    await relay.until(() => relay.counts().tunnels === tunnels + 15);
    await expectVictimServed();
  });

  it("parks and leaves, again and again", async () => {
    const { relay, expectVictimServed } = await begin();
    const key = decodeSecret(relay.issue("mallory").secret);
    let stopped = false;
    let times = 0;
    const flap = async (): Promise<void> => {
      while (!stopped) {
        const token = await makeToken("mallory", key);
        const raw = await visit(
          relay,
          `CONNECT uuid:mallory?response=${token} HTTP/1.1\r\nRendezvous-Agent: 1\r\n\r\n`,
        );
        await raw.take("\r\n\r\n");
        await takePing(raw);
        raw.socket.resetAndDestroy();
        times++;
      }
    };
    const flapping = [flap(), flap(), flap()];
    await expectVictimServed();
    stopped = true;
    await Promise.all(flapping);
    expect(times).to.be.above(3);
  });

  it("takes every place where visitors wait for it: victim's visitors wait in places of their own", async () => {
    const { relay, mallory, lure, expectVictimServed } = await begin({
      maxWaitingPerServer: 8,
      // As if they came from many networks.
      maxTunnelsPerVisitor: 0,
      holdSeconds: 0.5,
    });
    const visitor = await lure();
    const crowd = await Promise.all(
      Array.from({ length: 12 }, () => visit(relay, TO_MALLORY)),
    );
    await relay.until(() => relay.counts().waiting === 8);
    await expectVictimServed();
    for (const each of crowd)
      expect(codeOf(await each.answer())).to.equal("503 busy");
    mallory.write(OK);
    expect((await visitor.answer()).body).to.equal("ok");
  });
});
