// An ordinary request to a relay, and everything about its answer that doctor looks at.
import type { ClientRequest, IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import { serverOf } from "../wire/refusal.ts";
import { openRequest, type Address } from "../wire/outbound.ts";

/** More than any of the relay's pages; a web server that is no relay may have longer ones. */
const MAX_OCTETS = 64 * 1024;

export interface Asking {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly milliseconds: number;
  /** Without CONNECT through the environment's proxy. */
  readonly plainly: boolean;
  /** A body that is begun, and ended only after so many milliseconds. */
  readonly slowBody?: { readonly milliseconds: number };
}

export interface Answer {
  readonly status: number;
  readonly reason: string;
  readonly server: string | undefined;
  readonly location: string | undefined;
  readonly byProxy: boolean;
  readonly text: string;
  /** Milliseconds of the wall clock when the request could leave, and when the answer's head came. */
  readonly leftAt: number;
  readonly cameAt: number;
  /** Milliseconds between the first piece of the body and its end. */
  readonly spread: number;
  /** The answer came before the request was ended. */
  readonly early: boolean;
  readonly secured: Secured | undefined;
}

/** What TLS was agreed on. */
export interface Secured {
  readonly protocol: string;
  /** The name in the certificate, and until when it is valid. */
  readonly name: string;
  readonly until: Date;
}

/** How far an asking has come. */
export type Stage = "connection" | "TLS" | "answer";

/** Nothing came back. */
export class AskError extends Error {
  override readonly name = "AskError";
  readonly stage: Stage;

  constructor(stage: Stage, cause: unknown) {
    super("nothing came back", { cause });
    this.stage = stage;
  }
}

/**
 * Asks once.
 * @throws AskError
 */
export async function ask(address: Address, asking: Asking): Promise<Answer> {
  const { path, headers = {}, plainly, slowBody } = asking;
  const method = slowBody === undefined ? "GET" : "POST";
  try {
    const request = openRequest(address, { method, path, headers }, plainly);
    return await follow(request, address.url.protocol === "https:", asking);
  } catch (error) {
    if (error instanceof AskError) throw error;
    throw new AskError("connection", error);
  }
}

function follow(
  request: ClientRequest,
  isSecure: boolean,
  { milliseconds, slowBody }: Asking,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let stage: Stage = "connection";
    let leftAt = Date.now();
    let byProxy = false;
    const fail = (error: unknown): void => {
      clearTimeout(deadline);
      clearTimeout(ending);
      reject(new AskError(stage, error));
    };
    const deadline = setTimeout(() => {
      fail(new Error(`no answer within ${String(milliseconds / 1000)} s`));
      request.destroy();
    }, milliseconds);
    const ending =
      slowBody === undefined
        ? undefined
        : setTimeout(() => request.end("2\n"), slowBody.milliseconds);
    request.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
      byProxy = statusCode !== 200;
    });
    request.on("socket", (socket) => {
      const ready = (): void => {
        stage = "answer";
        leftAt = Date.now();
      };
      const connected = (): void => {
        if (isSecure) stage = "TLS";
        else ready();
      };
      if (socket.connecting) socket.once("connect", connected);
      else connected();
      socket.once("secureConnect", ready);
    });
    request.on("error", fail);
    request.on("response", (answer) => {
      const cameAt = Date.now();
      const early = !request.writableEnded;
      const secured = securedBy(answer);
      clearTimeout(ending);
      void readBody(answer).then(({ text, spread }) => {
        clearTimeout(deadline);
        request.destroy();
        resolve({
          status: answer.statusCode ?? 0,
          reason: answer.statusMessage ?? "",
          server: serverOf(answer),
          location: answer.headers.location,
          ...{ byProxy, text, leftAt, cameAt, spread, early, secured },
        });
      });
    });
    if (slowBody === undefined) request.end();
    else request.write("1\n");
  });
}

/** Reads until the end, the limit, or whatever breaks it off. */
function readBody(
  answer: IncomingMessage,
): Promise<{ text: string; spread: number }> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let octets = 0;
    let firstAt: number | undefined;
    const done = (): void => {
      const spread = firstAt === undefined ? 0 : performance.now() - firstAt;
      resolve({ text: Buffer.concat(pieces).toString(), spread });
    };
    answer.on("data", (piece: Buffer) => {
      firstAt ??= performance.now();
      pieces.push(piece);
      octets += piece.length;
      if (octets > MAX_OCTETS) done();
    });
    answer.on("end", done).on("close", done);
    answer.on("error", done);
  });
}

function securedBy({ socket }: IncomingMessage): Secured | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const { subject, valid_to: until } = socket.getPeerCertificate() as Partial<
    ReturnType<TLSSocket["getPeerCertificate"]>
  >;
  const name: string | string[] | undefined = subject?.CN;
  return {
    protocol: socket.getProtocol() ?? "unknown",
    name: Array.isArray(name) ? name.join(" ") : (name ?? ""),
    until: new Date(until ?? NaN),
  };
}
