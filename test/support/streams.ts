// TCP visits by hand: services to reach, requests to reach them with, and capsules in octets.
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import type { Agent } from "../../app/agent/agent.ts";
import type { ParkOptions } from "../../app/agent/options.ts";
import type { RelaySettings } from "../../app/relay/options.ts";
import { connectRaw, type Raw } from "./raw.ts";
import { parkHere, startRelay, type TestRelay } from "./relay.ts";
import { startTcp } from "./tcp.ts";

export const TCP_PATH = "/.well-known/masque/tcp/";
/** The type of a DATA capsule. */
export const DATA = "\xa0\x28\xd7\xf2";
const FINAL_DATA = "\xa0\x28\xd7\xf3";

/** A DATA capsule in latin1; none of 64 octets or more is needed here. */
export const data = (text: string): string =>
  `${DATA}${String.fromCharCode(text.length)}${text}`;
export const final = (text = ""): string =>
  `${FINAL_DATA}${String.fromCharCode(text.length)}${text}`;
/** Type 5, which nobody knows. */
export const unknown = (text: string): string =>
  `\x05${String.fromCharCode(text.length)}${text}`;

export interface Offered {
  readonly relay: TestRelay;
  readonly agent: Agent;
  /** The service's end of the next visit, in the order they come. */
  readonly next: () => Promise<Socket>;
}

/** A relay and the agent of `pi`, which offers a service on port 7. The service does what `serve` says. */
export async function offerService(
  serve: (socket: Socket) => void,
  settings: Partial<RelaySettings> = {},
  options: Partial<ParkOptions> = {},
): Promise<Offered> {
  const relay = await startRelay({ holdSeconds: 0.3, ...settings });
  const came: Socket[] = [];
  const awaited: ((socket: Socket) => void)[] = [];
  const port = await startTcp((socket) => {
    const wanted = awaited.shift();
    if (wanted === undefined) came.push(socket);
    else wanted(socket);
    serve(socket);
  });
  const agent = await parkHere(relay, "pi", (_asked, answer) => answer.end(), {
    tcp: new Map([[7, { host: "127.0.0.1", port }]]),
    ...options,
  });
  const next = async (): Promise<Socket> =>
    came.shift() ?? new Promise((resolve) => awaited.push(resolve));
  return { relay, agent, next };
}

export const echo = (socket: Socket): void => {
  socket.pipe(socket);
};
/** Takes what comes, and says nothing. */
export const listen = (socket: Socket): void => {
  socket.resume();
};

/** The head of a request for a stream by connect-tcp. */
export const connectTcp = (place = "pi/7", more = ""): string =>
  `GET ${TCP_PATH}${place}/ HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nCapsule-Protocol: ?1\r\n${more}\r\n`;
export const connectTo = (place = "pi:7", more = ""): string =>
  `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n${more}\r\n`;

/** A visitor who has sent this. */
export async function visit(
  relay: TestRelay,
  request: string,
  address = "127.0.0.1",
): Promise<Raw> {
  const raw = await connectRaw(relay.port, address);
  return raw.write(request);
}

/** A visitor whose stream stands. */
export async function reach(relay: TestRelay, request: string): Promise<Raw> {
  const raw = await visit(relay, request);
  const head = await raw.take("\r\n\r\n");
  if (!/^HTTP\/1\.1 (?:200|101) /.test(head))
    throw new Error(`no stream: ${head}`);
  return raw;
}

/** What a stream has to say up to its end, or how it was cut. */
export function readAll(socket: Readable): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (octets: Buffer) => (text += octets.toString("latin1")));
    socket.on("end", () => {
      resolve(text);
    });
    socket.on("error", (error) => {
      resolve(`${text}(${"code" in error ? String(error.code) : ""})`);
    });
  });
}
