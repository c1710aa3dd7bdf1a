// Asks an agent for a TCP stream: the relay is a connect-tcp client in the tunnel, and the agent the proxy (draft-ietf-httpbis-connect-tcp).
import { failureCodes, type FailureCode } from "../errors.ts";
import {
  CONNECT_TCP,
  DIAL_FIELD,
  FAILURE_FIELD,
  connectTcpPath,
} from "../protocol.ts";
import { CapsulePipe } from "../wire/capsulepipe.ts";
import {
  Malformed,
  checkPartialHead,
  fieldOf,
  headEnd,
  readAnswerHead,
} from "../wire/head.ts";
import { UNOWNED, type Link, type Receiver } from "../wire/link.ts";
import { forwarded, type Client } from "./heads.ts";
import type { Tunnel } from "./tunnel.ts";

/** How asking ends, once. */
export interface AskEvents {
  /** The agent has reached the service. `early` are capsules that came with the answer; they go into take(). */
  reached(pipe: CapsulePipe, early: Buffer): void;
  refused(code: FailureCode, detail?: string): void;
  /** The tunnel was lost before any answer. */
  lost(): void;
}

export interface Question {
  readonly port: number;
  readonly client: Client;
  readonly pseudonym: string;
}

/** One question on a claimed tunnel of our agent. */
export class Ask implements Receiver {
  readonly #tunnel: Tunnel;
  readonly #link: Link;
  readonly #events: AskEvents;
  #partial: Buffer | undefined;
  #over = false;

  constructor(tunnel: Tunnel, question: Question, events: AskEvents) {
    this.#tunnel = tunnel;
    this.#link = tunnel.link;
    this.#events = events;
    this.#link.receiver = this;
    const { port, client, pseudonym } = question;
    this.#link.write(
      `GET ${connectTcpPath("localhost", port)} HTTP/1.1\r\nHost: ${tunnel.id}\r\nConnection: Upgrade\r\nUpgrade: ${CONNECT_TCP}\r\n` +
        `Capsule-Protocol: ?1\r\n${DIAL_FIELD}: ${String(port)}\r\nVia: 1.1 ${pseudonym}\r\n${forwarded(client, undefined)}\r\n`,
    );
  }

  /** Nobody wants the answer any more. */
  giveUp(): void {
    if (this.#over) return;
    this.#over = true;
    this.#link.reset();
    this.#tunnel.leave();
  }

  data(octets: Buffer): void {
    const seen =
      this.#partial === undefined
        ? octets
        : Buffer.concat([this.#partial, octets]);
    this.#partial = undefined;
    try {
      const end = headEnd(seen, 0);
      if (end >= 0) this.#read(seen, end);
      else {
        checkPartialHead(seen, 0);
        this.#partial = Buffer.from(seen);
      }
    } catch (problem) {
      if (!(problem instanceof Malformed)) throw problem;
      this.giveUp();
      this.#events.refused("bad_answer", problem.message);
    }
  }

  end(): void {
    this.gone();
  }

  drain(): void {
    // A question is too short to wait for.
  }

  gone(): void {
    if (this.#link.over) this.#tunnel.gone();
    if (this.#over) return;
    this.giveUp();
    if (this.#partial === undefined) this.#events.lost();
    else this.#events.refused("bad_answer", "it stopped before its end");
  }

  #read(octets: Buffer, end: number): void {
    const answer = readAnswerHead(octets, end, "GET");
    this.#over = true;
    if (
      answer.status === 101 &&
      answer.upgrade?.toLowerCase() === CONNECT_TCP
    ) {
      this.#events.reached(
        new CapsulePipe(this.#link, UNOWNED, true),
        octets.subarray(end),
      );
      return;
    }
    this.#tunnel.leave();
    const told = fieldOf(answer.fields, FAILURE_FIELD.toLowerCase());
    const code = failureCodes.find((known) => known === told);
    // A hidden server that is no agent of ours, or a service that answered in the agent's place.
    this.#events.refused(
      code ?? "not_offered",
      code === undefined ? `it answered ${String(answer.status)}` : undefined,
    );
  }
}
