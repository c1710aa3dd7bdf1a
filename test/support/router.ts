// Routers of a test's own in front of a relay: each does to a request what its test says, and passes octets on afterwards.
import { connect, type Socket } from "node:net";
import type { Way } from "../../app/protocol.ts";
import { startTcp } from "./tcp.ts";

/** How a connection begins: a way through, or a request of any other kind. */
export type Kind = Way | "other";

/**
 * pass: all goes on. hang: the request is never answered. deaf: the answer goes back, but no octet of the client goes on after it.
 * An answer is given instead of the relay's; `head` goes on instead of the client's.
 */
export type Treatment =
  | "pass"
  | "hang"
  | "deaf"
  | { readonly answer: string; readonly stays?: boolean }
  | { readonly head: string };

export interface Router {
  readonly port: number;
  readonly url: string;
  /** How each connection has begun, in their order. */
  readonly asked: Kind[];
  /** Cuts all connections. */
  cut(): void;
}

/** A router in front of a port of this machine. It looks at the first request of each connection only. */
export async function startRouter(
  relay: number,
  treat: (kind: Kind, head: string) => Treatment,
): Promise<Router> {
  const asked: Kind[] = [];
  const sockets = new Set<Socket>();
  const port = await startTcp((client) => {
    sockets.add(client);
    client.on("close", () => sockets.delete(client));
    let seen = "";
    const read = (octets: Buffer): void => {
      seen += octets.toString("latin1");
      const end = seen.indexOf("\r\n\r\n") + 4;
      if (end < 4) return;
      client.off("data", read).pause();
      const head = seen.slice(0, end);
      const kind = kindOf(head);
      asked.push(kind);
      if (end < seen.length)
        client.unshift(Buffer.from(seen.slice(end), "latin1"));
      treatClient(client, relay, head, treat(kind, head));
    };
    client.on("data", read);
  });
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    asked,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** An answer of a router's own. */
export const answerOf = (
  status: string,
  body = "",
  fields = "",
): Treatment => ({
  answer: `HTTP/1.1 ${status}\r\n${fields}Content-Type: text/html\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
});

function kindOf(head: string): Kind {
  if (head.startsWith("CONNECT ")) return "connect";
  const upgrade = /^upgrade: *(\S+)/im.exec(head)?.[1]?.toLowerCase();
  if (upgrade === "websocket") return "websocket";
  return upgrade === undefined ? "other" : "upgrade";
}

function treatClient(
  client: Socket,
  relay: number,
  head: string,
  treatment: Treatment,
): void {
  if (treatment === "hang") {
    client.resume();
    return;
  }
  if (typeof treatment === "object" && "answer" in treatment) {
    client.resume();
    if (treatment.stays === true) client.write(treatment.answer, "latin1");
    else client.end(treatment.answer, "latin1");
    return;
  }
  const server = connect({
    port: relay,
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  server.on("error", () => client.destroy());
  server.on("close", () => client.destroy());
  client.on("close", () => server.destroy());
  server.write(typeof treatment === "object" ? treatment.head : head, "latin1");
  server.pipe(client);
  if (treatment === "deaf") client.resume().on("end", () => server.end());
  else client.pipe(server);
}
