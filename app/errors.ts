// Every failure that a relay or an agent answers with: the closed table, and how it is put for a program and for a person.
import { createHash } from "node:crypto";
import { STATUS_CODES } from "node:http";

interface Failure {
  readonly status: number;
  /** A sentence or two for the person who reads it: what happened, and what to do next. */
  readonly text: string;
  /** The original protocol's word for it, where its clients know one. */
  readonly diagnostic?: string;
  /** Trying the same again can never succeed (the original's `permanent`). */
  readonly permanent?: true;
  /** Seconds after which trying again may help. */
  readonly retryAfter?: number;
  /** What to log in with, for the statuses that must say so. */
  readonly challenge?: readonly [field: string, value: string];
  /** The error of Proxy-Status (RFC 9209 2.3) that says the same. */
  readonly proxyStatus?: string;
}

/** The closed table. A code is stable: programs may rely on it. */
const FAILURES = {
  // Visiting: the request's own fault.
  bad_request: {
    status: 400,
    text: "The request cannot be read in exactly one way, so it was refused.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  ambiguous_name: {
    status: 400,
    text: "The request names two different hidden servers. Name one.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  bad_authorization: {
    status: 400,
    text: "The Authorization header cannot be read. Send Digest or Basic with the hidden server's id as the user name.",
    diagnostic: "invalid Authorization header",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  name_wanted: {
    status: 401,
    text: "Which hidden server? Log in with its id as the user name; any password will do.",
    proxyStatus: "http_request_denied",
  },
  unknown_server: {
    status: 404,
    text: "No hidden server of this name has been seen here. Check the name, and that its agent is running.",
    diagnostic: "UUID not registered",
    proxyStatus: "destination_not_found",
  },
  not_found: {
    status: 404,
    text: "The relay has no such page, and the request names no hidden server. Add ?rendezvous=ID to name one.",
  },
  request_timeout: {
    status: 408,
    text: "The request did not arrive in time. Send it again.",
    proxyStatus: "http_request_error",
  },
  head_too_large: {
    status: 431,
    text: "The request's head is too large. Send fewer or shorter header fields.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  too_many_requests: {
    status: 429,
    text: "Too many requests have come from this network, or for this hidden server, in the last seconds. Send fewer, and this one again in a second.",
    retryAfter: 1,
    proxyStatus: "connection_limit_reached",
  },
  too_many_connections: {
    status: 503,
    text: "The relay has as many connections as it may, in all or from this network. Close some, or try again soon.",
    retryAfter: 5,
    proxyStatus: "connection_limit_reached",
  },
  not_implemented: {
    status: 501,
    text: "The request uses something that the relay does not speak.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  http_version: {
    status: 505,
    text: "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  // Visiting: the way to the hidden server.
  local_service_down: {
    status: 502,
    text: "The agent is there, but the service behind it does not take connections. Start the service, then try again.",
    retryAfter: 5,
    proxyStatus: "connection_refused",
  },
  bad_answer: {
    status: 502,
    text: "The hidden server's answer cannot be read in exactly one way, or stopped too early.",
    proxyStatus: "http_protocol_error",
  },
  tunnel_lost: {
    status: 502,
    text: "The tunnel to the hidden server broke before it answered. Try again.",
    retryAfter: 1,
    proxyStatus: "connection_terminated",
  },
  server_offline: {
    status: 503,
    text: "The hidden server was here, but none of its tunnels is. Try again soon.",
    retryAfter: 5,
    proxyStatus: "destination_unavailable",
  },
  busy: {
    status: 503,
    text: "All tunnels of the hidden server are taken. Try again soon.",
    retryAfter: 2,
    proxyStatus: "connection_limit_reached",
  },
  too_many_streams: {
    status: 503,
    text: "The hidden server has as many TCP visits and upgraded connections as it may, in all or from this network. Close some, or try again soon.",
    retryAfter: 5,
    proxyStatus: "connection_limit_reached",
  },
  draining: {
    status: 503,
    text: "The relay is restarting. Try again at once.",
    retryAfter: 1,
    proxyStatus: "proxy_internal_response",
  },
  no_answer: {
    status: 504,
    text: "The hidden server did not begin to answer in time.",
    proxyStatus: "http_response_timeout",
  },
  not_offered: {
    status: 403,
    text: "The hidden server does not offer this port. Ask its owner what its agent offers.",
    permanent: true,
    proxyStatus: "destination_ip_prohibited",
  },
  no_web_server: {
    status: 403,
    text: "The hidden server has no web server here, only TCP services. Reach one with `npx rendezvous dial`, or by CONNECT to ID:PORT.",
    permanent: true,
    proxyStatus: "http_request_denied",
  },
  bad_target: {
    status: 400,
    text: "Name the hidden server and a port from 1 to 65535: ID:PORT.",
    permanent: true,
    proxyStatus: "http_request_error",
  },
  upgrade_wanted: {
    status: 426,
    text: "This address is for upgrades: its Upgrade field names them.",
    permanent: true,
    challenge: ["Upgrade", "connect-tcp, websocket"],
    proxyStatus: "http_request_error",
  },
  target_down: {
    status: 502,
    text: "The agent is there, but the service behind this port refuses connections. Start the service, then try again.",
    retryAfter: 5,
    proxyStatus: "connection_refused",
  },
  target_timeout: {
    status: 504,
    text: "The agent is there, but the service behind this port does not accept in time.",
    retryAfter: 5,
    proxyStatus: "connection_timeout",
  },
  loop: {
    status: 508,
    text: "The request has been through this relay before: a hidden server leads back to the relay itself.",
    permanent: true,
    proxyStatus: "proxy_loop_detected",
  },
  grant_wanted: {
    status: 401,
    text: "This hidden server is private. Open the whole link that its owner has made for you, or send its grant as Authorization: Bearer GRANT.",
    challenge: ["WWW-Authenticate", 'Bearer realm="rendezvous"'],
    proxyStatus: "http_request_denied",
  },
  missing_grant: {
    status: 407,
    text: "This hidden server is private. Send the grant that its owner has made for you as Proxy-Authorization: Bearer GRANT.",
    challenge: [
      "Proxy-Authenticate",
      'Bearer realm="rendezvous", Basic realm="rendezvous"',
    ],
    proxyStatus: "http_request_denied",
  },
  grant_refused: {
    status: 403,
    text: "This hidden server is private, and the grant does not allow this. Look whether the link is whole, or ask its owner for another one.",
    permanent: true,
    proxyStatus: "http_request_denied",
  },
  // Parking.
  bad_token: {
    status: 401,
    text: "The token is wrong, too old, or was used before. Make a new one with the id's secret; if that is wrong too, ask the relay's owner for the secret that holds now.",
    diagnostic: "invalid request",
    challenge: ["WWW-Authenticate", 'Bearer realm="rendezvous"'],
    proxyStatus: "http_request_denied",
  },
  too_many_failures: {
    status: 429,
    text: "Too many wrong tokens have come from here or for this id. Wait a minute, then send a right one.",
    retryAfter: 60,
    proxyStatus: "http_request_denied",
  },
  wrong_scheme: {
    status: 403,
    text: "To park here, CONNECT to uuid:ID?response=TOKEN.",
    diagnostic: "invalid protocol, should be uuid:",
    proxyStatus: "http_request_denied",
  },
  bad_id: {
    status: 403,
    text: "This is not an id: one DNS label of a-z, 0-9 and inner hyphens, at most 63 characters.",
    permanent: true,
    proxyStatus: "http_request_denied",
  },
  revoked: {
    status: 403,
    text: "This id has been revoked. Ask the relay's operator for a new one.",
    permanent: true,
    proxyStatus: "http_request_denied",
  },
  missing_token: {
    status: 407,
    text: "The token is missing: put it into the query, response=TOKEN.",
    diagnostic: "missing response parameter",
    challenge: ["Proxy-Authenticate", 'Basic realm="rendezvous"'],
    proxyStatus: "http_request_denied",
  },
  token_wanted: {
    status: 401,
    text: "The token is missing. Send it as Authorization: Bearer TOKEN, or add ?response=TOKEN.",
    challenge: ["WWW-Authenticate", 'Bearer realm="rendezvous"'],
    proxyStatus: "http_request_denied",
  },
  early_data: {
    status: 409,
    text: "Octets came before the answer. Wait for the 200 or the 101 first.",
    diagnostic: "wait for response to CONNECT before sending data",
    proxyStatus: "http_request_error",
  },
  too_many_tunnels: {
    status: 503,
    text: "The relay holds as many tunnels as it may, in all or of this hidden server. Park again when one is free.",
    retryAfter: 10,
    proxyStatus: "connection_limit_reached",
  },
  // Ours.
  internal_error: {
    status: 500,
    text: "Something went wrong in the relay, and has been logged. Try again.",
    retryAfter: 5,
    proxyStatus: "proxy_internal_error",
  },
} as const satisfies Record<string, Failure>;

export type FailureCode = keyof typeof FAILURES;

export const failure = (code: FailureCode): Failure => FAILURES[code];
export const failureCodes = Object.keys(FAILURES) as readonly FailureCode[];

interface Telling {
  readonly code: FailureCode;
  /** What exactly was wrong, where the table's sentence does not say it. Never a secret, never a stack. */
  readonly detail?: string | undefined;
  /** Ties the answer to a line of the log. */
  readonly requestId: string;
  /** The request's Accept: a browser gets a page. */
  readonly accept?: string | undefined;
  /** A link on the page that leads on. */
  readonly wayOut?: Readonly<{ href: string; text: string }> | undefined;
}

/** A failure as a document and the fields that belong to it (RFC 9457, RFC 9209). */
export function tellFailure({
  code,
  detail,
  requestId,
  accept,
  wayOut,
}: Telling): {
  status: number;
  reason: string;
  fields: string[];
  body: string;
} {
  const {
    status,
    text,
    diagnostic,
    permanent,
    retryAfter,
    challenge,
    proxyStatus,
  } = failure(code);
  const reason = STATUS_CODES[status] ?? "Error";
  const words =
    detail === undefined ? text : text.replace(/\.(?= |$)/, ` (${detail}).`);
  const page = accept !== undefined && /\btext\/html\b/i.test(accept);
  const problem = {
    title: reason,
    status,
    detail: words,
    code,
    request_id: requestId,
    error: { permanent: permanent ?? false, diagnostic: diagnostic ?? words },
  };
  const body = page
    ? failurePage(status, reason, words, code, requestId, wayOut)
    : `${JSON.stringify(problem)}\n`;
  const fields = [
    "Content-Type",
    page ? "text/html; charset=utf-8" : "application/problem+json",
    "Content-Length",
    String(Buffer.byteLength(body)),
    "Cache-Control",
    "no-store",
  ];
  if (page)
    fields.push(
      "Content-Security-Policy",
      PAGE_POLICY,
      "X-Content-Type-Options",
      "nosniff",
    );
  if (retryAfter !== undefined) fields.push("Retry-After", String(retryAfter));
  if (challenge !== undefined) fields.push(...challenge);
  if (proxyStatus !== undefined)
    fields.push(
      "Proxy-Status",
      `rendezvous; error=${proxyStatus}; details="${code}"`,
    );
  fields.push("X-Request-Id", requestId);
  return { status, reason, fields, body };
}

/** Makes text harmless inside HTML, attribute values included. */
export function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"']/g,
    (character) => `&#${String(character.charCodeAt(0))};`,
  );
}

const STYLE = `body{font:1.1em/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto;padding:0 1em;color:#222;background:#fff}small{color:#666}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}small{color:#999}a{color:#8bf}}`;

/** How a Content-Security-Policy names the one style that a page has in itself. */
export function styleSource(style: string): string {
  return `'sha256-${createHash("sha256").update(style).digest("base64")}'`;
}

const PAGE_POLICY = `default-src 'none';style-src ${styleSource(STYLE)};frame-ancestors 'none';base-uri 'none';form-action 'none'`;

function failurePage(
  status: number,
  reason: string,
  words: string,
  code: string,
  requestId: string,
  wayOut: Telling["wayOut"],
): string {
  const way =
    wayOut === undefined
      ? ""
      : `<p><a href="${escapeHtml(wayOut.href)}">${escapeHtml(wayOut.text)}</a></p>\n`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${String(status)} ${escapeHtml(reason)}</title>
<style>${STYLE}</style>
<h1>${escapeHtml(reason)}</h1>
<p>${escapeHtml(words)}</p>
${way}<p><small>${String(status)} ${escapeHtml(code)}, request ${escapeHtml(requestId)}</small></p>
</html>
`;
}
