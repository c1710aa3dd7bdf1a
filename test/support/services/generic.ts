// Reads an answer of the generic protocol's registration, and reaches the place that it names; plain sockets, nothing of the project.
import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** One request on a connection of its own: the body of the answer. */
async function ask(relay: string, request: string): Promise<string> {
  const socket = connect(Number(relay.split(":")[1]), relay.split(":")[0]);
  socket.end(
    `${request} HTTP/1.1\r\nHost: ${relay}\r\nConnection: close\r\n\r\n`,
  );
  let answer = "";
  for await (const octets of socket) answer += String(octets);
  return answer.slice(answer.indexOf("\r\n\r\n") + 4);
}

/** Reads octets up to the end of `mark`; those after it stay in the socket. */
async function readTo(socket: Socket, mark: string): Promise<string> {
  let text = "";
  while (!text.endsWith(mark)) {
    const octet = socket.read(1) as Buffer | null;
    if (octet !== null) text += octet.toString("latin1");
    else if (socket.readableEnded) return text;
    else await Promise.race([once(socket, "readable"), once(socket, "end")]);
  }
  return text;
}

/** Registers (PUT) or looks up (GET), goes there plainly or wrapped in CONNECT, sends the cookie line with `more`, and waits for the answer. */
export async function meet(
  relay: string,
  how: string,
  request: string,
  more: string,
): Promise<Socket> {
  const body = await ask(relay, request);
  const { host, port, cookie } = (
    JSON.parse(body) as {
      result: { host: string; port: number; cookie: string };
    }
  ).result;
  const [name = "", at] = how === "wrapped" ? relay.split(":") : [host, port];
  const socket = connect({ host: name, port: Number(at), allowHalfOpen: true });
  if (how === "wrapped") {
    socket.write(`CONNECT ${host}:${port} HTTP/1.1\r\n\r\n`);
    await readTo(socket, "\r\n\r\n");
  }
  await new Promise((sent) => socket.write(`${cookie}\n${more}`, sent));
  console.error(`sent a cookie of ${cookie.slice(0, 1)}`);
  const answer = await readTo(socket, "\n");
  console.error(answer.trimEnd());
  if (!answer.startsWith("+OK")) process.exit(1);
  return socket;
}
