// What is not HTTP: capsules, WebSocket messages, cookie lines. The same comes out of any pieces, and nothing is thrown.
import { expect } from "chai";
import fc from "fast-check";
import type { WebSocket } from "ws";
import { CookieLine, type Ticket } from "../../app/relay/cookieline.ts";
import {
  CapsuleReader,
  DATA,
  FINAL_DATA,
  MalformedCapsule,
  capsuleHeader,
} from "../../app/wire/capsule.ts";
import { CapsulePipe } from "../../app/wire/capsulepipe.ts";
import type { Receiver } from "../../app/wire/link.ts";
import { WebSocketPipe, acceptWebSocket } from "../../app/wire/websocket.ts";
import { End, settled } from "./end.ts";
import { anyOctets, cuts, latin1, nearly, piecesOf } from "./octets.ts";
import { slowTarget, target } from "./target.ts";

/** Remembers what a pipe told. */
class Ear implements Receiver {
  text = "";
  told: string[] = [];

  data(octets: Buffer): void {
    this.text += latin1(octets);
  }
  end(): void {
    this.told.push("end");
  }
  drain(): void {
    // Nothing is written.
  }
  gone(clean: boolean): void {
    this.told.push(clean ? "closed" : "cut");
  }
}

const payload = fc.constantFrom("", "a", "hello", "\0\xff", "z".repeat(70));
const type = fc.constantFrom(DATA, DATA, DATA, FINAL_DATA, 5, 0, 2 ** 40);
const capsule = fc
  .tuple(type, payload, fc.constantFrom(0, 0, 0, 0, 1, 2 ** 31, 2 ** 53 - 200))
  .map(
    ([kind, text, more]) =>
      latin1(capsuleHeader(kind, text.length + more)) + text,
  );
export const capsules = fc.oneof(
  {
    weight: 6,
    arbitrary: nearly(
      fc.array(capsule, { maxLength: 6 }).map((all) => all.join("")),
    ),
  },
  { weight: 1, arbitrary: anyOctets },
);

interface Read {
  text: string;
  ended: boolean;
  beaten: boolean;
  midway: boolean;
  malformed: boolean;
}

function readCapsules(pieces: readonly Buffer[]): Read {
  let text = "";
  let malformed = false;
  const reader = new CapsuleReader((octets) => (text += latin1(octets)));
  try {
    for (const piece of pieces) reader.read(Buffer.from(piece));
  } catch (problem) {
    if (!(problem instanceof MalformedCapsule)) throw problem;
    malformed = true;
  }
  const { ended, beaten, midway } = reader;
  return { text, ended, beaten, midway: midway && !malformed, malformed };
}

/** The same, written for nothing but to be right (RFC 9297 3.2). */
function readSlowly(octets: Buffer): Read {
  const read: Read = {
    text: "",
    ended: false,
    beaten: false,
    midway: false,
    malformed: false,
  };
  let at = 0;
  const varint = (): bigint | undefined => {
    const first = octets[at];
    if (first === undefined) return undefined;
    const size = [1, 2, 4, 8][first >> 6] ?? 0;
    if (at + size > octets.length) return undefined;
    let value = BigInt(first & 0x3f);
    for (let i = 1; i < size; i++)
      value = value * 256n + BigInt(octets[at + i] ?? 0);
    at += size;
    return value;
  };
  while (at < octets.length) {
    const [kind, length] = [varint(), varint()];
    if (kind === undefined || length === undefined)
      return { ...read, midway: true };
    const isData = kind === BigInt(DATA) || kind === BigInt(FINAL_DATA);
    if (isData && read.ended) return { ...read, malformed: true };
    if (kind === BigInt(DATA) && length === 0n) read.beaten = true;
    const some = octets.subarray(at, at + Number(length));
    at += some.length;
    if (isData) read.text += latin1(some);
    read.midway = BigInt(some.length) < length;
    if (kind === BigInt(FINAL_DATA) && !read.midway) read.ended = true;
  }
  return read;
}

/** Through the pipe that a visitor's capsules come by. */
function pipeCapsules(pieces: readonly Buffer[]): string {
  const end = new End();
  const ear = new Ear();
  const pipe = new CapsulePipe(end.link, ear, true);
  end.come(...pieces).end();
  const seen = [ear.text, ...ear.told, end.cut ? "reset" : ""].join();
  expect(pipe.received).to.equal(ear.text.length);
  end.destroy();
  return seen;
}

const frame = fc
  .record({
    opcode: fc.constantFrom(2, 2, 2, 2, 0, 1, 8, 9, 10, 3),
    fin: fc.constantFrom(true, true, true, false),
    mask: fc.constantFrom(true, true, true, true, true, true, false),
    text: fc.constantFrom(
      "",
      "a",
      "hello",
      "\0\xff",
      "\x03\xe8",
      "z".repeat(130),
    ),
  })
  .map(({ opcode, fin, mask, text }) => {
    const octets = Buffer.from(text, "latin1");
    const key = Buffer.from("\x01\x80\x00\xff", "latin1");
    const masked = mask
      ? octets.map((octet, at) => octet ^ (key[at % 4] ?? 0))
      : octets;
    const long = octets.length < 126 ? [] : [0, octets.length];
    const length = long.length > 0 ? 126 : octets.length;
    return [
      latin1(Buffer.from([(fin ? 0x80 : 0) | opcode])),
      latin1(Buffer.from([(mask ? 0x80 : 0) | length, ...long])),
      mask ? latin1(key) : "",
      latin1(masked),
    ].join("");
  });
export const frames = fc.oneof(
  {
    weight: 6,
    arbitrary: nearly(
      fc.array(frame, { maxLength: 5 }).map((all) => all.join("")),
      2,
    ),
  },
  { weight: 1, arbitrary: anyOctets },
);

const HANDSHAKE = [
  ["Connection", "Upgrade"],
  ["Upgrade", "websocket"],
  ["Sec-WebSocket-Version", "13"],
  ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
  ["Sec-WebSocket-Protocol", "connect-tcp"],
] as const;

/** What a visitor's WebSocket gives. */
async function readFrames(pieces: readonly Buffer[]): Promise<string> {
  const end = new End();
  const ear = new Ear();
  let socket: WebSocket | undefined;
  const handshake = { target: "/", fields: HANDSHAKE.flat() };
  const acceptance = { handshake, protocol: "connect-tcp" };
  acceptWebSocket(end.link, acceptance, Buffer.alloc(0), (accepted) => {
    socket = accepted;
    new WebSocketPipe(accepted, ear);
  });
  end.come(...pieces);
  // It takes one message a turn.
  for (let turn = 0; turn < 30; turn++) await settled();
  const seen = [ear.text, ...ear.told].join();
  socket?.terminate();
  end.destroy();
  await settled();
  expect(ear.told.filter((told) => told !== "end").length).to.equal(1);
  return seen;
}

const field = nearly(
  fc.constantFrom(...HANDSHAKE.map((one) => one.join("\n"))),
);

const cookieLine = fc
  .tuple(
    fc.constantFrom("R", "I", "r", ""),
    fc.uuid(),
    fc.constantFrom("\n", "\r\n", "\r", ""),
    fc.constantFrom("", "hello", "\n", "SSH-2.0-x\r\n", "z".repeat(200)),
  )
  .map((parts) => parts.join(""));

function readLine(pieces: readonly Buffer[]): string {
  const end = new End();
  const tickets: (Ticket | undefined)[] = [];
  let rest = "";
  const line = new CookieLine(end.link, (ticket, early) => {
    tickets.push(ticket);
    rest = latin1(early);
  });
  for (const piece of pieces) {
    // Whoever has the ticket takes what comes next.
    if (tickets[0] === undefined) end.come(piece);
    else rest += latin1(piece);
  }
  expect(tickets.length).to.be.at.most(1);
  line.refuse("over");
  const [ticket] = tickets;
  const met = ticket !== undefined;
  const seen = [
    ticket?.side ?? "nobody",
    ticket?.cookie ?? "",
    met ? rest : "",
    met ? "" : end.text.split("\n")[0],
  ];
  end.destroy();
  return seen.join(" ");
}

export const pipes = [
  target(
    "capsules give the same however they are cut, and what the RFC says",
    fc.tuple(capsules, cuts),
    ([text, at]) => {
      const octets = Buffer.from(text, "latin1");
      const slowly = readSlowly(octets);
      expect(readCapsules([octets])).to.deep.equal(slowly);
      const cut = readCapsules(piecesOf(text, at));
      expect(cut).to.deep.equal(slowly);
      const [whole, pieces] = [
        pipeCapsules([octets]),
        pipeCapsules(piecesOf(text, at)),
      ];
      // What breaks the rules is cut; whether the end before it was told is a matter of pieces.
      if (slowly.malformed)
        for (const told of [whole, pieces])
          expect(told.replace(",end", "")).to.equal(`${slowly.text},reset`);
      else expect(pieces).to.equal(whole);
    },
    2,
  ),
  slowTarget(
    "WebSocket messages give the same however they are cut, and end or break once",
    fc.tuple(frames, cuts),
    async ([text, at]) => {
      const [whole, cut] = await Promise.all([
        readFrames(piecesOf(text, [])),
        readFrames(piecesOf(text, at)),
      ]);
      expect(cut).to.equal(whole);
    },
    2,
  ),
  slowTarget(
    "a WebSocket handshake of any fields is accepted or answered, and nothing is thrown",
    fc.array(field, { maxLength: 7 }),
    async (fields) => {
      const end = new End();
      const pairs = fields.flatMap((text) => {
        const [name = "", value = ""] = text.split(/\n(.*)/s);
        return [name, value];
      });
      let socket: WebSocket | undefined;
      const accepted = acceptWebSocket(
        end.link,
        {
          handshake: { target: "/", fields: pairs },
          protocol: "connect-tcp",
        },
        Buffer.alloc(0),
        (made) => (socket = made),
      );
      await settled();
      expect(end.text).to.match(
        accepted ? /^HTTP\/1\.1 101 / : /^HTTP\/1\.1 4\d\d /,
      );
      socket?.terminate();
      end.destroy();
      await settled();
    },
  ),
  target(
    "a cookie line is read in one way however it is cut, or refused once",
    fc.tuple(nearly(cookieLine), cuts),
    ([text, at]) => {
      const whole = readLine(piecesOf(text, []));
      expect(readLine(piecesOf(text, at))).to.equal(whole);
      if (whole.startsWith("nobody ")) return;
      const [, letter = "", cookie = "", rest = ""] =
        /^([RI])([0-9a-f-]{36})\r?\n([^]*)$/.exec(text) ?? [];
      const side = letter === "R" ? "responder" : "initiator";
      expect(whole).to.equal(`${side} ${cookie} ${rest} `);
    },
  ),
];
