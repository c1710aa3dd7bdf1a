// What doctor finds out about a relay, and about whatever stands in front of it.
import { expect } from "chai";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { createProof } from "../../app/agent/prove.ts";
import {
  diagnose,
  type Conclusion,
  type DoctorOptions,
} from "../../app/client/doctor.ts";
import type { Finding } from "../../app/client/finding.ts";
import { WAYS } from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import {
  needs,
  Program,
  freePort,
  listening,
  scratch,
  scratchFile,
} from "../support/programs.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";
import { startNginx, startNginxBefore, startTcp } from "../support/tcp.ts";

interface Diagnosis extends Conclusion {
  readonly of: ReadonlyMap<string, Finding>;
  /** Which of both kinds of way were found to work, and how not: `yes`, `no`, `half duplex`, `hung`. */
  readonly results: Readonly<Record<string, unknown>>;
}

async function examine(
  url: string,
  options: Partial<DoctorOptions> = {},
): Promise<Diagnosis> {
  const of = new Map<string, Finding>();
  const conclusion = await diagnose(
    { relay: { url: new URL(url) }, ...options },
    (finding) => of.set(finding.check, finding),
  );
  const results = Object.fromEntries(
    [...of].flatMap(([check, { facts }]) =>
      facts?.["result"] === undefined ? [] : [[check, facts["result"]]],
    ),
  );
  return { ...conclusion, of, results };
}

/** Parks as `pi`, with the right secret. */
function parkAt(relay: TestRelay): Required<Pick<DoctorOptions, "park">> {
  return { park: createProof("pi", relay.issue("pi").secret) };
}

const wordsOf = ({ of }: Diagnosis, check: string): string =>
  of.get(check)?.words ?? "";
const markOf = ({ of }: Diagnosis, check: string): string | undefined =>
  of.get(check)?.mark;

describe("doctor", () => {
  it("finds nothing wrong with a relay that it reaches directly, and leaves nothing there", async () => {
    const relay = await startRelay();
    const found = await examine(relay.url, parkAt(relay));
    for (const [check, { mark }] of found.of)
      expect(mark, check).to.equal(check === "idle" ? "-" : "ok");
    expect(found).to.include({
      outcome: "works",
      dial: "upgrade",
      park: "connect",
      words: "the agent will use connect; dial will use upgrade",
    });
    expect(wordsOf(found, "relay")).to.match(/^rendezvous \d+\./);
    expect(wordsOf(found, "visitor")).to.include("127.0.0.1 by http");
    await relay.until(() => relay.counts().tunnels === 0);
    await relay.until(() => relay.counts().connections === 0);
  });

  it("takes no visitor's request while it parks", async () => {
    const relay = await startRelay({ holdSeconds: 0.5 });
    const visit = fetch(`${relay.url}/?rendezvous=pi`);
    await relay.until(() => relay.counts().waiting === 1);
    const found = await examine(relay.url, parkAt(relay));
    expect(found.outcome).to.equal("works");
    expect((await visit).status).to.equal(503);
  });

  it("needs no credential, and says what it has not tested", async () => {
    const relay = await startRelay();
    const found = await examine(relay.url);
    expect(found).to.include({ outcome: "works", dial: "upgrade" });
    expect(found.park).to.equal(undefined);
    expect(markOf(found, "park")).to.equal("-");
    expect(wordsOf(found, "idle")).to.include("--idle 60");
  });

  it("says that a secret is wrong", async () => {
    const relay = await startRelay();
    const { secret } = relay.issue("another");
    const found = await examine(relay.url, { park: createProof("pi", secret) });
    expect(found.outcome).to.equal("refused");
    expect(found.words).to.equal(
      "the relay does not take this id and secret; dial will use upgrade",
    );
    for (const way of WAYS)
      expect(wordsOf(found, `park ${way}`)).to.equal(
        "401 Unauthorized by the relay: the secret is wrong, or the clocks are apart",
      );
  });

  it("says that an nginx without Upgrade lines lets nothing through, and what it does besides", async function () {
    needs(this, "nginx");
    const relay = await startRelay();
    const port = await startNginx(
      `listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:${relay.port}; }`,
    );
    const found = await examine(`http://127.0.0.1:${port}`, parkAt(relay));
    expect(found.outcome).to.equal("refused");
    expect(found.words).to.equal(
      "no way gets through, neither for dial nor for the agent; let the router in front pass Upgrade and Connection on",
    );
    expect(Object.values(found.results)).to.deep.equal(Array(6).fill("no"));
    expect(wordsOf(found, "dial connect")).to.match(/^40\d .+, nginx/);
    expect(wordsOf(found, "dial upgrade")).to.equal(
      "426 Upgrade Required by the relay: the Upgrade was lost on the way",
    );
    expect(wordsOf(found, "answers")).to.match(/^buffered/);
    expect(wordsOf(found, "uploads")).to.match(/^buffered/);
    expect(wordsOf(found, "request head")).to.match(
      /^8 KiB pass; 16 KiB: 4\d\d .+, nginx/,
    );
    expect(wordsOf(found, "visitor")).to.include(
      `Host came as 127.0.0.1:${relay.port}`,
    );
  });

  it("finds the way through an nginx with Upgrade lines, and the silence that it bears", async function () {
    needs(this, "nginx");
    const relay = await startRelay();
    const port = await startNginxBefore(relay.port, 1);
    const url = `http://127.0.0.1:${port}`;
    const found = await examine(url, { ...parkAt(relay), idleSeconds: 3 });
    expect(found).to.include({
      outcome: "works",
      dial: "upgrade",
      park: "upgrade",
    });
    expect(found.words).to.match(
      /^the agent will use upgrade \(connect: 40\d .+, nginx\S*\); dial will use upgrade$/,
    );
    expect(found.results).to.include({
      "park connect": "no",
      "park websocket": "yes",
      "dial websocket": "yes",
    });
    for (const way of ["upgrade", "websocket"])
      expect(wordsOf(found, `idle ${way}`)).to.match(
        /^cut after [12]\.\d s of silence/,
      );
  });

  it("tells that a silence did no harm", async () => {
    const relay = await startRelay();
    const found = await examine(relay.url, { idleSeconds: 1 });
    for (const way of WAYS) expect(markOf(found, `idle ${way}`)).to.equal("ok");
  });

  it("sees a CONNECT that caddy grants and then leaves to itself", async function () {
    needs(this, "caddy");
    const relay = await startRelay();
    const port = await freePort();
    const file = scratchFile(
      `{\nadmin off\nauto_https off\n}\nhttp://:${port} {\nbind 127.0.0.1\nreverse_proxy 127.0.0.1:${relay.port}\n}`,
    );
    const args = ["run", "--adapter", "caddyfile", "--config", file];
    new Program("caddy", args, { env: { HOME: scratch() } });
    await listening(port);
    const found = await examine(`http://127.0.0.1:${port}`, parkAt(relay));
    expect(found.results["dial connect"]).to.equal("half duplex");
    expect(found).to.include({ outcome: "works", dial: "upgrade" });
    expect(wordsOf(found, "visitor")).to.include("TRUST_PROXY is 0");
  });

  it("is done in time with a router that grants and says nothing, or says nothing at all", async () => {
    const relay = await startRelay();
    const answers = {
      "dial connect": "",
      "dial upgrade":
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n\r\n",
      "dial websocket": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    };
    const port = await startTcp((socket) => {
      socket.once("data", (octets: Buffer) => {
        const head = octets.toString("latin1");
        if (head.startsWith("CONNECT")) socket.write(answers["dial connect"]);
        else if (/^upgrade: connect-tcp/im.test(head))
          socket.write(answers["dial upgrade"]);
        else if (/^upgrade:/im.test(head))
          socket.write(answers["dial websocket"]);
        else {
          const through = connect(relay.port, "127.0.0.1");
          through.on("error", () => undefined).write(octets);
          socket.pipe(through).pipe(socket);
        }
      });
    });
    const found = await examine(`http://127.0.0.1:${port}`, {
      deadlines: { answer: 1000, proof: 500 },
    });
    expect(found.results).to.deep.equal({
      "dial connect": "hung",
      "dial upgrade": "half duplex",
      "dial websocket": "no",
    });
    expect(wordsOf(found, "dial connect")).to.equal(
      "hung: no answer within 1 s",
    );
    expect(wordsOf(found, "dial upgrade")).to.equal(
      "half duplex: granted, but nothing came back within 0.5 s",
    );
    expect(wordsOf(found, "dial websocket")).to.equal("200 OK");
    expect(wordsOf(found, "round trip")).to.include("no way works");
    expect(found.outcome).to.equal("refused");
  });

  it("knows a web server that is no relay", async () => {
    const server = createServer((_request, answer) =>
      answer.writeHead(200, { Server: "shop" }).end("<html>welcome"),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    afterThisTest(() => server.close());
    const { port } = server.address() as AddressInfo;
    const found = await examine(`http://127.0.0.1:${port}`);
    expect(found.outcome).to.equal("refused");
    expect(wordsOf(found, "relay")).to.equal(
      "200 OK, shop: this is no rendezvous relay, or none gets our request",
    );
  });

  it("tells what does not answer from what is not there", async () => {
    const port = await freePort();
    const nobody = await examine(`http://127.0.0.1:${port}`);
    expect(nobody.outcome).to.equal("unreachable");
    expect(wordsOf(nobody, "connection")).to.include("ECONNREFUSED");
    const silent = await startTcp((socket) => socket.resume());
    const mute = await examine(`http://127.0.0.1:${silent}`, {
      deadlines: { answer: 300, proof: 300 },
    });
    expect(mute.outcome).to.equal("unreachable");
    expect(wordsOf(mute, "answer")).to.equal("no answer within 0.3 s");
  });
});
