// The generic door, as the original of 2013 speaks it: register, look up, and meet with a cookie line; plain octets afterwards.
//   responder -> R<cookie> -> relay <- I<cookie> <- initiator
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
import { isId } from "../protocol.ts";
import type { RequestHead } from "../wire/head.ts";
import { UNOWNED, type Link, type Receiver } from "../wire/link.ts";
import type { Pipe } from "../wire/pipe.ts";
import { Ask } from "./ask.ts";
import type { Auth } from "./auth.ts";
import { NO_SERVER, type Connection } from "./connection.ts";
import { clientOf } from "./client.ts";
import type { Client } from "./heads.ts";
import type { Lot } from "./lot.ts";
import type { Streams } from "./streams.ts";
import { Tunnel } from "./tunnel.ts";

/** A cookie line, its LF included. */
const MAX_LINE_OCTETS = 128;
const LINE_MILLISECONDS = 10 * 1000;
/** How long a meeting lives that nobody uses. */
const IDLE_MILLISECONDS = 60 * 60 * 1000;
/** Look-ups that one id remembers; the oldest cookie goes first. */
const MAX_INITIATORS = 1024;
/** Places that were handed out with look-ups and are remembered; the oldest goes first. */
const MAX_PLACES = 1024;
/** The port of an agent's tunnel that a generic visitor means. */
const HTTP_PORT = 80;

const OK = "+OK\n";
const LINE = /^([RI])([0-9a-f-]{36})\r?\n$/;
const LF = 0x0a;

export interface GenericOptions {
  readonly answerSeconds: number;
  readonly trustProxy: number;
  readonly heartbeatSeconds: number;
  readonly publicUrl: string | undefined;
  /** The second, plain port, where there is one. */
  readonly genericPort: number | undefined;
  readonly pseudonym: string;
}

/** What two sides need to meet. */
interface Meeting {
  readonly id: string;
  /** The `host:port` that was handed out to the responder, for the CONNECT that comes to it. */
  readonly authority: string | undefined;
  /** The responder's cookie; undefined when the server is parked by CONNECT. */
  readonly responder: string | undefined;
  /** Cookies of those who looked the id up, oldest first. A cookie that was used is taken out. */
  readonly initiators: Set<string>;
  /** The responder that waits; its own end takes it out of the lot. */
  waiting: Tunnel | undefined;
  usedAt: number;
}

/** The generic protocol's registrations, and its rendezvous. */
export class Generic {
  readonly #lot: Lot;
  readonly #auth: Auth;
  readonly #streams: Streams;
  readonly #options: GenericOptions;
  readonly #log: Logger;
  /** Meetings by id: the last registration wins. sweep() removes what is idle. */
  readonly #meetings = new Map<string, Meeting>();
  /** Each `host:port` that look-ups handed out, and when it last was: who looks up may know the relay by another name than the responder. */
  readonly #places = new Map<string, number>();
  /** Links whose cookie line is awaited. */
  readonly #lines = new Set<CookieLine>();
  /** Questions to agents that are not answered, and when they were asked. */
  readonly #asks = new Map<Ask, { at: number; link: Link }>();

  constructor(
    lot: Lot,
    auth: Auth,
    streams: Streams,
    options: GenericOptions,
    log: Logger,
  ) {
    this.#lot = lot;
    this.#auth = auth;
    this.#streams = streams;
    this.#options = options;
    this.#log = log;
  }

  /** Whether a request for the relay's `/` belongs here. */
  wants(request: RequestHead, target: string): boolean {
    const [path, query = ""] = target.split("?", 2);
    if (path !== "/" && path !== "*") return false;
    return request.method === "PUT" || new URLSearchParams(query).has("uuid");
  }

  /** Whether a CONNECT to `authority` comes to meet. */
  isAt(authority: string): boolean {
    const place = authority.toLowerCase();
    if (this.#places.has(place)) return true;
    for (const meeting of this.#meetings.values())
      if (meeting.authority === place) return true;
    return false;
  }

  /** Registers with PUT, looks up with GET. */
  async serve(
    connection: Connection,
    request: RequestHead,
    target: string,
  ): Promise<void> {
    const query = new URLSearchParams(target.split("?", 2)[1] ?? "");
    const uuid = query.get("uuid");
    if (request.method !== "PUT" && request.method !== "GET")
      reply(connection, 405, error(true, "method not allowed"), [
        "Allow",
        "GET, PUT",
      ]);
    else if (uuid === null || uuid === "")
      reply(connection, 404, error(true, "missing uuid parameter"));
    else if (!isId(uuid.toLowerCase()))
      reply(connection, 404, error(true, "invalid uuid parameter"));
    else if (request.method === "GET")
      this.#lookUp(connection, request, uuid.toLowerCase());
    else
      await this.#register(
        connection,
        request,
        uuid.toLowerCase(),
        query.get("response") ?? "",
      );
  }

  /** A CONNECT to the relay's own authority: what follows the 200 is a cookie line. */
  wrapped(connection: Connection, request: RequestHead): void {
    const client = clientOf(request, connection.link, this.#options.trustProxy);
    const { link, early } = connection.take();
    link.write("HTTP/1.1 200 OK\r\n\r\n");
    this.meet(link, client, early);
  }

  /** Awaits a cookie line on a link. */
  meet(link: Link, client: Client, early?: Buffer): void {
    const line = new CookieLine(link, (text, rest) => {
      this.#lines.delete(line);
      if (text !== undefined) this.#rendezvous(link, client, text, rest);
    });
    this.#lines.add(line);
    if (early !== undefined && early.length > 0) line.data(early);
  }

  sweep(now: number): void {
    for (const line of this.#lines) line.sweep(now);
    for (const meeting of this.#meetings.values()) {
      if (now - meeting.usedAt > IDLE_MILLISECONDS)
        this.#meetings.delete(meeting.id);
    }
    for (const [place, usedAt] of this.#places)
      if (now - usedAt > IDLE_MILLISECONDS) this.#places.delete(place);
    for (const [ask, { at, link }] of this.#asks) {
      if (now - at < this.#options.answerSeconds * 1000) continue;
      this.#asks.delete(ask);
      ask.giveUp();
      refuseLink(link, "no answer");
    }
  }

  /** Ends what waits for a cookie line. */
  drain(): void {
    for (const line of this.#lines) line.refuse("restarting");
  }

  async #register(
    connection: Connection,
    request: RequestHead,
    id: string,
    token: string,
  ): Promise<void> {
    const { address } = clientOf(
      request,
      connection.link,
      this.#options.trustProxy,
    );
    const refuse = (code: FailureCode): void => {
      this.#log.info(
        { id, code, client: address },
        "a registration was refused",
      );
      connection.refuse(code);
    };
    if (token === "") {
      refuse("missing_token");
      return;
    }
    connection.hold(NO_SERVER);
    const denied =
      (await this.#auth.refuse(id, token, address)) ?? this.#lot.refuses(id);
    if (connection.link.ended) return;
    if (denied !== undefined) {
      refuse(denied);
      return;
    }
    const former = this.#meetings.get(id);
    if (former?.waiting !== undefined && this.#lot.take(former.waiting)) {
      former.waiting.link.write("-ERR registered again\n");
      former.waiting.leave();
    }
    const place = this.#placeOf(connection, request);
    const responder = randomUUID();
    this.#meetings.set(id, {
      id,
      authority: `${place.host}:${String(place.port)}`,
      responder,
      initiators: new Set(),
      waiting: undefined,
      usedAt: performance.now(),
    });
    reply(connection, 200, { result: { ...place, cookie: `R${responder}` } });
  }

  #lookUp(connection: Connection, request: RequestHead, id: string): void {
    const place = this.#placeOf(connection, request);
    let meeting = this.#meetings.get(id);
    if (meeting === undefined && this.#lot.has(id)) {
      meeting = {
        id,
        authority: undefined,
        responder: undefined,
        initiators: new Set(),
        waiting: undefined,
        usedAt: 0,
      };
      this.#meetings.set(id, meeting);
    }
    if (meeting === undefined) {
      reply(connection, 200, error(false, "not registered"));
      return;
    }
    meeting.usedAt = performance.now();
    this.#remember(`${place.host}:${String(place.port)}`);
    const cookie = randomUUID();
    meeting.initiators.add(cookie);
    for (const oldest of meeting.initiators) {
      if (meeting.initiators.size <= MAX_INITIATORS) break;
      meeting.initiators.delete(oldest);
    }
    reply(connection, 200, { result: { ...place, cookie: `I${cookie}` } });
  }

  #remember(place: string): void {
    this.#places.delete(place);
    this.#places.set(place, performance.now());
    for (const oldest of this.#places.keys()) {
      if (this.#places.size <= MAX_PLACES) break;
      this.#places.delete(oldest);
    }
  }

  /** Where both sides are to come. */
  #placeOf(
    connection: Connection,
    request: RequestHead,
  ): { host: string; port: number } {
    const { publicUrl, genericPort, trustProxy } = this.#options;
    const { proto } = clientOf(request, connection.link, trustProxy);
    const origin = publicUrl ?? `${proto}://${request.host ?? ""}`;
    const url = new URL(URL.canParse(origin) ? origin : "http://localhost");
    const port =
      url.port === ""
        ? url.protocol === "https:"
          ? 443
          : 80
        : Number(url.port);
    return { host: url.hostname, port: genericPort ?? port };
  }

  #rendezvous(link: Link, client: Client, text: string, rest: Buffer): void {
    const [, mode, cookie = ""] = LINE.exec(text) ?? [];
    if (mode === undefined) refuseLink(link, "invalid cookie");
    else if (mode === "R") this.#respond(link, cookie, rest);
    else this.#initiate(link, client, cookie, rest);
  }

  #respond(link: Link, cookie: string, rest: Buffer): void {
    const meeting = this.#find((candidate) => candidate.responder === cookie);
    if (meeting === undefined) {
      refuseLink(link, "not registered");
      return;
    }
    const denied = this.#lot.refuses(meeting.id);
    if (denied !== undefined) {
      refuseLink(link, "too many tunnels");
      return;
    }
    const former = meeting.waiting;
    if (former !== undefined && this.#lot.take(former)) {
      former.link.write("-ERR replaced\n");
      former.leave();
    }
    meeting.usedAt = performance.now();
    const tunnel = new Tunnel(
      link,
      meeting.id,
      false,
      this.#lot,
      this.#options,
      { greeting: OK, early: rest },
    );
    meeting.waiting = tunnel;
    this.#lot.admit(tunnel);
    tunnel.open();
  }

  #initiate(link: Link, client: Client, cookie: string, rest: Buffer): void {
    const meeting = this.#find((candidate) => candidate.initiators.has(cookie));
    if (meeting === undefined) {
      refuseLink(link, "not registered");
      return;
    }
    const tunnel = this.#lot.claimFresh(meeting.id);
    if (tunnel === undefined) {
      // The cookie stays good: the responder may be on its way.
      refuseLink(link, "not ready");
      return;
    }
    meeting.initiators.delete(cookie);
    meeting.usedAt = performance.now();
    const early = Buffer.from(rest);
    tunnel.claim();
    if (!tunnel.agent) {
      this.#join(link, tunnel, tunnel.link, early);
      return;
    }
    link.pause();
    const question = {
      port: HTTP_PORT,
      client,
      pseudonym: this.#options.pseudonym,
    };
    const ask = new Ask(tunnel, question, {
      reached: (pipe, capsules) => {
        this.#asks.delete(ask);
        this.#join(link, tunnel, pipe, early);
        if (capsules.length > 0) tunnel.link.receiver.data(capsules);
      },
      refused: () => {
        this.#asks.delete(ask);
        refuseLink(link, "not ready");
      },
      lost: () => {
        this.#asks.delete(ask);
        refuseLink(link, "not ready");
      },
    });
    this.#asks.set(ask, { at: performance.now(), link });
    link.receiver = {
      ...UNOWNED,
      gone: () => {
        this.#asks.delete(ask);
        ask.giveUp();
      },
    };
  }

  #join(link: Link, tunnel: Tunnel, hidden: Pipe, early: Buffer): void {
    link.write(OK);
    this.#streams.join(link, hidden, (octets) => {
      tunnel.gone();
      this.#log.debug({ id: tunnel.id, ...octets }, "a generic visit is over");
    });
    const kept = tunnel.takeEarly();
    if (kept !== undefined) link.write(kept);
    if (early.length > 0) hidden.write(early);
  }

  #find(matches: (meeting: Meeting) => boolean): Meeting | undefined {
    for (const meeting of this.#meetings.values())
      if (matches(meeting)) return meeting;
    return undefined;
  }
}

/** Reads one line off a link, within its limits. */
class CookieLine implements Receiver {
  readonly #link: Link;
  readonly #done: (text: string | undefined, rest: Buffer) => void;
  readonly #since = performance.now();
  #held = Buffer.alloc(0);
  #over = false;

  constructor(
    link: Link,
    done: (text: string | undefined, rest: Buffer) => void,
  ) {
    this.#link = link;
    this.#done = done;
    link.receiver = this;
  }

  data(octets: Buffer): void {
    if (this.#over) return;
    this.#held = Buffer.concat([this.#held, octets]);
    const end = this.#held.indexOf(LF) + 1;
    if (
      end > MAX_LINE_OCTETS ||
      (end === 0 && this.#held.length >= MAX_LINE_OCTETS)
    )
      this.refuse("line too long");
    else if (end > 0)
      this.#finish(
        this.#held.toString("latin1", 0, end),
        this.#held.subarray(end),
      );
  }

  end(): void {
    this.#finish(undefined);
    this.#link.end();
  }

  drain(): void {
    // Nothing is written before the line.
  }

  gone(): void {
    this.#finish(undefined);
  }

  sweep(now: number): void {
    if (now - this.#since > LINE_MILLISECONDS) this.refuse("no cookie in time");
  }

  refuse(diagnostic: string): void {
    this.#finish(undefined);
    refuseLink(this.#link, diagnostic);
  }

  #finish(text: string | undefined, rest = Buffer.alloc(0)): void {
    if (this.#over) return;
    this.#over = true;
    this.#done(text, rest);
  }
}

/** How long the other side has to close. */
const CLOSING_MILLISECONDS = 5 * 1000;

function refuseLink(link: Link, diagnostic: string): void {
  const deadline = setTimeout(() => {
    link.destroy();
  }, CLOSING_MILLISECONDS);
  link.receiver = {
    ...UNOWNED,
    gone: () => {
      clearTimeout(deadline);
    },
  };
  link.resume();
  link.write(`-ERR ${diagnostic}\n`);
  link.end();
  if (link.over) clearTimeout(deadline);
}

function error(permanent: boolean, diagnostic: string): object {
  return { error: { permanent, diagnostic } };
}

function reply(
  connection: Connection,
  status: number,
  document: object,
  fields: readonly string[] = [],
): void {
  const body = `${JSON.stringify(document)}\n`;
  connection.answer(
    status,
    [
      "Content-Type",
      "application/json",
      "Cache-Control",
      "no-store",
      "Content-Length",
      String(Buffer.byteLength(body)),
      ...fields,
    ],
    body,
  );
}
