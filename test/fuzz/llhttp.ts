// Node's own parser of HTTP, octet by octet where that matters: the other reader of what our framing accepts.
import { createRequire } from "node:module";

/** What is used of Node's internal binding; every Node from 20 on has it. */
interface Parser {
  [callback: number]: (...told: readonly unknown[]) => unknown;
  initialize(
    kind: number,
    resource: object,
    maxHeaderOctets: number,
    lenient: number,
  ): void;
  execute(octets: Buffer): number | Error;
  finish(): Error | undefined;
  close(): void;
}
interface ParserClass {
  new (): Parser;
  readonly REQUEST: number;
  readonly RESPONSE: number;
  readonly kOnHeaders: number;
  readonly kOnHeadersComplete: number;
  readonly kOnBody: number;
  readonly kOnMessageComplete: number;
}

const require = createRequire(import.meta.url);
const { HTTPParser } = require("_http_common") as {
  readonly HTTPParser: ParserClass;
};

/** More than our own limit, so that ours is the one that counts. */
const MAX_HEADER_OCTETS = 128 * 1024;
/** insecureHTTPParser is off. */
const STRICT = 0;

export interface Head {
  readonly minor: number;
  readonly fields: readonly string[];
  readonly target: string | undefined;
  readonly status: number | undefined;
  readonly reason: string | undefined;
  readonly upgrade: boolean;
  readonly keepAlive: boolean;
}

/** Reads the messages of one connection. What it has found stands in its fields until forget(). */
export class Llhttp {
  head: Head | undefined;
  body = "";
  complete = false;
  error: string | undefined;
  readonly #parser = new HTTPParser();
  /** Fields that came before the end of the head, where there are many. */
  #fields: string[] = [];
  #target = "";

  /** `isBodiless`: the answer is one to HEAD. */
  constructor(kind: "request" | "answer", isBodiless = false) {
    const parser = this.#parser;
    parser.initialize(
      kind === "request" ? HTTPParser.REQUEST : HTTPParser.RESPONSE,
      {},
      MAX_HEADER_OCTETS,
      STRICT,
    );
    parser[HTTPParser.kOnHeaders] = (fields, target) => {
      this.#fields.push(...(fields as string[]));
      this.#target += target as string;
    };
    parser[HTTPParser.kOnHeadersComplete] = (
      _major,
      minor,
      fields,
      _method,
      target,
      status,
      reason,
      upgrade,
      keepAlive,
    ) => {
      this.head = {
        minor: minor as number,
        // Trailers come by the same way later.
        fields: (fields as string[] | undefined) ?? this.#fields.splice(0),
        target: (target as string | undefined) ?? this.#target,
        status: status as number | undefined,
        reason: reason as string | undefined,
        upgrade: upgrade as boolean,
        keepAlive: keepAlive as boolean,
      };
      return isBodiless ? 1 : 0;
    };
    parser[HTTPParser.kOnBody] = (octets) => {
      this.body += (octets as Buffer).toString("latin1");
    };
    parser[HTTPParser.kOnMessageComplete] = () => {
      this.complete = true;
    };
  }

  feed(octets: Buffer): void {
    if (octets.length === 0 || this.error !== undefined) return;
    const read = this.#parser.execute(octets);
    if (typeof read !== "number") this.#fail(read);
  }

  /** The connection ends. */
  finish(): void {
    const error = this.#parser.finish();
    if (error !== undefined) this.#fail(error);
  }

  /** Makes place for the next message. */
  forget(): void {
    this.head = undefined;
    this.body = "";
    this.complete = false;
    this.#fields = [];
    this.#target = "";
  }

  close(): void {
    this.#parser.close();
  }

  #fail(error: Error): void {
    this.error = "reason" in error ? String(error.reason) : error.message;
  }
}
