// Exchanges on a tunnel, through the relay's own doors: whatever the hidden server says and however it is cut, each visitor gets what is his.
import { expect } from "chai";
import fc from "fast-check";
import { pino } from "pino";
import { Connection } from "../../app/relay/connection.ts";
import { createForward } from "../../app/relay/forward.ts";
import { Grants } from "../../app/relay/grants.ts";
import { Lot } from "../../app/relay/lot.ts";
import { nameServer } from "../../app/relay/naming.ts";
import { checkSettings } from "../../app/relay/options.ts";
import { Streams } from "../../app/relay/streams.ts";
import { Tunnel } from "../../app/relay/tunnel.ts";
import { BodyReader } from "../../app/wire/body.ts";
import { Malformed, headEnd, readAnswerHead } from "../../app/wire/head.ts";
import { End, settled } from "./end.ts";
import { answers } from "./messages.ts";
import { cuts, piecesOf } from "./octets.ts";
import { slowTarget } from "./target.ts";

const OPTIONS = {
  ...checkSettings({ holdSeconds: 0.000_001 }),
  ownHosts: [],
  pseudonym: "rendezvous-fuzz",
};
const SILENT = pino({ level: "silent" });

/** What the second visitor is to get, and nothing else. */
const SECOND =
  "HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\n\r\nsecond";

interface Scene {
  readonly lot: Lot;
  readonly visitor: End;
  readonly tunnels: readonly End[];
}

/** A visitor, and a hidden server that has parked two tunnels as an agent. */
function scene(): Scene {
  const lot = new Lot(OPTIONS, { generationOf: () => 1 });
  const forward = createForward(lot, new Streams(OPTIONS), OPTIONS, SILENT);
  const tunnels = [new End(), new End()];
  for (const { link } of tunnels) {
    const tunnel = new Tunnel(
      link,
      { id: "pi", generation: 1 },
      true,
      lot,
      OPTIONS,
    );
    lot.admit(tunnel);
    tunnel.release();
  }
  const visitor = new End();
  const grants = new Grants(() => undefined, OPTIONS.parameter);
  new Connection(
    visitor.link,
    OPTIONS,
    (connection, received) => {
      const { request, visa } = grants.take(received);
      const named = nameServer(request, OPTIONS);
      if (named.to !== "server") throw new Error("nobody is named");
      forward(connection, request, named, visa);
    },
    () => undefined,
  );
  return { lot, visitor, tunnels };
}

/** The final answer at the beginning of a text, as far as it can be read: its end, and whether more has come behind it. */
function endOf(text: string, method: string): number | undefined {
  const octets = Buffer.from(text, "latin1");
  try {
    for (let at = 0; ;) {
      const bodyFrom = headEnd(octets, at);
      if (bodyFrom < 0) return undefined;
      const answer = readAnswerHead(octets.subarray(at), bodyFrom - at, method);
      at = bodyFrom;
      if (answer.status === 101) return undefined;
      if (answer.status < 200) continue;
      const body = new BodyReader(answer.framing);
      const end = body.read(octets, at);
      return body.endsWithStream ? end : undefined;
    }
  } catch (problem) {
    if (!(problem instanceof Malformed)) throw problem;
    return undefined;
  }
}

interface Outcome {
  readonly seen: string;
  readonly cut: boolean;
  readonly ended: boolean;
  /** What the visitor got for a second request. */
  readonly second: string;
}

/** One visitor asks, gets these pieces and the tunnel's end, and asks again. */
async function visit(
  line: string,
  pieces: readonly Buffer[],
): Promise<Outcome> {
  const { lot, visitor, tunnels } = scene();
  const ask = Buffer.from(`${line}\r\nHost: x\r\n\r\n`);
  visitor.come(ask);
  const asked = tunnels.find(({ text }) => text !== "");
  if (asked === undefined) throw new Error("nobody was asked");
  expect(asked.text.split("\r\n\r\n"), "one head").to.have.length(2);
  const before = asked.text;
  for (const piece of pieces) asked.come(piece);
  const goesOn = !asked.closed && !asked.ended && lot.counts.idle === 2;
  if (!goesOn) asked.end();
  await settled();
  const seen = visitor.text;
  const [cut, ended] = [visitor.cut, visitor.ended];
  let second = "";
  if (!cut && !ended) {
    const parked = tunnels.map(({ text }) => text.length);
    visitor.come(
      Buffer.from("GET /2?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    const next = tunnels.find(({ text }, i) => text.length > (parked[i] ?? 0));
    if (next === asked) expect(goesOn, "a used tunnel is free").to.be.true;
    else expect(asked.text).to.equal(before);
    next?.come(Buffer.from(SECOND));
    second = visitor.text.slice(seen.length);
  }
  for (const end of [visitor, ...tunnels]) end.destroy();
  await settled();
  expect(lot.counts).to.include({ tunnels: 0, idle: 0, waiting: 0 });
  return { seen, cut, ended, second };
}

const lines = fc.constantFrom(
  "GET /?rendezvous=pi HTTP/1.1",
  "GET /?rendezvous=pi HTTP/1.1",
  "HEAD /?rendezvous=pi HTTP/1.1",
  "OPTIONS http://pi HTTP/1.1",
  "GET /?rendezvous=pi HTTP/1.0",
);

const FAILED =
  /^HTTP\/1\.1 502 Bad Gateway\r\n[^]*Proxy-Status: rendezvous; [^\r]*details="(?:bad_answer|tunnel_lost)"/;
const PASSED_ON =
  /^(?:HTTP\/1\.1 1\d\d [^]*?\r\n\r\n)*HTTP\/1\.1 502 Bad Gateway\r\n[^]*Proxy-Status: rendezvous; [^\r]*details="(?:bad_answer|tunnel_lost)"/;

export const exchange = [
  slowTarget(
    "a visitor gets an answer whole, or clearly none, however it is cut; and nothing of it is in the next one",
    // Where nothing at all comes, another tunnel is asked.
    fc.tuple(
      lines,
      answers.filter((text) => text !== ""),
      cuts,
    ),
    async ([line, text, at]) => {
      const method = line.slice(0, line.indexOf(" "));
      const outcome = await visit(line, piecesOf(text, at));
      const { seen, cut, ended, second } = outcome;
      if (second !== "" || (!cut && !ended)) {
        expect(second).to.match(
          /^HTTP\/1\.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\nVia: 1\.1 rendezvous-fuzz\r\n\r\nsecond$/,
        );
      }
      const end = endOf(text, method);
      if (end === undefined) {
        // It can be read in no way, or never ends: a failure of the relay's own, or a cut.
        const failed = cut || PASSED_ON.test(seen);
        expect(failed, seen).to.be.true;
        return;
      }
      const right = await visit(line, [
        Buffer.from(text.slice(0, end), "latin1"),
      ]);
      expect(FAILED.test(right.seen), right.seen).to.be.false;
      if (end === text.length) {
        expect(outcome).to.deep.equal(right);
        return;
      }
      // What follows it on the tunnel is nobody's; whether it came in time to spoil the answer is a matter of pieces.
      if (cut) expect(right.seen.startsWith(seen), seen).to.be.true;
      else if (!PASSED_ON.test(seen)) expect(seen).to.equal(right.seen);
    },
    4,
  ),
];
