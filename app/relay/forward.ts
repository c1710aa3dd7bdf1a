// The visit door: a request that names a hidden server goes out on a tunnel of that server, waiting for one if it must.
//   visitor -> relay ==tunnel==> hidden server
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
import type { Wanted } from "../grant.ts";
import { fieldOf, type RequestHead } from "../wire/head.ts";
import type { Link } from "../wire/link.ts";
import type { Connection, Server } from "./connection.ts";
import { clientOf, requestIdOf, type TrustOptions } from "./client.ts";
import {
  Exchange,
  type ExchangeEvents,
  type ExchangeOptions,
} from "./exchange.ts";
import type { Visa } from "./grants.ts";
import { requestHead, type AnswerExtras, type Client } from "./heads.ts";
import { detailOf, type Lot, type Waiter } from "./lot.ts";
import { decidingFields, type NamedServer } from "./naming.ts";
import { network } from "./network.ts";
import type { Streams } from "./streams.ts";
import type { Tunnel } from "./tunnel.ts";

/** Methods that may be sent twice, for they change nothing (RFC 9110 9.2.1). */
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);
const MAX_ATTEMPTS = 2;

const NO_REFERRER = ["Referrer-Policy", "no-referrer"];

export interface ForwardOptions extends TrustOptions, ExchangeOptions {
  readonly parameter: string;
  readonly cookieNaming: boolean;
}

/** Makes the door; `named` is what naming found in `request`, and `visa` what grants it showed. */
export function createForward(
  lot: Lot,
  streams: Streams,
  options: ForwardOptions,
  log: Logger,
) {
  return function forward(
    connection: Connection,
    request: RequestHead,
    named: NamedServer,
    visa: Visa,
  ): void {
    new Visit(connection, request, named, visa, {
      lot,
      streams,
      options,
      log,
    }).begin();
  };
}

interface Surroundings {
  readonly lot: Lot;
  readonly streams: Streams;
  readonly options: ForwardOptions;
  readonly log: Logger;
}

/** One request on its way: what waits in the lot, and tries again. */
class Visit implements Waiter, Server, ExchangeEvents {
  readonly #connection: Connection;
  readonly #request: RequestHead;
  readonly #named: NamedServer;
  readonly #visa: Visa;
  readonly #wanted: Wanted;
  readonly #around: Surroundings;
  readonly #client: Client;
  readonly needsFresh = false;
  readonly network: string;
  readonly isStream: boolean;
  #attempts = 0;
  /** The tunnel under way had carried an exchange before, so that it may have been closed for idleness. */
  #stale = false;

  constructor(
    connection: Connection,
    request: RequestHead,
    named: NamedServer,
    visa: Visa,
    around: Surroundings,
  ) {
    this.#connection = connection;
    this.#request = request;
    this.#named = named;
    this.#visa = visa;
    const { id, target } = named;
    this.#wanted = { id, method: request.method, target };
    this.#around = around;
    this.#client = clientOf(request, connection.link, around.options);
    this.network = network(this.#client.address);
    this.isStream = request.upgrade !== undefined;
  }

  begin(): void {
    const { lot } = this.#around;
    const code = this.#hasBeenHere
      ? "loop"
      : lot.refusesVisit(this.#named.id, this);
    if (code !== undefined) this.refuse(code, detailOf(code));
    else if (!this.#opensLink()) this.#attempt();
  }

  enters(): boolean {
    const denial = this.#visa.enter(this.#wanted);
    if (denial !== undefined) this.refuse(denial.code, denial.detail);
    return denial === undefined;
  }

  serve(tunnel: Tunnel): void {
    const { options } = this.#around;
    this.#stale = tunnel.used;
    tunnel.claim();
    new Exchange({
      connection: this.#connection,
      request: this.#request,
      head: requestHead(
        this.#request,
        this.#named,
        this.#client,
        tunnel.oneShot,
        options,
      ),
      carrier: tunnel,
      extras: this.#extras(),
      options,
      events: this,
    }).start();
  }

  refuse(code: FailureCode, detail?: string): void {
    const { options, log } = this.#around;
    const { id, by } = this.#named;
    const requestId =
      requestIdOf(this.#request, options.trustProxy) ?? randomUUID();
    log.info(
      { id, code, detail, requestId, client: this.#client.address },
      "a visit failed",
    );
    const wayOut =
      by === "cookie" ? { href: "/-/leave", text: `Leave ${id}` } : undefined;
    const fields = this.#visa.inQuery ? NO_REFERRER : [];
    this.#connection.refuse(code, { detail, requestId, wayOut, fields });
  }

  /** The tunnel died before the first octet of an answer, and no octet of a body is lost. */
  lost(): void {
    // What lacks its body cannot have been done; what has none may have been.
    const isUndone = this.#stale && this.#request.framing !== 0;
    if (this.#attempts < MAX_ATTEMPTS && (isUndone || this.#isSafe))
      this.#attempt();
    else this.refuse("tunnel_lost");
  }

  failed(code: FailureCode, detail?: string): void {
    this.refuse(code, detail);
  }

  switched(visitor: Link, hidden: Link, done: () => void): void {
    const { streams, log } = this.#around;
    const { id } = this.#named;
    streams.limit(visitor, hidden, this.#visa.until);
    streams.join(visitor, hidden, (octets) => {
      done();
      log.debug({ id, ...octets }, "an upgraded connection is over");
    });
  }

  // While the visitor waits nothing of his body is taken.

  requestBody(): void {}
  requestEnd(): void {}
  requestBroken(): void {}
  visitorDrain(): void {}
  windUp(): void {}
  sweep(): void {}

  visitorEnd(): void {
    this.visitorGone();
  }

  visitorGone(): void {
    this.#around.lot.leave(this.#named.id, this);
  }

  #attempt(): void {
    const { lot } = this.#around;
    this.#attempts++;
    const isPrivate = lot.isPrivate(this.#named.id);
    const denial = isPrivate ? this.#visa.refuses(this.#wanted) : undefined;
    if (denial !== undefined) {
      this.refuse(denial.code, denial.detail);
      return;
    }
    const repeatable = this.#attempts === 1 && this.#isSafe;
    const tunnel = lot.claim(this.#named.id, repeatable, this);
    if (tunnel !== undefined) {
      if (isPrivate) this.#visa.enter(this.#wanted);
      this.serve(tunnel);
      return;
    }
    this.#connection.hold(this);
    const code = lot.wait(this.#named.id, this);
    if (code !== undefined) this.refuse(code);
  }

  get #hasBeenHere(): boolean {
    const { fields } = this.#request;
    for (let i = 0; i < fields.length; i += 2) {
      const isVia =
        fields[i]?.length === 3 && fields[i]?.toLowerCase() === "via";
      if (
        isVia &&
        fields[i + 1]?.includes(this.#around.options.pseudonym) === true
      )
        return true;
    }
    return false;
  }

  get #isSafe(): boolean {
    return SAFE_METHODS.has(this.#request.method);
  }

  /** A browser that opens a link keeps its grant in a cookie, and goes on by an address without it. */
  #opensLink(): boolean {
    const { target, method, upgrade } = this.#request;
    if (!this.#visa.inQuery || method !== "GET" || upgrade !== undefined)
      return false;
    // That would lead to another host.
    if (!this.#isNavigation || /^\/[/\\]/.test(target)) return false;
    const secure = this.#client.proto === "https";
    const opened = this.#visa.open(this.#wanted, secure);
    if (opened === undefined) return false;
    const { cookie } = opened;
    const fields = [
      ...["Location", printable(target), "Content-Length", "0"],
      ...["Cache-Control", "no-store", ...NO_REFERRER],
      ...(cookie === undefined ? [] : ["Set-Cookie", cookie]),
    ];
    this.#connection.answer(303, fields, "");
    return true;
  }

  /** What leads the browser back here, and keeps the grant, and what it gave, from others. */
  #extras(): Omit<AnswerExtras, "minor" | "persistent"> {
    const { lot, options } = this.#around;
    const { id, by } = this.#named;
    const isNamed = by !== "authorization" && by !== "cookie";
    const varies = isNamed ? undefined : decidingFields(options);
    return {
      cookie: this.#cookie(),
      lines: this.#visa.inQuery
        ? "Referrer-Policy: no-referrer\r\n"
        : undefined,
      varies,
      // A cache on the way would give the answer to whoever asks next; some do not look at Vary.
      unshared: varies !== undefined || lot.isPrivate(id),
    };
  }

  /** A browser that was led here by the query finds the page's own links by this cookie. */
  #cookie(): string | undefined {
    const { options } = this.#around;
    if (
      !options.cookieNaming ||
      this.#named.by !== "query" ||
      !this.#isNavigation
    )
      return undefined;
    const secure = this.#client.proto === "https" ? "; Secure" : "";
    return `${options.parameter}=${this.#named.id}; Path=/; HttpOnly; SameSite=Lax${secure}`;
  }

  get #isNavigation(): boolean {
    const mode = fieldOf(this.#request.fields, "sec-fetch-mode");
    if (mode !== undefined) return mode === "navigate";
    return /\btext\/html\b/i.test(
      fieldOf(this.#request.fields, "accept") ?? "",
    );
  }
}

/** A target with its octets beyond ASCII percent-encoded. */
function printable(target: string): string {
  return target.replaceAll(
    /[^\x21-\x7e]/g,
    (octet) => `%${octet.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
