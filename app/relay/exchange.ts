// One HTTP/1.1 exchange on a tunnel: the head in one write, the answer followed to its exact end, the tunnel free the moment that has come.
//   visitor -> connection -> exchange ==tunnel==> hidden server
import type { FailureCode } from "../errors.ts";
import { BodyReader } from "../wire/body.ts";
import {
  Malformed,
  checkPartialHead,
  fieldOf,
  headEnd,
  readAnswerHead,
  type AnswerHead,
  type RequestHead,
} from "../wire/head.ts";
import type { Link, Receiver } from "../wire/link.ts";
import type { Connection, Server } from "./connection.ts";
import { answerHead, type AnswerExtras, type HeadOptions } from "./heads.ts";
import { Pace, type PaceOptions } from "./pace.ts";
import { goesOnIn } from "./trailer.ts";

/** A hidden server has said enough before its answer. */
const MAX_INTERIM_ANSWERS = 100;
/** How long an answer may make a visitor wait for its next octet who has already ended his own direction. */
const HALF_CLOSED_MILLISECONDS = 1000;

/** Methods whose bodies mean nothing (RFC 9110 9.3), so that some servers do not read them. */
const BODILESS_METHODS = new Set(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"]);

/** What the exchange takes place on: a tunnel, or the relay's own pages. */
export interface Carrier {
  readonly link: Link;
  /** It will not carry another exchange. */
  readonly oneShot: boolean;
  /** What came on it before the request; no answer can begin so early. */
  takeEarly?(): Buffer | undefined;
  /** It can carry another exchange now. */
  release(): void;
  /** It cannot, and ends in good order. */
  leave(): void;
  /** Its link has closed. */
  gone(): void;
}

export interface ExchangeOptions extends HeadOptions, PaceOptions {
  readonly answerSeconds: number;
  /** How long a visitor may bring too little of a body that is waited for. */
  readonly bodySeconds: number;
  /** How long he may take too little of an answer; 0 is for ever. */
  readonly stallSeconds: number;
}

/** What the exchange cannot decide by itself. */
export interface ExchangeEvents {
  /** The carrier was lost before the first octet of an answer, and nothing of the body had left. */
  lost(): void;
  /** No answer can be given but this one. */
  failed(code: FailureCode, detail?: string): void;
  /** A 101 came: the two sides are to be spliced, and `done` called when both are done. */
  switched(visitor: Link, hidden: Link, done: () => void): void;
}

export interface ExchangeParts {
  readonly connection: Connection;
  readonly request: RequestHead;
  /** The request's head as it is sent. */
  readonly head: string;
  readonly carrier: Carrier;
  /** What the final answer gets beside its own fields. */
  readonly extras: Omit<AnswerExtras, "minor" | "persistent">;
  readonly options: ExchangeOptions;
  readonly events: ExchangeEvents;
}

/** head: no final answer yet. body: its head is out. answered: it is complete, the request is not. over: nothing more is done here. */
type Phase = "head" | "body" | "answered" | "over";

export class Exchange implements Receiver, Server {
  readonly #parts: ExchangeParts;
  readonly #visitor: Link;
  readonly #tunnel: Link;
  #phase: Phase = "head";
  /** The beginning of an answer's head. */
  #partial: Buffer | undefined;
  #answer: AnswerHead | undefined;
  #body: BodyReader | undefined;
  /** Data out of its chunks, for a visitor who speaks HTTP/1.0. */
  #plain: Buffer[] | undefined;
  /** The visitor's connection goes on afterwards. */
  #persistent = false;
  #bodySent = false;
  /** The answer began before the request was complete. */
  #answeredEarly = false;
  #interim = 0;
  /** An interim answer has said that the tunnel is to close. */
  #lastOne = false;
  #answerOctets = 0;
  /** When something last happened that lets hope for an answer. */
  #since = performance.now();
  /** When the answer last moved on, for a visitor who has ended his direction. */
  #halfClosedSince: number | undefined;
  /** How the visitor sends, and reads; made when an exchange lasts. */
  #sending: Pace | undefined;
  #reading: Pace | undefined;

  constructor(parts: ExchangeParts) {
    this.#parts = parts;
    this.#visitor = parts.connection.link;
    this.#tunnel = parts.carrier.link;
  }

  start(): void {
    this.#tunnel.receiver = this;
    this.#tunnel.write(this.#parts.head);
    this.#parts.connection.accept(this, this.#parts.options.own === true);
    const early = this.#parts.carrier.takeEarly?.();
    if (early !== undefined) this.data(early);
  }

  // What comes from the visitor.

  requestBody(octets: Buffer): void {
    if (this.#phase === "over" || octets.length === 0) return;
    this.#bodySent = true;
    this.#since = performance.now();
    if (!this.#tunnel.write(octets)) this.#visitor.pause();
  }

  requestEnd(): void {
    if (this.#phase === "answered") this.#finish();
  }

  requestBroken(problem: Malformed): void {
    this.#fail("bad_request", problem.message);
  }

  visitorDrain(): void {
    if (this.#phase !== "over") this.#tunnel.resume();
  }

  visitorEnd(): void {
    this.#halfClosedSince = performance.now();
  }

  visitorGone(): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.#tunnel.reset();
    this.#parts.carrier.leave();
  }

  sweep(now: number): void {
    if (this.#phase === "over") return;
    if (
      this.#halfClosedSince !== undefined &&
      now - this.#halfClosedSince > HALF_CLOSED_MILLISECONDS
    ) {
      this.visitorGone();
      this.#parts.connection.cut();
    } else if (this.#readsSlowly(now)) {
      // As if he had gone: what he has not taken by now he does not want.
      this.visitorGone();
      this.#parts.connection.cut();
    } else if (this.#sendsSlowly(now)) {
      if (this.#phase === "answered") this.#finish();
      else this.#fail("request_timeout");
    } else if (
      this.#phase !== "body" &&
      now - this.#since > this.#parts.options.answerSeconds * 1000
    ) {
      // An answer that is complete while its request never ends is no failure of the hidden server.
      if (this.#phase === "answered") this.#finish();
      else this.#fail("no_answer");
    }
  }

  /** A page needs its visitor for a body that has not come, and for octets that he has not taken. */
  windUp(): void {
    const { connection, options } = this.#parts;
    if (options.own !== true) return;
    if (!connection.requestRead || this.#visitor.needsDrain)
      this.#fail("draining");
  }

  /** A body is waited for until the answer has begun; after that both may pause. */
  #sendsSlowly(now: number): boolean {
    const { connection, options } = this.#parts;
    const awaited =
      this.#phase !== "body" &&
      !connection.requestRead &&
      !this.#visitor.paused &&
      !this.#awaitsLeave;
    if (!awaited && this.#sending === undefined) return false;
    this.#sending ??= new Pace(options.bodySeconds, options);
    return this.#sending.isSlow(awaited, this.#visitor.received, now);
  }

  /** Nobody waits for an answer that pauses: only octets that are there and not taken count. */
  #readsSlowly(now: number): boolean {
    const visitor = this.#visitor;
    const awaited = visitor.needsDrain;
    if (!awaited && this.#reading === undefined) return false;
    const { options } = this.#parts;
    this.#reading ??= new Pace(options.stallSeconds, options);
    const taken = visitor.sent - visitor.backlog;
    return this.#reading.isSlow(awaited, taken, now);
  }

  /** He may wait for the hidden server's 100 before he sends anything (RFC 9110 10.1.1). */
  get #awaitsLeave(): boolean {
    const { fields } = this.#parts.request;
    return (
      !this.#bodySent &&
      this.#interim === 0 &&
      fieldOf(fields, "expect") !== undefined
    );
  }

  // What comes from the hidden server.

  data(octets: Buffer): void {
    this.#answerOctets += octets.length;
    if (this.#halfClosedSince !== undefined)
      this.#halfClosedSince = performance.now();
    try {
      if (this.#phase === "body") this.#readBody(octets);
      else if (this.#phase === "head") this.#readHead(octets);
      else if (this.#phase === "answered")
        throw new Malformed("octets came after the answer");
    } catch (problem) {
      if (!(problem instanceof Malformed)) throw problem;
      this.#fail("bad_answer", problem.message);
    }
  }

  end(): void {
    if (this.#phase === "body" && this.#body?.endsWithStream === true)
      this.#answered();
    else if (this.#phase === "answered") this.#finish();
    else if (this.#phase !== "over") this.#lose();
  }

  drain(): void {
    this.#since = performance.now();
    if (this.#phase !== "over") this.#visitor.resume();
  }

  gone(): void {
    this.#parts.carrier.gone();
    if (this.#phase === "answered") this.#finish();
    else if (this.#phase !== "over") this.#lose();
  }

  #readHead(octets: Buffer): void {
    let left =
      this.#partial === undefined
        ? octets
        : Buffer.concat([this.#partial, octets]);
    this.#partial = undefined;
    for (;;) {
      const end = headEnd(left, 0);
      if (end < 0) {
        checkPartialHead(left, 0);
        if (left.length > 0) this.#partial = Buffer.from(left);
        return;
      }
      const answer = readAnswerHead(left, end, this.#parts.request.method);
      left = left.subarray(end);
      if (answer.status === 101) {
        this.#switch(answer, left);
        return;
      }
      if (answer.status >= 200) {
        this.#begin(answer, left);
        return;
      }
      this.#passInterim(answer);
    }
  }

  /** 100, 103 and their like (RFC 9110 15.2): HTTP/1.0 does not know them. */
  #passInterim(answer: AnswerHead): void {
    if (++this.#interim > MAX_INTERIM_ANSWERS)
      throw new Malformed("too many interim answers");
    this.#since = performance.now();
    this.#lastOne ||= !answer.persistent;
    const { request, options } = this.#parts;
    if (request.minor === 0) return;
    if (
      !this.#visitor.write(
        answerHead(answer, { minor: 1, persistent: true }, options),
      )
    )
      this.#tunnel.pause();
  }

  /** The final answer's head, and what came of its body in the same piece. */
  #begin(answer: AnswerHead, octets: Buffer): void {
    const { connection, request, carrier, options, extras } = this.#parts;
    const { minor } = request;
    // HTTP/1.0 has no chunks: its visitors get the data as such, up to the end of the connection.
    if (minor === 0 && answer.framing === "chunked") this.#plain = [];
    this.#body = new BodyReader(
      answer.framing,
      this.#plain,
      goesOnIn(answer.hops),
    );
    const first = this.#takeBody(octets);

    this.#answer = answer;
    this.#answeredEarly = !connection.requestRead;
    const goesOn =
      connection.requestRead || (answer.persistent && !carrier.oneShot);
    this.#persistent =
      connection.persistent &&
      goesOn &&
      answer.framing !== "close" &&
      this.#plain === undefined;
    this.#phase = "body";
    const head = answerHead(
      answer,
      { ...extras, minor, persistent: this.#persistent },
      options,
    );
    if (!this.#visitor.writeJoined(head, first)) this.#tunnel.pause();
    if (this.#body.done) this.#answered();
  }

  #readBody(octets: Buffer): void {
    if (!this.#visitor.write(this.#takeBody(octets))) this.#tunnel.pause();
    if (this.#body?.done === true) this.#answered();
  }

  /** What of these octets the visitor is to have. */
  #takeBody(octets: Buffer): Buffer {
    const body = this.#body;
    const end = body?.read(octets, 0) ?? 0;
    if (end < octets.length)
      throw new Malformed("octets came after the answer");
    return this.#plain === undefined
      ? (body?.passed(octets, 0, end) ?? octets)
      : Buffer.concat(this.#plain.splice(0));
  }

  /** The answer is complete. The tunnel is free once the request is complete too. */
  #answered(): void {
    this.#phase = "answered";
    this.#since = performance.now();
    if (this.#parts.connection.requestRead || !this.#tunnelGoesOn)
      this.#finish();
  }

  get #tunnelGoesOn(): boolean {
    const answer = this.#answer;
    return (
      answer !== undefined &&
      answer.minor === 1 &&
      answer.persistent &&
      !this.#lastOne &&
      answer.framing !== "close" &&
      !this.#parts.carrier.oneShot &&
      !this.#tunnel.ended
    );
  }

  /**
   * Servers exist that leave the body of such a request unread, or answer before they have read one: what they take for
   * the next request is the visitor's, and its answer must not go to anybody else.
   */
  get #mayAnswerTwice(): boolean {
    const { method } = this.#parts.request;
    return (
      this.#answeredEarly || (this.#bodySent && BODILESS_METHODS.has(method))
    );
  }

  #finish(): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    const { connection, carrier } = this.#parts;
    const reusable =
      this.#tunnelGoesOn && connection.requestRead && !this.#mayAnswerTwice;
    // First the tunnel: the visitor's next request may be in hand already.
    if (reusable) carrier.release();
    else carrier.leave();
    connection.finish(this.#persistent);
  }

  /** The tunnel ended or broke before the answer was complete. */
  #lose(): void {
    const { events } = this.#parts;
    if (this.#answerOctets > 0) {
      this.#fail("bad_answer", "it stopped before its end");
      return;
    }
    this.#phase = "over";
    this.#tunnel.destroy();
    this.#parts.carrier.leave();
    if (this.#bodySent) events.failed("tunnel_lost");
    else events.lost();
  }

  #fail(code: FailureCode, detail?: string): void {
    if (this.#phase === "over") return;
    const out = this.#phase !== "head";
    this.#phase = "over";
    this.#tunnel.reset();
    this.#parts.carrier.leave();
    if (out) this.#parts.connection.cut();
    else this.#parts.events.failed(code, detail);
  }

  /** After a 101 the two sides talk as they like. */
  #switch(answer: AnswerHead, octets: Buffer): void {
    const { connection, request, carrier, options, events } = this.#parts;
    if (request.upgrade === undefined || answer.upgrade === undefined)
      throw new Malformed("a 101 came that nobody asked for");
    if (!connection.requestRead)
      throw new Malformed("a 101 came before the request was complete");
    this.#phase = "over";
    const { link, early } = connection.take();
    link.write(answerHead(answer, { minor: 1, persistent: true }, options));
    if (octets.length > 0) link.write(octets);
    if (early.length > 0) this.#tunnel.write(early);
    events.switched(link, this.#tunnel, () => {
      carrier.gone();
    });
  }
}
