// A cookie line: the one line that either side of the generic protocol says first, with its letter, its cookie and a LF.
import type { Link, Receiver } from "../wire/link.ts";

/** A cookie line, its LF included. */
const MAX_LINE_OCTETS = 128;
const LINE_MILLISECONDS = 10 * 1000;
/** How long the other side has to close, and while the relay leaves. */
const CLOSING_MILLISECONDS = 5 * 1000;
const HURRIED_MILLISECONDS = 1000;

const LINE = /^([RI])([0-9a-f-]{36})\r?\n$/;
const LF = 0x0a;

/** What a cookie line says: who comes, and with which cookie. */
export interface Ticket {
  readonly side: "responder" | "initiator";
  readonly cookie: string;
}

/** Called once, with what follows the line. Without a ticket nobody comes, and the line closes the link itself. */
type Done = (ticket: Ticket | undefined, rest: Buffer) => void;

/** Reads one line off a link, within its limits. */
export class CookieLine implements Receiver {
  readonly #link: Link;
  readonly #done: Done;
  readonly #since = performance.now();
  #held = Buffer.alloc(0);
  #over = false;

  constructor(link: Link, done: Done) {
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
    ) {
      this.refuse("line too long");
      return;
    }
    if (end === 0) return;
    const ticket = readTicket(this.#held.toString("latin1", 0, end));
    if (ticket === undefined) this.refuse("invalid cookie");
    else this.#finish(ticket, this.#held.subarray(end));
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

  #finish(ticket: Ticket | undefined, rest = Buffer.alloc(0)): void {
    if (this.#over) return;
    this.#over = true;
    this.#done(ticket, rest);
  }
}

function readTicket(line: string): Ticket | undefined {
  const [, letter, cookie = ""] = LINE.exec(line) ?? [];
  if (letter === undefined) return undefined;
  return { side: letter === "R" ? "responder" : "initiator", cookie };
}

/** Says on a link why nobody is met, and closes it. */
export function refuseLink(link: Link, diagnostic: string): void {
  link.receiver = new Refused(link);
  link.resume();
  link.write(`-ERR ${diagnostic}\n`);
  link.end();
}

/** Waits for the other side of a refused link to close, and not for ever. */
export class Refused implements Receiver {
  readonly #link: Link;
  #deadline: NodeJS.Timeout | undefined;

  constructor(link: Link) {
    this.#link = link;
    this.#wait(CLOSING_MILLISECONDS);
  }

  /** The relay leaves. */
  hurry(): void {
    this.#wait(HURRIED_MILLISECONDS);
  }

  data(): void {}
  end(): void {}
  drain(): void {}

  gone(): void {
    clearTimeout(this.#deadline);
  }

  #wait(milliseconds: number): void {
    clearTimeout(this.#deadline);
    if (this.#link.over) return;
    this.#deadline = setTimeout(() => {
      this.#link.destroy();
    }, milliseconds);
  }
}
