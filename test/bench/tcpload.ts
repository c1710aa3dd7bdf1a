// The load of the TCP benchmark, a program of its own: opens streams, keeps them busy for some seconds, and prints what came as JSON.
//   tcpload.ts KIND WAY PORT ID CONNECTIONS SECONDS
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import {
  ECHO,
  PING_OCTETS,
  POUR,
  TARGET_PORT,
  type Kind,
  type Way,
} from "./tcpcases.ts";

/** What has come in while all streams were open. */
export interface Counted {
  readonly octets: number;
  readonly seconds: number;
}

const PATH = `/.well-known/masque/tcp`;
/** One buffer for all: what comes is counted, and not kept. */
const sink = Buffer.allocUnsafeSlow(256 * 1024);
const PING = Buffer.alloc(PING_OCTETS, "p");

let octets = 0;

/** The request that opens a stream, and the octets in which one octet of it is wrapped. */
function opening(
  way: Way,
  id: string,
): { request: string; wrap: (octet: string) => Buffer } {
  const port = TARGET_PORT;
  switch (way) {
    case "straight":
      return { request: "", wrap: (octet) => Buffer.from(octet) };
    case "connect":
      return {
        request: `CONNECT ${id}:${port} HTTP/1.1\r\nHost: ${id}:${port}\r\n\r\n`,
        wrap: (octet) => Buffer.from(octet),
      };
    case "connect-tcp":
      return {
        request: `GET ${PATH}/${id}/${port}/ HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nCapsule-Protocol: ?1\r\n\r\n`,
        wrap: (octet) => Buffer.from(`\xa0\x28\xd7\xf2\x01${octet}`, "latin1"),
      };
    case "websocket":
      return {
        request: `GET ${PATH}/${id}/${port}/ HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: connect-tcp\r\n\r\n`,
        // A binary message, masked with zeros.
        wrap: (octet) =>
          Buffer.from(`\x82\x81\x00\x00\x00\x00${octet}`, "latin1"),
      };
  }
}

/** Opens a stream and waits until the service is reached; then start() makes it busy. */
async function open(
  kind: Kind,
  way: Way,
  port: number,
  id: string,
): Promise<{ start: () => void; socket: Socket }> {
  const { request, wrap } = opening(way, id);
  let left = PING_OCTETS;
  let ready = request === "";
  let answered: () => void = () => undefined;
  const answer = new Promise<void>((resolve) => (answered = resolve));
  const socket = connect({
    port,
    host: "127.0.0.1",
    noDelay: true,
    onread: {
      buffer: sink,
      callback(count: number, buffer: Uint8Array): boolean {
        if (!ready) {
          const head = Buffer.from(buffer.subarray(0, count)).toString();
          if (!/^HTTP\/1.1 (200|101) [^]*\r\n\r\n$/.test(head))
            throw new Error(`not opened: ${head}`);
          ready = true;
          answered();
          return true;
        }
        octets += count;
        if (kind === "ping") {
          left -= count;
          if (left <= 0) {
            left = PING_OCTETS;
            socket.write(PING);
          }
        }
        return true;
      },
    },
  });
  await once(socket, "connect");
  if (ready) answered();
  else socket.write(request);
  await answer;
  const start = (): void => {
    socket.write(wrap(kind === "bulk" ? POUR : ECHO));
    if (kind === "ping") socket.write(PING);
  };
  return { start, socket };
}

async function main(): Promise<void> {
  const [kind, way, port, id = "", connections, seconds] =
    process.argv.slice(2);
  const streams = [];
  for (let i = 0; i < Number(connections); i++)
    streams.push(await open(kind as Kind, way as Way, Number(port), id));
  for (const { start } of streams) start();
  const since = performance.now();
  octets = 0;
  await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
  const counted: Counted = {
    octets,
    seconds: (performance.now() - since) / 1000,
  };
  const broken = streams.filter(({ socket }) => socket.destroyed).length;
  if (broken > 0) throw new Error(`${broken} streams broke`);
  console.log(JSON.stringify(counted));
  // Whoever starts this may want to look at the proxy while the streams stand.
  if (process.argv[8] === "stay") await once(process.stdin, "data");
  process.exit(0);
}

await main();
