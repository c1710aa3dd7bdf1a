// The rendezvous: a responder waits in the lot like any tunnel, until an initiator with a cookie is joined to it.
//   responder -> R<cookie> -> relay <- I<cookie> <- initiator
import type { Logger } from "pino";
import { UNOWNED, type Link } from "../wire/link.ts";
import type { Pipe } from "../wire/pipe.ts";
import { Ask } from "./ask.ts";
import { refuseLink, type Ticket } from "./cookieline.ts";
import type { Client } from "./heads.ts";
import type { Lot, Standing } from "./lot.ts";
import type { Meeting, Meetings } from "./meetings.ts";
import { network } from "./network.ts";
import type { Streams } from "./streams.ts";
import { Tunnel } from "./tunnel.ts";

/** The port of an agent's tunnel that a generic visitor means. */
export const MEETING_PORT = 80;

const OK = "+OK\n";

export interface RendezvousOptions {
  readonly answerSeconds: number;
  readonly heartbeatSeconds: number;
  readonly pseudonym: string;
}

/** Brings the two sides of a meeting together. */
export class Rendezvous {
  readonly #meetings: Meetings;
  readonly #lot: Lot;
  readonly #streams: Streams;
  readonly #options: RendezvousOptions;
  readonly #log: Logger;
  /** Questions to agents that are not answered, and when they were asked. */
  readonly #asks = new Map<Ask, { at: number; link: Link }>();

  constructor(
    meetings: Meetings,
    lot: Lot,
    streams: Streams,
    options: RendezvousOptions,
    log: Logger,
  ) {
    this.#meetings = meetings;
    this.#lot = lot;
    this.#streams = streams;
    this.#options = options;
    this.#log = log;
  }

  /** Takes a link on which a cookie line was said, and `rest` after it. */
  meet(link: Link, client: Client, ticket: Ticket, rest: Buffer): void {
    if (ticket.side === "responder") this.#respond(link, ticket.cookie, rest);
    else this.#initiate(link, client, ticket.cookie, rest);
  }

  /** Sends the responder of a meeting away, where one waits. */
  dismiss(meeting: Meeting, diagnostic: string): void {
    const { waiting } = meeting;
    if (waiting === undefined || !this.#lot.take(waiting)) return;
    waiting.link.write(`-ERR ${diagnostic}\n`);
    waiting.leave();
  }

  /** Ends the meetings of ids that may not be here any more, and of generations that are over. */
  revoke(standing: Standing): void {
    for (const meeting of this.#meetings.all()) {
      if (standing.generationOf(meeting.id) === meeting.generation) continue;
      this.dismiss(meeting, "revoked");
      this.#meetings.end(meeting);
    }
  }

  /** Gives up questions that were not answered in time. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const [ask, { at, link }] of this.#asks) {
      if (now - at < this.#options.answerSeconds * 1000) continue;
      this.#asks.delete(ask);
      ask.giveUp();
      refuseLink(link, "no answer");
    }
  }

  #respond(link: Link, cookie: string, rest: Buffer): void {
    const meeting = this.#meetings.ofResponder(cookie);
    if (meeting === undefined) {
      refuseLink(link, "not registered");
      return;
    }
    if (this.#lot.refuses(meeting.id) !== undefined) {
      refuseLink(link, "too many tunnels");
      return;
    }
    this.dismiss(meeting, "replaced");
    const tunnel = new Tunnel(link, meeting, false, this.#lot, this.#options, {
      greeting: OK,
      early: rest,
    });
    this.#meetings.seat(meeting, tunnel);
    if (this.#lot.admit(tunnel)) tunnel.open();
  }

  #initiate(link: Link, client: Client, cookie: string, rest: Buffer): void {
    const meeting = this.#meetings.ofInitiator(cookie);
    if (meeting === undefined) {
      refuseLink(link, "not registered");
      return;
    }
    const { id } = meeting;
    const visa = meeting.initiators.get(cookie)?.visa;
    if (
      this.#lot.isPrivate(id) &&
      (visa === undefined ||
        visa.enter({ id, port: MEETING_PORT }) !== undefined)
    ) {
      refuseLink(link, "grant wanted");
      return;
    }
    const guest = { network: network(client.address), isStream: true };
    const refused = this.#lot.refusesVisit(id, guest);
    if (refused !== undefined) {
      // As the failure is called, in the words of this protocol.
      refuseLink(link, refused.replaceAll("_", " "));
      return;
    }
    const tunnel = this.#lot.claimFresh(id, guest);
    if (tunnel === undefined) {
      // The cookie stays good: the responder may be on its way.
      refuseLink(link, "not ready");
      return;
    }
    this.#meetings.spend(meeting, cookie);
    const early = Buffer.from(rest);
    tunnel.claim();
    const join = (hidden: Pipe): void => {
      this.#streams.limit(link, hidden, visa?.until);
      this.#join(link, tunnel, hidden, early);
    };
    if (tunnel.agent) this.#ask(link, client, tunnel, join);
    else join(tunnel.link);
  }

  /** Asks an agent for its HTTP server, in the name of an initiator. */
  #ask(
    link: Link,
    client: Client,
    tunnel: Tunnel,
    join: (hidden: Pipe) => void,
  ): void {
    link.pause();
    const question = {
      port: MEETING_PORT,
      client,
      pseudonym: this.#options.pseudonym,
    };
    const fail = (): void => {
      this.#asks.delete(ask);
      refuseLink(link, "not ready");
    };
    const ask = new Ask(tunnel, question, {
      reached: (pipe, capsules) => {
        this.#asks.delete(ask);
        join(pipe);
        if (capsules.length > 0) tunnel.link.receiver.data(capsules);
      },
      refused: fail,
      lost: fail,
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
}
