// A connection to the relay's port: its requests, read one after another and each routed by itself.
import { randomUUID } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { tellFailure, type FailureCode } from "../errors.ts";
import { BodyReader } from "../wire/body.ts";
import {
  Malformed,
  checkPartialHead,
  fieldOf,
  headEnd,
  readRequestHead,
  skipEmptyLines,
  type HeadLimits,
  type RequestHead,
} from "../wire/head.ts";
import type { Link, Receiver } from "../wire/link.ts";
import { Pace, type PaceOptions } from "./pace.ts";
import { goesOnIn } from "./trailer.ts";

/** Routers keep idle connections for 90 s and would run into a shorter limit of ours. */
const IDLE_MILLISECONDS = 95 * 1000;
/** How long the other side has to read the last answer and to close. */
const CLOSING_MILLISECONDS = 5 * 1000;
/** The same while the relay leaves, for whoever got no answer of a hidden server: he does not decide how long that takes. */
const HURRIED_MILLISECONDS = 1000;
/** Octets kept of what cannot be read yet: pipelined requests, the body of one that waits. */
const MAX_HELD_OCTETS = 64 * 1024;

const NOTHING = Buffer.alloc(0);

/** Who serves the request under way. */
export interface Server {
  /** Octets of the body, as they are on the wire, but for trailers that do not go on. */
  requestBody(octets: Buffer): void;
  /** The body is complete. */
  requestEnd(): void;
  /** The body cannot be read any further. */
  requestBroken(problem: Malformed): void;
  /** The visitor has taken what a write() had to leave. */
  visitorDrain(): void;
  /** The visitor will send nothing more, but may still read. */
  visitorEnd(): void;
  /** The visitor has gone. */
  visitorGone(): void;
  /** Time passes; `now` is of the monotonic clock. */
  sweep(now: number): void;
  /** The relay leaves, and waits for nobody on its own account. */
  windUp(): void;
}

/** Holds a request that cannot be served yet: while a token is checked nothing is taken from the connection. */
export const NO_SERVER: Server = {
  requestBody() {},
  requestEnd() {},
  requestBroken() {},
  visitorDrain() {},
  visitorEnd() {},
  visitorGone() {},
  sweep() {},
  windUp() {},
};

export interface ConnectionOptions extends HeadLimits, PaceOptions {
  /** How long a head may take from its first octet to its last. */
  readonly headSeconds: number;
  /** How long somebody may take too little of what was written to him; 0 is for ever. */
  readonly stallSeconds: number;
  /** 0 is no limit. */
  readonly maxRequestsPerConnection: number;
}

/** Decides who serves a request. */
export type Router = (connection: Connection, request: RequestHead) => void;

/**
 * head: a request is awaited or has come in part. held: its server is not ready for the body. body: the server takes it.
 * answer: it is complete. closing: the last answer is out. taken: the link belongs to somebody else.
 */
type Phase = "head" | "held" | "body" | "answer" | "closing" | "taken";

interface Refusal {
  readonly detail?: string | undefined;
  readonly fields?: readonly string[];
  readonly wayOut?: Readonly<{ href: string; text: string }> | undefined;
  /** Reported by the router in front, if it counts; made up otherwise. */
  readonly requestId?: string | undefined;
}

export class Connection implements Receiver {
  readonly link: Link;
  readonly #options: ConnectionOptions;
  readonly #route: Router;
  readonly #closed: (connection: Connection) => void;
  #phase: Phase = "head";
  /** Octets that have come and are not read, from #at on. */
  #held: Buffer = NOTHING;
  #at = 0;
  /** Octets at the beginning of a partial head that have been looked through. */
  #seen = 0;
  #request: RequestHead | undefined;
  #body: BodyReader | undefined;
  #server: Server | undefined;
  #since = performance.now();
  #requests = 0;
  /** Of a visitor who has not taken the last answer yet. */
  #pace: Pace | undefined;
  #running = false;
  /** The next request is in hand already, and is served in the next turn of the event loop. */
  #deferred = false;
  #visitorEnded = false;
  #draining = false;
  /** The relay waits only for what hidden servers have answered. */
  #hurried = false;
  /** Octets of a hidden server may be among those that the visitor has not taken. */
  #hasForeign = false;

  constructor(
    link: Link,
    options: ConnectionOptions,
    route: Router,
    closed: (connection: Connection) => void,
  ) {
    this.link = link;
    this.#options = options;
    this.#route = route;
    this.#closed = closed;
    link.receiver = this;
  }

  /** Octets that came after what has been read. */
  get early(): number {
    return this.#held.length - this.#at;
  }

  /** Whether the connection can go on after the answer to the request under way. */
  get persistent(): boolean {
    const { maxRequestsPerConnection } = this.#options;
    return (
      this.#request?.persistent === true &&
      !this.#draining &&
      (maxRequestsPerConnection === 0 ||
        this.#requests < maxRequestsPerConnection) &&
      (!this.#visitorEnded || this.early > 0)
    );
  }

  /** All of the request under way has been read. */
  get requestRead(): boolean {
    return this.#phase === "answer";
  }

  /** A server has taken the request but not its body. */
  hold(server: Server): void {
    this.#server = server;
    this.#phase = "held";
  }

  /** The server takes the body from now on; requestEnd() follows when it is complete. `isOwn` where the relay itself answers. */
  accept(server: Server, isOwn: boolean): void {
    this.#answerBegins(isOwn);
    this.#server = server;
    this.#phase = "body";
    this.link.resume();
    this.#run();
  }

  /** The request under way has been answered. */
  finish(persistent: boolean): void {
    this.#server = undefined;
    if (!persistent || !this.persistent || !this.requestRead) {
      this.close();
      return;
    }
    this.#phase = "head";
    this.#since = performance.now();
    this.link.resume();
    if (this.early > 0) this.#defer();
    else this.#run();
  }

  /** One request a turn: whoever sends hundreds at once, answered at once, would keep everybody else waiting. */
  #defer(): void {
    this.#deferred = true;
    setImmediate(() => {
      this.#deferred = false;
      if (!this.link.over) this.#run();
    });
  }

  /** Answers the request under way with a failure; nothing of another answer may be out. */
  refuse(code: FailureCode, refusal: Refusal = {}): void {
    const request = this.#request;
    const requestId = refusal.requestId ?? randomUUID();
    const accept =
      request === undefined ? undefined : fieldOf(request.fields, "accept");
    const { detail, wayOut } = refusal;
    const told = tellFailure({
      code,
      detail,
      requestId,
      accept,
      wayOut,
    });
    const own = refusal.fields ?? [];
    // A door's own field stands for the one that the failure has everywhere else.
    const fields = told.fields.filter(
      (_, i) => !own.includes(told.fields[i - (i % 2)] ?? ""),
    );
    this.answer(told.status, [...fields, ...own], told.body, told.reason);
  }

  /** Answers the request under way with a whole document; nothing of another answer may be out. */
  answer(
    status: number,
    fields: readonly string[],
    body: string,
    reason = STATUS_CODES[status] ?? "",
  ): void {
    const request = this.#request;
    // A body that nobody reads is easier to end with its connection than to skip.
    if (request?.framing === 0) this.#phase = "answer";
    const persistent = this.persistent && this.requestRead;
    let head = `HTTP/1.1 ${String(status)} ${reason}\r\nDate: ${new Date().toUTCString()}\r\n`;
    for (let i = 0; i < fields.length; i += 2)
      head += `${fields[i] ?? ""}: ${fields[i + 1] ?? ""}\r\n`;
    // RFC 9110 7.8: who sends Upgrade names it in Connection.
    const hops = fields.includes("Upgrade") ? ["Upgrade"] : [];
    if (!persistent) hops.push("close");
    else if (request?.minor === 0) hops.push("keep-alive");
    if (hops.length > 0) head += `Connection: ${hops.join(", ")}\r\n`;
    head += "\r\n";
    this.#answerBegins(true);
    this.link.write(
      Buffer.from(request?.method === "HEAD" ? head : head + body),
    );
    this.finish(persistent);
  }

  /** Ends the connection after what was written, and lets the other side read it: what still comes is thrown away. */
  close(): void {
    this.#server = undefined;
    this.#phase = "closing";
    this.#since = performance.now();
    this.#held = NOTHING;
    this.#at = 0;
    this.link.resume();
    this.link.end();
  }

  /** Breaks the connection, so that an answer that is out in part is not taken for a whole one. */
  cut(): void {
    this.#server = undefined;
    this.link.reset();
  }

  /** Gives the link to another owner, with the octets that have come early. The connection is over. */
  take(): { link: Link; early: Buffer } {
    const early = this.#held.subarray(this.#at);
    this.#server = undefined;
    this.#phase = "taken";
    this.#held = NOTHING;
    this.#at = 0;
    this.#closed(this);
    return { link: this.link, early };
  }

  /** The request under way, or the next one, is the last: its answer says so, and nobody has sent another for nothing. */
  finishSoon(): void {
    this.#draining = true;
  }

  /** Ends the connection unless an exchange with a hidden server is under way. */
  windUp(): void {
    this.finishSoon();
    this.#hurried = true;
    if (this.#phase === "head") {
      this.#answerBegins(true);
      // A head that has come in part is no request yet, and may be sent again.
      if (this.early === 0) this.close();
      else this.#refuseHead("draining");
    } else this.#server?.windUp();
  }

  #answerBegins(isOwn: boolean): void {
    if (!isOwn) this.#hasForeign = true;
    else if (this.link.backlog === 0) this.#hasForeign = false;
  }

  /** Ends what has lasted too long. */
  sweep(now: number): void {
    const since = now - this.#since;
    if (this.#phase === "closing") this.#sweepClosing(now);
    else if (
      this.#phase === "head" &&
      this.early > 0 &&
      since > this.#options.headSeconds * 1000
    )
      this.#refuseHead("request_timeout");
    else if (this.#phase === "head" && since > IDLE_MILLISECONDS) this.close();
    else this.#server?.sweep(now);
  }

  /** Who still reads the last answer is not cut short, as long as he reads. */
  #sweepClosing(now: number): void {
    const { link } = this;
    const isHurried = this.#hurried && !this.#hasForeign;
    if (link.backlog === 0 || isHurried) {
      const patience = isHurried ? HURRIED_MILLISECONDS : CLOSING_MILLISECONDS;
      if (now - this.#since > patience) link.destroy();
      return;
    }
    this.#since = now;
    this.#pace ??= new Pace(this.#options.stallSeconds, this.#options);
    if (this.#pace.isSlow(true, link.sent - link.backlog, now)) link.destroy();
  }

  drain(): void {
    this.#server?.visitorDrain();
    this.#run();
  }

  data(octets: Buffer): void {
    if (this.#phase === "closing") return;
    if (this.#phase === "head" && this.early === 0)
      this.#since = performance.now();
    this.#held =
      this.early === 0
        ? octets
        : Buffer.concat([this.#held.subarray(this.#at), octets]);
    this.#at = 0;
    this.#run();
    if (this.#phase === "taken") return;
    if (this.early === 0) this.#held = NOTHING;
    // What was put together here is ours already; what came just now is not.
    else if (this.#held === octets || this.#at > 0)
      this.#held = Buffer.from(this.#held.subarray(this.#at));
    this.#at = 0;
    if (this.early > MAX_HELD_OCTETS) this.link.pause();
  }

  end(): void {
    this.#visitorEnded = true;
    if (this.#phase === "head") this.#run();
    else if (this.#phase === "answer") this.#server?.visitorEnd();
    else if (this.#phase !== "closing") {
      // A request that ends before its body does, or a visitor who does not wait for a tunnel any more.
      this.#server?.visitorGone();
      this.close();
    }
  }

  gone(): void {
    this.#server?.visitorGone();
    this.#server = undefined;
    this.#closed(this);
  }

  /** Reads on until octets, the server or the visitor must be waited for. Serving may end in here, and so may the connection. */
  #run(): void {
    if (this.#running) return;
    this.#running = true;
    while (this.#step());
    this.#running = false;
    if (!this.#visitorEnded || this.#deferred) return;
    if (this.#phase === "head" && !this.link.needsDrain) this.close();
    else if (this.#phase === "body" && this.early === 0) {
      // The rest of this body will never come.
      this.#server?.visitorGone();
      this.close();
    }
  }

  #step(): boolean {
    if (this.#phase === "body") return this.#readBody();
    if (this.#phase !== "head" || this.early === 0 || this.#deferred)
      return false;
    // Whoever asks much and reads little waits until he has read.
    if (this.link.needsDrain) return false;
    try {
      return this.#readHead();
    } catch (problem) {
      if (!(problem instanceof Malformed)) throw problem;
      this.#refuseHead(codeOf(problem), problem.message);
      return true;
    }
  }

  #readHead(): boolean {
    this.#at = skipEmptyLines(this.#held, this.#at);
    // The empty line may have come in part.
    const unseen = Math.max(this.#at, this.#seen - 3);
    const end = headEnd(this.#held, unseen);
    if (end < 0) {
      checkPartialHead(this.#held, this.#at, unseen, this.#options);
      this.#seen = this.#held.length - this.#at;
      return false;
    }
    this.#seen = 0;
    const request = readRequestHead(this.#held, this.#at, end, this.#options);
    this.#at = end;
    this.#requests++;
    this.#request = request;
    this.#body =
      request.framing === 0
        ? undefined
        : new BodyReader(request.framing, undefined, goesOnIn(request.hops));
    this.#phase = "held";
    this.#route(this, request);
    return true;
  }

  #readBody(): boolean {
    const body = this.#body;
    if (body !== undefined && !body.done) {
      if (this.early === 0) return false;
      const from = this.#at;
      try {
        this.#at = body.read(this.#held, from);
      } catch (problem) {
        if (!(problem instanceof Malformed)) throw problem;
        this.#phase = "held";
        this.#server?.requestBroken(problem);
        return false;
      }
      this.#server?.requestBody(body.passed(this.#held, from, this.#at));
      return true;
    }
    this.#body = undefined;
    this.#phase = "answer";
    this.#server?.requestEnd();
    return true;
  }

  /** A head that cannot be read: nothing that follows it can be trusted. */
  #refuseHead(code: FailureCode, detail?: string): void {
    this.#request = undefined;
    this.refuse(code, { detail });
  }
}

function codeOf(problem: Malformed): FailureCode {
  switch (problem.status) {
    case 400:
      return "bad_request";
    case 431:
      return "head_too_large";
    case 501:
      return "not_implemented";
    case 505:
      return "http_version";
  }
}
