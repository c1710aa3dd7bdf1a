// Heads and bodies: read in one way however they are cut, or refused as malformed; nothing else is ever thrown.
import { expect } from "chai";
import fc from "fast-check";
import { STATUS_CODES } from "node:http";
import { checkSettings } from "../../app/relay/options.ts";
import { Connection, type Server } from "../../app/relay/connection.ts";
import { BodyReader } from "../../app/wire/body.ts";
import {
  Malformed,
  headEnd,
  readAnswerHead,
  readRequestHead,
  type Framing,
  type RequestHead,
} from "../../app/wire/head.ts";
import { End, settled } from "./end.ts";
import { answers, requests } from "./messages.ts";
import { anyOctets, cuts, latin1, mutated, piecesOf } from "./octets.ts";
import { slowTarget, target } from "./target.ts";

const heads = fc.oneof(
  { weight: 4, arbitrary: requests },
  { weight: 4, arbitrary: answers },
  { weight: 1, arbitrary: mutated(fc.oneof(requests, answers), 8) },
  { weight: 1, arbitrary: anyOctets },
);

/** What a function gives, or undefined where it finds the octets malformed. */
function orMalformed<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (problem) {
    if (!(problem instanceof Malformed)) throw problem;
    expect(STATUS_CODES).to.have.property(String(problem.status));
    return undefined;
  }
}

function expectClean(texts: readonly string[]): void {
  for (const text of texts)
    if (/[^\t\x20-\x7e\x80-\xff]/.test(text))
      throw new Error(`${JSON.stringify(text)} ends a line or a text`);
}

/** Everything that is read can be written down and read again as the same. */
function expectSame(head: RequestHead): void {
  let text = `${head.method} ${head.target} HTTP/1.${head.minor}\r\n`;
  for (let i = 0; i < head.fields.length; i += 2)
    text += `${head.fields[i] ?? ""}: ${head.fields[i + 1] ?? ""}\r\n`;
  const octets = Buffer.from(`${text}\r\n`, "latin1");
  expect(readRequestHead(octets, 0, octets.length)).to.deep.equal(head);
}

/** A body out of chunks that are not always what they say. */
const bodies = fc.tuple(
  fc.constantFrom<Framing>("chunked", "chunked", "chunked", "close", 0, 5, 40),
  heads.map((text) => {
    const end = text.indexOf("\r\n\r\n");
    return end < 0 ? text : text.slice(end + 4);
  }),
);

interface Outcome {
  /** Octets that belong to the body, or undefined where it is malformed. */
  readonly count: number | undefined;
  readonly payload: string;
  readonly done: boolean;
  /** What has been taken, and so may be on its way. */
  readonly passed: string;
}

function readBody(framing: Framing, pieces: readonly Buffer[]): Outcome {
  const payload: Buffer[] = [];
  const reader = new BodyReader(framing, payload);
  let count: number | undefined = 0;
  let passed = "";
  for (const piece of pieces) {
    if (reader.done) break;
    const end = orMalformed(() => reader.read(piece, 0));
    if (end === undefined) {
      count = undefined;
      break;
    }
    expect(end).to.be.within(0, piece.length);
    count += end;
    passed += latin1(piece.subarray(0, end));
  }
  return {
    count,
    payload: latin1(Buffer.concat(payload)),
    done: reader.done,
    passed,
  };
}

/** Reads what a connection brings, and remembers it: one line for each request. */
class Reader {
  readonly seen: string[] = [];

  readonly route = (connection: Connection, request: RequestHead): void => {
    const { method, target: path, fields, framing } = request;
    const line = `${method} ${path} ${fields.join("|")}`;
    const reader = framing === 0 ? undefined : new BodyReader(framing);
    let body = "";
    const server: Server = {
      requestBody: (octets) => {
        reader?.read(octets, 0);
        body += latin1(octets);
      },
      requestEnd: () => {
        this.seen.push(`${line} ${body}`);
        connection.link.write("ok");
        connection.finish(true);
      },
      requestBroken: () => {
        this.seen.push(`${line} is broken`);
        connection.cut();
      },
      visitorDrain() {},
      visitorEnd() {},
      visitorGone: () => {
        this.seen.push(`${line} is left`);
      },
      sweep() {},
      windUp() {},
    };
    connection.accept(server, false);
  };
}

/** What is read of a visitor who sends these pieces and ends: the connection is over then, after a turn for each request. */
async function visit(pieces: readonly Buffer[]): Promise<string[]> {
  const reader = new Reader();
  const end = new End();
  new Connection(end.link, checkSettings({}), reader.route, () => undefined);
  end.come(...pieces).end();
  for (let turns = 0; !end.ended && !end.cut; turns++) {
    expect(turns, "turns").to.be.below(1000);
    await settled();
  }
  const refused = /HTTP\/1\.1 (\d+)/.exec(end.text)?.[1];
  end.destroy();
  return [...reader.seen, refused ?? "", String(end.text.split("ok").length)];
}

export const framing = [
  target(
    "a head is read or refused as malformed, and what is read has no octet that ends a line",
    heads,
    (text) => {
      const octets = Buffer.from(text, "latin1");
      const end = headEnd(octets, 0);
      if (end < 0) return;
      const request = orMalformed(() => readRequestHead(octets, 0, end));
      if (request !== undefined) {
        expectClean([request.method, request.target, ...request.fields]);
        expectSame(request);
        const names = request.fields.filter((_, i) => i % 2 === 0);
        const count = (name: string): number =>
          names.filter((one) => one.toLowerCase() === name).length;
        expect(count("host")).to.be.at.most(1);
        expect(
          count("content-length") + count("transfer-encoding"),
        ).to.be.at.most(1);
      }
      for (const method of ["GET", "HEAD"]) {
        const answer = orMalformed(() => readAnswerHead(octets, end, method));
        if (answer === undefined) continue;
        expectClean([answer.reason, ...answer.fields]);
        expect(answer.status).to.be.within(100, 999);
        if (method === "HEAD") expect(answer.framing).to.equal(0);
      }
    },
    2,
  ),
  target(
    "a body is read in one way however it is cut, or refused; nothing behind it is taken, and nothing passed of it ends a line too soon",
    fc.tuple(bodies, cuts),
    ([[kind, text], at]) => {
      const [whole, cut, octets] = [
        readBody(kind, piecesOf(text, [])),
        readBody(kind, piecesOf(text, at)),
        readBody(
          kind,
          [...Buffer.from(text, "latin1")].map((octet) => Buffer.from([octet])),
        ),
      ];
      expect(cut.count).to.equal(octets.count);
      expect(cut.count).to.equal(whole.count);
      if (whole.count === undefined) {
        // However it was cut: what went out before the malformed octet must not look like an end.
        if (kind === "chunked")
          for (const { passed } of [cut, octets])
            expect(looksEnded(passed), passed).to.be.false;
        return;
      }
      expect([cut.payload, octets.payload]).to.deep.equal([
        whole.payload,
        whole.payload,
      ]);
      expect([cut.done, octets.done]).to.deep.equal([whole.done, whole.done]);
      // What follows makes no difference.
      if (whole.done)
        expect(
          readBody(kind, piecesOf(text.slice(0, whole.count), [])),
        ).to.include({ count: whole.count, done: true });
    },
    3,
  ),
  slowTarget(
    "a connection brings the same requests however its octets are cut",
    fc.tuple(requests, cuts),
    async ([text, at]) => {
      const whole = await visit(piecesOf(text, []));
      expect(await visit(piecesOf(text, at))).to.deep.equal(whole);
    },
    3,
  ),
];

/** Whether a reader that takes a bare CR or LF for the end of a line finds the end of a chunked body. */
function looksEnded(passed: string): boolean {
  // Behind the last CR nothing has gone out.
  const text = passed.replace(/\r$/, "");
  const line = /[^\r\n]*(?:\r\n|\r|\n)/y;
  const next = (): string | undefined =>
    line.exec(text)?.[0].replace(/\r?\n?$/, "");
  for (let size = next(); size !== undefined; size = next()) {
    const length = parseInt(size, 16);
    if (Number.isNaN(length)) return false;
    if (length === 0) {
      for (let field = next(); field !== undefined; field = next())
        if (field === "") return true;
      return false;
    }
    const at = line.lastIndex + length;
    if (at > text.length) return false;
    line.lastIndex = at;
    if (next() !== "") return false;
  }
  return false;
}
