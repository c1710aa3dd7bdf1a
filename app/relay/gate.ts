// The gate: how many connections may stand at the relay's ports, in all and of one network, whatever they are for.
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { tellFailure } from "../errors.ts";
import { plainIpv4 } from "../wire/link.ts";
import { network } from "./network.ts";
import { Tally } from "./tally.ts";

/** How long somebody has to read why he is not let in. */
const REFUSED_MILLISECONDS = 1000;
/** So many are told why at once; the others are closed without a word, for they hold a socket meanwhile. */
const MAX_REFUSED = 64;

export interface GateOptions {
  /** 0 is no limit. */
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly trustProxy: number;
}

export class Gate {
  readonly #options: GateOptions;
  /** Connections of each network; each one's close takes it out. */
  readonly #networks = new Tally();
  #count = 0;
  #refused = 0;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** Connections that stand now. */
  get count(): number {
    return this.#count;
  }

  /** Whether one more connection may come in from where this socket comes from. */
  admits(socket: Socket): boolean {
    const { maxConnections, maxConnectionsPerAddress, trustProxy } =
      this.#options;
    if (maxConnections > 0 && this.#count >= maxConnections) return false;
    // Behind a router everybody comes from the router.
    if (maxConnectionsPerAddress === 0 || trustProxy > 0) return true;
    return this.#networks.of(networkOf(socket)) < maxConnectionsPerAddress;
  }

  /** Counts a stream in until it closes; `from` is the network that it comes from. */
  enter(stream: Duplex, from: string): void {
    this.#count++;
    this.#networks.add(from);
    stream.once("close", () => {
      this.#count--;
      this.#networks.take(from);
    });
  }

  /** Tells somebody who is not let in why, as far as there is room for that. Nothing that he says is read. */
  refuse(socket: Socket, answer: string): void {
    socket.on("error", () => undefined);
    if (this.#refused >= MAX_REFUSED || answer === "") {
      socket.destroy();
      return;
    }
    this.#refused++;
    const deadline = setTimeout(() => socket.destroy(), REFUSED_MILLISECONDS);
    socket.once("close", () => {
      this.#refused--;
      clearTimeout(deadline);
    });
    // What he has sent is thrown away: to close before it would take the answer away from him.
    socket.resume().once("end", () => socket.destroy());
    socket.end(answer);
  }
}

/** The network that a socket comes from. */
export function networkOf(socket: Socket): string {
  return network(plainIpv4(socket.remoteAddress ?? ""));
}

/** What somebody is told whose request nobody reads. */
export function refusal(): string {
  const { status, reason, fields, body } = tellFailure({
    code: "too_many_connections",
    requestId: randomUUID(),
  });
  let head = `HTTP/1.1 ${String(status)} ${reason}\r\nDate: ${new Date().toUTCString()}\r\n`;
  for (let i = 0; i < fields.length; i += 2)
    head += `${fields[i] ?? ""}: ${fields[i + 1] ?? ""}\r\n`;
  return `${head}Connection: close\r\n\r\n${body}`;
}
