// Requests passed on to the relay one by one, on connections that every visitor shares.
import {
  Agent,
  request as ask,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";

/** Of one connection only (RFC 9110 7.6.1), and what such routers drop with it. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "upgrade",
]);
/** More than the relay takes. */
export const MAX_HEAD_OCTETS = 128 * 1024;
/** How long Heroku's keeps a connection on which nothing is asked. */
const KEPT_MILLISECONDS = 90 * 1000;

export interface Forwarding {
  readonly relayPort: number;
  /** The time to the first octet of an answer, from the end of the request. */
  readonly firstMilliseconds: number;
  /** What the visitor is told when it is over. */
  readonly late: readonly [status: number, reason: string];
  /** The silence after which an exchange that has begun is cut. */
  readonly cutMilliseconds: number;
  /** The fields, by name in lower case, that are written anew on each request, from what came. */
  readonly added: (
    request: IncomingMessage,
  ) => Readonly<Record<string, string>>;
}

/** Fields, name and value by turns, without those of this connection only, and without `also`. */
export function endToEnd(
  fields: readonly string[],
  also: readonly string[] = [],
): string[] {
  const pairs = fields.flatMap((name, index): [string, string][] =>
    index % 2 === 0 ? [[name, fields[index + 1] ?? ""]] : [],
  );
  const named = pairs
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.toLowerCase().split(/\s*,\s*/));
  const dropped = new Set([...HOP_BY_HOP, ...named, ...also]);
  return pairs.filter(([name]) => !dropped.has(name.toLowerCase())).flat();
}

/** An entry at the end of a list field. */
export const append = (list: string | undefined, entry: string): string =>
  list === undefined ? entry : `${list}, ${entry}`;

/** Answers a visitor in the router's own name, and closes. */
export function refuse(
  response: ServerResponse,
  [status, reason]: readonly [status: number, reason: string],
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, reason, {
    "Content-Type": "text/plain",
    Connection: "close",
  });
  response.end(`${reason}\n`);
}

export interface Forwarder {
  /** Passes a request on, with `extra` fields of its own connection; its answer and its body are up to the caller. */
  send(request: IncomingMessage, extra?: readonly string[]): ClientRequest;
  /** Passes a request on, and its answer back. */
  exchange(request: IncomingMessage, response: ServerResponse): void;
  /** Gives an answer that has begun to the visitor. */
  answer(from: IncomingMessage, response: ServerResponse): void;
}

export function createForwarder(
  forwarding: Readonly<Forwarding>,
): Readonly<Forwarder> {
  const { relayPort, cutMilliseconds, firstMilliseconds, late } = forwarding;
  const agent = new Agent({
    keepAlive: true,
    // The one that was used last: as many visitors as can be share it.
    scheduling: "lifo",
    timeout: KEPT_MILLISECONDS,
  });

  function send(
    request: IncomingMessage,
    extra: readonly string[] = [],
  ): ClientRequest {
    const added = forwarding.added(request);
    return ask({
      agent,
      host: "127.0.0.1",
      port: relayPort,
      method: request.method,
      path: request.url,
      maxHeaderSize: MAX_HEAD_OCTETS,
      headers: [
        ...endToEnd(request.rawHeaders, Object.keys(added)),
        ...Object.entries(added).flat(),
        ...extra,
      ],
    });
  }

  function answer(from: IncomingMessage, response: ServerResponse): void {
    const cut = setTimeout(() => {
      from.destroy();
      response.destroy();
    }, cutMilliseconds);
    from.on("data", () => cut.refresh());
    from.on("error", () => response.destroy());
    response.on("drain", () => cut.refresh());
    response.on("close", () => {
      clearTimeout(cut);
      if (!from.complete) from.destroy();
    });
    response.sendDate = false;
    response.writeHead(
      from.statusCode ?? 502,
      from.statusMessage,
      endToEnd(from.rawHeaders),
    );
    // The head is not kept until there is a body.
    response.flushHeaders();
    from.pipe(response);
  }

  function exchange(request: IncomingMessage, response: ServerResponse): void {
    const asked = send(request);
    const silent = setTimeout(() => {
      asked.destroy();
      response.destroy();
    }, cutMilliseconds);
    let waiting: NodeJS.Timeout | undefined;
    const settle = (): void => {
      clearTimeout(silent);
      clearTimeout(waiting);
    };
    asked.on("error", () => {
      settle();
      refuse(response, [503, "Service Unavailable"]);
    });
    asked.on("continue", () => {
      response.writeContinue();
    });
    asked.on("response", (from) => {
      settle();
      answer(from, response);
    });
    response.on("close", () => {
      settle();
      if (!response.writableFinished) asked.destroy();
    });
    request.on("data", () => silent.refresh());
    request.on("end", () => {
      clearTimeout(silent);
      waiting = setTimeout(() => {
        asked.destroy();
        refuse(response, late);
      }, firstMilliseconds);
    });
    asked.flushHeaders();
    request.pipe(asked);
  }

  return { send, exchange, answer };
}
