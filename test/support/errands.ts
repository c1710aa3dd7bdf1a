// Visits of every kind whose every octet is checked on both sides, and the hidden server that they are for.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  createServer,
  request as httpRequest,
  type Agent as HttpAgent,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { Socket, connect, type AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { dial } from "../../app/client/dial.ts";
import { DialError } from "../../app/client/ways.ts";
import type { Way } from "../../app/protocol.ts";
import { afterThisTest } from "./cleanup.ts";
import { wasReset } from "./faults.ts";
import { MarkReader, marksOf } from "./marks.ts";
import { startTcp } from "./tcp.ts";

const PIECE_OCTETS = 16 * 1024;

/** What a hidden server has seen that must not be. */
export interface Ledger {
  readonly port: number;
  /** TCP, for port 7. */
  readonly tcpPort: number;
  /** How often each POST was done. */
  readonly posts: Map<string, number>;
  /** Octets that came and were not sent. */
  readonly wrong: string[];
}

/** The hidden server of an id. An answer is the marks of the id and the visit's own key. */
export async function startLedger(id: string): Promise<Ledger> {
  const posts = new Map<string, number>();
  const wrong: string[] = [];
  const answer = async (
    to: ServerResponse,
    key: string,
    down: number,
    milliseconds: number,
  ): Promise<void> => {
    const next = marksOf(`${id} ${key}`);
    let wake = (): void => undefined;
    for (const event of ["drain", "close"])
      to.on(event, () => {
        wake();
      });
    for (let left = down; left > 0 && !to.destroyed; left -= PIECE_OCTETS) {
      to.write(next(Math.min(left, PIECE_OCTETS)));
      if (to.writableNeedDrain)
        await new Promise<void>((resolve) => (wake = resolve));
      if (milliseconds > 0)
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
    }
    to.end();
  };
  const server = createServer((request, to) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://x");
    const key = searchParams.get("key") ?? "";
    const down = Number(searchParams.get("down"));
    to.on("error", () => undefined);
    to.setHeader("X-Key", `${id} ${key}`);
    if (pathname === "/get") to.setHeader("Content-Length", down);
    if (pathname === "/events")
      to.setHeader("Content-Type", "text/event-stream");
    if (pathname === "/close") {
      to.useChunkedEncodingByDefault = false;
      to.shouldKeepAlive = false;
    }
    if (request.method !== "POST") {
      answer(to, key, down, pathname === "/events" ? 3 : 0).catch(
        () => undefined,
      );
      return;
    }
    const came = new MarkReader(`up ${key}`);
    request.on("error", () => undefined);
    request.on("data", (octets: Buffer) => {
      came.read(octets);
    });
    request.on("end", () => {
      posts.set(key, (posts.get(key) ?? 0) + 1);
      const up = Number(searchParams.get("up"));
      if (!came.isRight || came.count !== up)
        wrong.push(`POST ${key}: ${came.count} of ${up} octets`);
      answer(to, key, down, 0).catch(() => undefined);
    });
  });
  server.on("upgrade", (_request: IncomingMessage, socket: Socket, head) => {
    socket.on("error", () => undefined);
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    if (head.length > 0) socket.unshift(head);
    converse(id, socket, wrong);
  });
  // As short as a service may have it whose tunnels are still used again.
  server.keepAliveTimeout = 5000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  const tcpPort = await startTcp((socket) => {
    converse(id, socket, wrong);
  });
  const { port } = server.address() as AddressInfo;
  return { port, tcpPort, posts, wrong };
}

/** The service's side of a stream: `KEY UP DOWN`, a line feed and so many octets come, so many go back, and the end. */
function converse(id: string, socket: Socket, wrong: string[]): void {
  let line = "";
  let came: MarkReader | undefined;
  let up = 0;
  socket.on("data", (octets: Buffer) => {
    let rest = octets;
    if (came === undefined) {
      const end = octets.indexOf(10);
      line += octets.subarray(0, end < 0 ? octets.length : end).toString();
      if (end < 0) return;
      came = new MarkReader(`up ${line.split(" ")[0] ?? ""}`);
      up = Number(line.split(" ")[1]);
      rest = octets.subarray(end + 1);
    }
    came.read(rest);
    if (!came.isRight || came.count > up)
      wrong.push(`stream ${line}: wrong within ${came.count} octets`);
    if (came.count < up) return;
    const [key = "", , down = "0"] = line.split(" ");
    socket.end(marksOf(`${id} ${key}`)(Number(down)));
  });
  socket.on("end", () => {
    // Whoever ends before all is said is not answered.
    if (came === undefined || came.count < up) socket.destroy();
  });
}

export const KINDS = [
  ...(["get", "chunked", "large", "post", "pipelined", "events"] as const),
  ...(["close", "upgrade", "connect", "connect-tcp", "websocket"] as const),
] as const;
export type Kind = (typeof KINDS)[number];

export interface Errand {
  readonly kind: Kind;
  readonly id: string;
  /** Where requests go, and where CONNECT and upgrades do, which not every router lets through. */
  readonly port: number;
  readonly direct: number;
  /** Numbers from 0 to 1. */
  readonly roll: () => number;
  /** Connections to share. */
  readonly agent: HttpAgent;
  /** How long a visitor waits, in milliseconds. */
  readonly patience: number;
}

/**
 * right: all is as it must be. A code: a problem document. router: a refusal of the router. cut: broken, and seen to be.
 * short: ended early where the end of the connection is the only end. silence: nothing came in time. `wrong ...`: what must never be.
 */
export type Outcome = string;

/** What an answer that is no problem and not right was. */
export class Failed extends Error {}

let count = 0;

/** Runs one errand to its end. */
export async function run(errand: Errand): Promise<Outcome> {
  const key = `${String(count++)}-${randomBytes(8).toString("hex")}`;
  const attempt = attempts[errand.kind];
  let giveUp = (): void => undefined;
  let late: NodeJS.Timeout | undefined;
  const silence = new Promise<Outcome>((resolve) => {
    late = setTimeout(() => {
      giveUp();
      resolve("silence");
    }, errand.patience);
  });
  const began = attempt(errand, key, (how) => (giveUp = how)).catch(
    (error: unknown) => {
      if (error instanceof Failed) return error.message;
      return `wrong: ${String(error)}`;
    },
  );
  const outcome = await Promise.race([began, silence]);
  clearTimeout(late);
  return outcome;
}

type Attempt = (
  errand: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
) => Promise<Outcome>;

const small = (roll: () => number): number => Math.floor(roll() * 3000);
const large = (roll: () => number): number =>
  100_000 + Math.floor(roll() * 400_000);

const attempts: Readonly<Record<Kind, Attempt>> = {
  get: (errand, key, on) => http(errand, key, on, "get", small(errand.roll)),
  chunked: (errand, key, on) =>
    http(errand, key, on, "chunked", small(errand.roll) * 20),
  large: (errand, key, on) => http(errand, key, on, "get", large(errand.roll)),
  events: (errand, key, on) =>
    http(errand, key, on, "events", small(errand.roll) * 20),
  close: untilClose,
  post: (errand, key, on) => {
    const { roll } = errand;
    const up = roll() < 0.3 ? 0 : roll() < 0.7 ? small(roll) : large(roll);
    return http(errand, key, on, "post", small(roll), up);
  },
  pipelined,
  upgrade: (errand, key, on) =>
    stream(
      errand,
      key,
      on,
      `GET /socket?rendezvous=${errand.id} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      "101",
    ),
  connect: (errand, key, on) =>
    stream(errand, key, on, `CONNECT ${errand.id}:7 HTTP/1.1\r\n\r\n`, "200"),
  "connect-tcp": (errand, key, on) => dialled(errand, key, on, "upgrade"),
  websocket: (errand, key, on) => dialled(errand, key, on, "websocket"),
};

function http(
  { port, id, agent, roll }: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
  path: string,
  down: number,
  up?: number,
): Promise<Outcome> {
  const isPost = up !== undefined;
  const shares = roll() < 0.7;
  const request = httpRequest({
    ...{ host: "127.0.0.1", port, agent: shares ? agent : false },
    method: isPost ? "POST" : "GET",
    path: `/${path}?key=${key}&down=${down}&up=${up ?? 0}&rendezvous=${id}`,
    headers: isPost && roll() < 0.5 ? { "Content-Length": up } : {},
  });
  onGiveUp(() => request.destroy());
  if (isPost) {
    const next = marksOf(`up ${key}`);
    for (let left = up; left > 0; left -= PIECE_OCTETS)
      request.write(next(Math.min(left, PIECE_OCTETS)));
  }
  request.end();
  return new Promise((resolve) => {
    request.on("error", () => {
      resolve("cut");
    });
    request.on("response", (answer) => {
      const came = new MarkReader(`${id} ${key}`);
      let text = "";
      answer.on("data", (octets: Buffer) => {
        if (answer.statusCode === 200) came.read(octets);
        else text += octets.toString("latin1");
      });
      answer.on("error", () => {
        resolve(came.isRight ? "cut" : "wrong octets");
      });
      answer.on("end", () => {
        if (!came.isRight) resolve("wrong octets");
        else if (!answer.complete) resolve("cut");
        else if (answer.statusCode !== 200)
          resolve(codeOf(answer.statusCode ?? 0, text));
        else if (answer.headers["x-key"] !== `${id} ${key}`)
          resolve("wrong: another's answer");
        else resolve(judge(came.count, down, false));
      });
    });
  });
}

function judge(came: number, down: number, mayEnd: boolean): Outcome {
  if (came === down) return "right";
  return mayEnd && came < down
    ? "short"
    : `wrong: ${came} of ${down} octets look whole`;
}

/** What an answer that is not 200 says. */
export function codeOf(status: number, text: string): Outcome {
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    if (typeof code === "string") return code;
  } catch {
    if (status >= 500) return "router";
    // What Node's server says to half a head.
    if (status === 400 && text === "") return "service";
  }
  return `wrong: ${status} ${text.slice(0, 60)}`;
}

/** Several requests in one piece, to one id, read in their order. */
async function pipelined(
  { direct, id, roll }: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
): Promise<Outcome> {
  const socket = connect({ port: direct, host: "127.0.0.1" });
  onGiveUp(() => socket.destroy());
  const sizes = Array.from({ length: 4 }, () => small(roll));
  socket.write(
    sizes
      .map(
        (down, n) =>
          `GET /get?key=${key}.${n}&down=${down}&rendezvous=${id} HTTP/1.1\r\nHost: x\r\n${n === 3 ? "Connection: close\r\n" : ""}\r\n`,
      )
      .join(""),
  );
  let outcome: Outcome = "right";
  try {
    const next = new Reader(socket);
    for (const [n, down] of sizes.entries()) {
      const head = (await next.upTo("\r\n\r\n")).toString("latin1");
      const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1]);
      const body = await next.octets(length);
      if (!head.startsWith("HTTP/1.1 200 ")) {
        outcome = codeOf(Number(head.split(" ")[1]), body.toString());
        if (outcome.startsWith("wrong") || /^connection:.*close/im.test(head))
          break;
        continue;
      }
      const came = new MarkReader(`${id} ${key}.${n}`);
      came.read(body);
      if (!came.isRight) throw new Failed("wrong octets");
      if (came.count !== down) throw new Failed(judge(came.count, down, false));
    }
  } finally {
    socket.destroy();
  }
  return outcome;
}

/** An answer that ends with its connection. */
async function untilClose(
  { direct, id, roll }: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
): Promise<Outcome> {
  const socket = connect({ port: direct, host: "127.0.0.1" });
  onGiveUp(() => socket.destroy());
  const down = small(roll) * 20;
  try {
    socket.write(
      `GET /close?key=${key}&down=${down}&rendezvous=${id} HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    const next = new Reader(socket);
    const head = (await next.upTo("\r\n\r\n")).toString("latin1");
    if (!head.startsWith("HTTP/1.1 200 ")) {
      const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? 0);
      return codeOf(
        Number(head.split(" ")[1]),
        (await next.octets(length)).toString(),
      );
    }
    const came = new MarkReader(`${id} ${key}`);
    came.read(await next.toEnd());
    return came.isRight ? judge(came.count, down, true) : "wrong octets";
  } finally {
    socket.destroy();
  }
}

/** A stream that is asked for by a request of one's own. */
async function stream(
  { direct, id, roll }: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
  request: string,
  wanted: string,
): Promise<Outcome> {
  const socket = connect({
    ...{ port: direct, host: "127.0.0.1", allowHalfOpen: true },
  });
  onGiveUp(() => socket.destroy());
  try {
    socket.write(request);
    const next = new Reader(socket);
    const head = (await next.upTo("\r\n\r\n")).toString("latin1");
    if (!head.startsWith(`HTTP/1.1 ${wanted} `)) {
      const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? 0);
      return codeOf(
        Number(head.split(" ")[1]),
        (await next.octets(length)).toString(),
      );
    }
    return await talk(socket, id, key, roll, next.rest());
  } finally {
    socket.destroy();
  }
}

async function dialled(
  { direct, id, roll, patience }: Errand,
  key: string,
  onGiveUp: (giveUp: () => void) => void,
  via: Way,
): Promise<Outcome> {
  const abort = new AbortController();
  onGiveUp(() => {
    abort.abort();
  });
  const late = setTimeout(() => {
    abort.abort();
  }, patience);
  try {
    const relay = `http://127.0.0.1:${direct}`;
    const duplex = await dial({
      ...{ relay, id, port: 7, via },
      signal: abort.signal,
    });
    onGiveUp(() => duplex.destroy());
    const outcome = await talk(duplex, id, key, roll, Buffer.alloc(0));
    duplex.destroy();
    return outcome;
  } catch (error) {
    if (error instanceof Failed) throw error;
    if (error instanceof DialError) return error.code ?? "cut";
    if (abort.signal.aborted) return "silence";
    throw error;
  } finally {
    clearTimeout(late);
  }
}

/** The visitor's side of a stream. */
async function talk(
  socket: Duplex,
  id: string,
  key: string,
  roll: () => number,
  early: Buffer,
): Promise<Outcome> {
  const up = roll() < 0.5 ? small(roll) : large(roll);
  const down = roll() < 0.5 ? small(roll) : large(roll);
  const came = new MarkReader(`${id} ${key}`);
  const over = new Promise<Outcome>((resolve) => {
    socket.on("data", (octets: Buffer) => {
      came.read(octets);
    });
    socket.on("error", () => {
      resolve(came.isRight ? "cut" : "wrong octets");
    });
    socket.on("end", () => {
      if (socket instanceof Socket && wasReset(socket)) resolve("cut");
      resolve(came.isRight ? judge(came.count, down, true) : "wrong octets");
    });
    socket.on("close", () => {
      resolve(came.isRight ? "cut" : "wrong octets");
    });
  });
  came.read(early);
  socket.write(`${key} ${up} ${down}\n`);
  const next = marksOf(`up ${key}`);
  for (let left = up; left > 0 && !socket.destroyed; left -= PIECE_OCTETS)
    socket.write(next(Math.min(left, PIECE_OCTETS)));
  const outcome = await over;
  socket.end();
  return outcome;
}

/** Reads a socket piece by piece; whatever ends it before is a cut. */
export class Reader {
  readonly #socket: Socket;
  #held: Buffer = Buffer.alloc(0);
  #over = false;
  #ended = false;
  #wake = (): void => undefined;
  readonly #take = (octets: Buffer): void => {
    this.#held = Buffer.concat([this.#held, octets]);
    this.#wake();
  };

  constructor(socket: Socket) {
    this.#socket = socket;
    const close = (): void => {
      this.#over = true;
      this.#wake();
    };
    socket.on("data", this.#take).on("error", close).on("close", close);
    socket.on("end", () => {
      this.#ended = !wasReset(socket);
      close();
    });
  }

  upTo(mark: string): Promise<Buffer> {
    return this.#until(() => {
      const at = this.#held.indexOf(mark);
      return at < 0 ? -1 : at + mark.length;
    });
  }

  octets(count: number): Promise<Buffer> {
    return this.#until(() => (this.#held.length >= count ? count : -1));
  }

  toEnd(): Promise<Buffer> {
    return this.#until(() => (this.#ended ? this.#held.length : -1));
  }

  /** An answer with a Content-Length. */
  async answer(): Promise<{ status: number; head: string; body: Buffer }> {
    const head = (await this.upTo("\r\n\r\n")).toString("latin1");
    const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? 0);
    const body = await this.octets(length);
    return { status: Number(head.split(" ")[1]), head, body };
  }

  /** What has come and was not taken; the socket is the caller's again. */
  rest(): Buffer {
    this.#socket.off("data", this.#take);
    return this.#held;
  }

  async #until(find: () => number): Promise<Buffer> {
    for (;;) {
      const count = find();
      if (count >= 0) {
        const taken = this.#held.subarray(0, count);
        this.#held = this.#held.subarray(count);
        return taken;
      }
      if (this.#over) throw new Failed("cut");
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
