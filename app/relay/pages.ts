// The relay's own pages, served by express behind the same exchange as any hidden server: landing page, health, what doctor asks, leaving a server, 404.
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import { duplexPair, type Duplex } from "node:stream";
import express, {
  type ErrorRequestHandler,
  type Request,
  type Response,
} from "express";
import helmet from "helmet";
import type { Logger } from "pino";
import {
  escapeHtml,
  styleSource,
  tellFailure,
  type FailureCode,
} from "../errors.ts";
import { isId } from "../protocol.ts";
import { MAX_HEAD_OCTETS } from "../wire/head.ts";
import { UNOWNED, Link } from "../wire/link.ts";
import { VERSION } from "../version.ts";
import type { Carrier } from "./exchange.ts";
import { cookiePrefix } from "./grants.ts";
import { decidingFields } from "./naming.ts";

/** Pieces of a streamed answer, and how far apart they are: enough to tell a router that keeps them back. */
const PIECES = 5;
const PIECE_MILLISECONDS = 100;

export interface PagesOptions {
  readonly parameter: string;
  readonly baseDomain: string | undefined;
  readonly cookieNaming: boolean;
  readonly trustProxy: number;
  /** Whether the relay is on its way out. */
  readonly draining: () => boolean;
}

/** The pages' own http.Server. It listens nowhere: open() gives it one connection after another. */
export class Pages {
  readonly #server: Server;
  /** The pages' ends of connections; their close takes them out. */
  readonly #open = new Set<Duplex>();
  /** How many entries X-Forwarded-For had on a connection; gone with it. */
  readonly #forwarded = new WeakMap<Duplex, number>();

  constructor(options: PagesOptions, log: Logger) {
    this.#server = createServer(
      { maxHeaderSize: MAX_PAGE_HEAD_OCTETS },
      createApp(
        options,
        (connection) => this.#forwarded.get(connection) ?? 0,
        log,
      ),
    ).on("clientError", refuseUnread);
  }

  /** A connection to the pages, for one exchange; `forwarded` is how many entries its X-Forwarded-For had. */
  open(forwarded: number): Carrier {
    const [near, far]: [Duplex, Duplex] = duplexPair();
    this.#forwarded.set(far, forwarded);
    this.#server.emit("connection", far);
    this.#open.add(far);
    far.once("close", () => this.#open.delete(far));
    // A pair does not tell one side that the other was destroyed (Node 20).
    near.once("close", () => far.destroy());
    const link = new Link(near, UNOWNED);
    const leave = (): void => {
      link.receiver = UNOWNED;
      link.resume();
      link.end();
    };
    return { link, oneShot: true, release: leave, leave, gone() {} };
  }

  /** Connections that are open now. */
  get count(): number {
    return this.#open.size;
  }

  close(): void {
    for (const far of this.#open) far.destroy();
  }
}

/** What the relay takes must be read here too, with the fields that it has added. */
const MAX_PAGE_HEAD_OCTETS = 2 * MAX_HEAD_OCTETS;

/** Node's parser reads less than the relay's: it knows no methods but the registered ones. */
function refuseUnread(error: NodeJS.ErrnoException, stream: Duplex): void {
  const { status, reason, fields, body } = tellFailure({
    code:
      error.code === "HPE_INVALID_METHOD" ? "not_implemented" : "bad_request",
    requestId: randomUUID(),
  });
  let head = `HTTP/1.1 ${String(status)} ${reason}\r\n`;
  for (let i = 0; i < fields.length; i += 2)
    head += `${fields[i] ?? ""}: ${fields[i + 1] ?? ""}\r\n`;
  stream.end(`${head}Connection: close\r\n\r\n${body}`);
}

function createApp(
  options: PagesOptions,
  forwardedOn: (connection: Duplex) => number,
  log: Logger,
): express.Express {
  const app = express();
  // The relay itself writes X-Forwarded-*, so that these can be believed here.
  app.set("trust proxy", true);
  app.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          styleSrc: [styleSource(LANDING_STYLE)],
          frameAncestors: ["'none'"],
          baseUri: ["'none'"],
          formAction: ["'none'"],
        },
      },
      xFrameOptions: { action: "deny" },
      // What holds for the relay's host must not be decided for the hidden servers below it.
      strictTransportSecurity: { includeSubDomains: false },
    }),
  );

  app.get("/", function landing(request, response) {
    const origin = `${request.protocol}://${request.get("host") ?? ""}`;
    // Not every Host makes a URL.
    const shown = URL.canParse(origin)
      ? origin
      : `${request.protocol}://localhost`;
    // With a cookie or a login the same address is a hidden server's.
    response
      .vary(decidingFields(options).join(", "))
      .set("Cache-Control", "private")
      .type("html")
      .send(landingPage(shown, options));
  });
  app.get("/-/health", function health(_request, response) {
    response.set("Cache-Control", "no-store");
    if (options.draining()) response.status(503).json({ status: "draining" });
    else response.json({ status: "ok" });
  });
  app.get("/-/leave", function leave(request, response) {
    const prefix = cookiePrefix(options.parameter);
    const shown = (request.get("cookie") ?? "")
      .split(";")
      .map((pair) => pair.split("=", 1)[0]?.trim() ?? "");
    const grants = shown.filter(
      (name) => name.startsWith(prefix) && isId(name.slice(prefix.length)),
    );
    for (const name of new Set([options.parameter, ...grants]))
      response.clearCookie(name, {
        path: "/",
        httpOnly: true,
        sameSite: "lax",
      });
    response.set("Cache-Control", "no-store").redirect(303, "/");
  });
  app.get("/-/whoami", function whoami(request, response) {
    response.set("Cache-Control", "no-store").json({
      relay: "rendezvous",
      version: VERSION,
      address: request.ip,
      proto: request.protocol,
      host: request.get("host") ?? "",
      forwarded: forwardedOn(request.socket),
      trusted: options.trustProxy,
      now: Date.now(),
    });
  });
  app.get("/-/stream", streamDown);
  app.post("/-/stream", streamUp);
  app.use(function missing(request, response) {
    tell(request, response, "not_found");
  });
  const broken: ErrorRequestHandler = function broken(
    error: unknown,
    request,
    response,
    next,
  ): void {
    if (response.headersSent) {
      next(error);
      return;
    }
    const status =
      typeof error === "object" && error !== null && "status" in error
        ? error.status
        : 500;
    if (status === 400) {
      tell(request, response, "bad_request");
      return;
    }
    const requestId = randomUUID();
    log.error({ err: error, requestId }, "a page failed");
    tell(request, response, "internal_error", requestId);
  };
  app.use(broken);
  return app;
}

/** A few small pieces, one after the other. */
function streamDown(_request: Request, response: Response): void {
  response.set("Cache-Control", "no-store").type("text");
  let sent = 0;
  const send = (): void => {
    sent++;
    if (sent < PIECES) response.write(`${String(sent)}\n`);
    else response.end(`${String(sent)}\n`);
  };
  const timer = setInterval(send, PIECE_MILLISECONDS);
  response.once("close", () => {
    clearInterval(timer);
  });
  response.once("finish", () => {
    clearInterval(timer);
  });
  send();
}

/** Answers the first octets of a body, and does not wait for its end. */
function streamUp(request: Request, response: Response): void {
  const answer = (): void => {
    if (response.headersSent) return;
    response.set("Cache-Control", "no-store").type("text").send("1\n");
  };
  request.once("data", answer).once("end", answer);
}

function tell(
  request: Request,
  response: Response,
  code: FailureCode,
  requestId: string = randomUUID(),
): void {
  const { status, fields, body } = tellFailure({
    code,
    requestId,
    accept: request.get("accept"),
  });
  response.status(status);
  for (let i = 0; i < fields.length; i += 2)
    response.set(fields[i] ?? "", fields[i + 1] ?? "");
  response.end(request.method === "HEAD" ? undefined : body);
}

const LANDING_STYLE = `
body{font:1.1em/1.5 system-ui,sans-serif;max-width:42em;margin:4em auto;padding:0 1em;color:#222;background:#fff}
pre{background:#f2f2f2;padding:.8em 1em;overflow-x:auto;border-radius:.3em}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}}
`;

function landingPage(
  origin: string,
  { parameter, baseDomain }: PagesOptions,
): string {
  const here = new URL(origin);
  const visit =
    baseDomain === undefined
      ? `${origin}/?${parameter}=ID`
      : `${here.protocol}//ID.${baseDomain}${here.port === "" ? "" : `:${here.port}`}/`;
  const park = `npx rendezvous park ${here.protocol}//ID:SECRET@${here.host} 8080`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Rendezvous relay</title>
<style>${LANDING_STYLE}</style>
<h1>Rendezvous relay</h1>
<p>It works. A server behind NAT parks tunnels here, and anybody who names it reaches it.</p>
<h2>Park</h2>
<p>Beside the server, with the id and secret that <code>rendezvous issue</code> printed:</p>
<pre>${escapeHtml(park)}</pre>
<h2>Visit</h2>
<p>From anywhere, with any HTTP client:</p>
<pre>curl '${escapeHtml(visit)}'
curl --proxy ${escapeHtml(origin)} http://ID/</pre>
<h2>Issue</h2>
<p>Whoever runs this relay makes the secret of a new id:</p>
<pre>RELAY_SECRET=... npx rendezvous issue ID --relay ${escapeHtml(origin)}</pre>
</html>
`;
}
