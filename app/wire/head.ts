// An HTTP/1.1 head, read strictly: what could be read two ways is refused (RFC 9112 2 to 6, RFC 9110 5).

/** Octets a head may have, the empty line included. Node's own limit is 16 KB, most routers allow 32 to 64 KB. */
export const MAX_HEAD_OCTETS = 64 * 1024;

/** Field lines a head may have. */
export const MAX_FIELDS = 256;

/** How much a request's head may have, where that is less than what can be read. */
export interface HeadLimits {
  readonly maxHeadOctets: number;
  readonly maxHeadFields: number;
}

const LIMITS: HeadLimits = {
  maxHeadOctets: MAX_HEAD_OCTETS,
  maxHeadFields: MAX_FIELDS,
};

/** How the end of a body is found (RFC 9112 6.3): so many octets, by chunks, or by the end of the stream. */
export type Framing = number | "chunked" | "close";

/** A message that is not HTTP/1.1 or that two readers could read in two ways. `status` is what a visitor is told. */
export class Malformed extends Error {
  override readonly name = "Malformed";
  readonly status: 400 | 431 | 501 | 505;

  constructor(message: string, status: 400 | 431 | 501 | 505 = 400) {
    super(message);
    this.status = status;
  }
}

/** What both kinds of head have. Names and values alternate in `fields`, in the order, case and number they came in. */
interface Head {
  readonly minor: 0 | 1;
  readonly fields: readonly string[];
  readonly framing: Framing;
  /** The message's sender wants the connection kept open after it. */
  readonly persistent: boolean;
  /** The value of Upgrade, when Connection names it too. */
  readonly upgrade: string | undefined;
  /** What Connection names, in lower case, for these fields are the sender's and go no further. */
  readonly hops: readonly string[];
}

export interface RequestHead extends Head {
  readonly method: string;
  readonly target: string;
  readonly host: string | undefined;
}

export interface AnswerHead extends Head {
  readonly status: number;
  readonly reason: string;
}

const END = Buffer.from("\r\n\r\n");
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const DIRECTIVE =
  /[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[^"\\]|\\.)*"))?/g;
// An octet has one place in it, so that a value that is none is found out in linear time.
const MEMBER = `[\\t ]*(?:${DIRECTIVE.source}[\\t ]*)?`;
const DIRECTIVES = new RegExp(`^${MEMBER}(?:,${MEMBER})*$`);
const REQUEST_LINE =
  /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP\/(\d\.\d)$/;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/;
const DIGITS = /^\d{1,15}$/;
const HOST =
  /^(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?$/;
// A control octet, a CR without its LF, an LF without its CR.
const FORBIDDEN = /[^\t\r\n\x20-\x7e\x80-\xff]|\r(?!\n)|(?:^|[^\r])\n/;
const SPACE = 0x20;
const TAB = 0x09;
const CR = 0x0d;
const LF = 0x0a;
const NO_HOPS: readonly string[] = [];
// To take one of these away would change where the message goes or where it ends.
const NEVER_A_HOP = new Set(["host", "content-length"]);

const NEVER_A_TRAILER = new Set([
  "host",
  "content-length",
  "transfer-encoding",
]);

/** The index just past the empty line that ends the head, or -1 when it has not come yet. */
export function headEnd(octets: Buffer, from: number): number {
  const at = octets.indexOf(END, from);
  return at < 0 ? -1 : at + END.length;
}

/** The index of the first octet that is not an empty line before a request line (RFC 9112 2.2). */
export function skipEmptyLines(octets: Buffer, from: number): number {
  let at = from;
  while (octets[at] === CR && octets[at + 1] === LF) at += 2;
  return at;
}

/**
 * Looks at the beginning of a head that has not come whole, so that a bad one is refused now and not at its deadline.
 * @throws Malformed on a bare LF and on a head that is too long
 */
export function checkPartialHead(
  octets: Buffer,
  from: number,
  unseen = from,
  limits = LIMITS,
): void {
  if (octets.length - from > limits.maxHeadOctets)
    throw new Malformed("the head is too long", 431);
  for (
    let at = octets.indexOf(LF, unseen);
    at >= 0;
    at = octets.indexOf(LF, at + 1)
  ) {
    if (at === from || octets[at - 1] !== CR)
      throw new Malformed("a line ends without CR LF");
  }
}

/**
 * Reads a request's head: octets `from` to `end`, where `end` is what headEnd() gave.
 * @throws Malformed with the status for the sender
 */
export function readRequestHead(
  octets: Buffer,
  from: number,
  end: number,
  limits = LIMITS,
): RequestHead {
  const text = headText(octets, from, end, limits);
  const lineEnd = endOfLine(text, 0);
  const line = REQUEST_LINE.exec(text.slice(0, lineEnd));
  if (line === null)
    throw new Malformed("the request line is not `method target HTTP/1.1`");
  const [, method = "", target = "", version] = line;
  if (version !== "1.1" && version !== "1.0")
    throw new Malformed("only HTTP/1.1 and HTTP/1.0 are spoken here", 505);
  const minor = version === "1.1" ? 1 : 0;
  const fields = readFields(text, lineEnd + 2, limits);
  const known = readKnown(fields, minor);
  if (known.hosts > 1) throw new Malformed("there is more than one Host");
  if (known.hosts === 0 && minor === 1 && method !== "CONNECT")
    throw new Malformed("there is no Host");
  if (known.host !== undefined && !isHost(known.host))
    throw new Malformed("Host is not a host");
  const framing = known.chunked ? "chunked" : (known.length ?? 0);
  const { host, upgrade, hops } = known;
  // What follows a CONNECT that is refused was not meant to be read as a request.
  const persistent = known.persistent && method !== "CONNECT";
  return {
    method,
    target,
    minor,
    fields,
    host,
    framing,
    persistent,
    upgrade,
    hops,
  };
}

/**
 * Reads an answer's head, as readRequestHead() does for requests. `method` is the request's, for it decides whether there is a body.
 * @throws Malformed; its status means nothing here
 */
export function readAnswerHead(
  octets: Buffer,
  end: number,
  method: string,
): AnswerHead {
  const text = headText(octets, 0, end);
  const lineEnd = endOfLine(text, 0);
  const line = STATUS_LINE.exec(text.slice(0, lineEnd));
  if (line === null)
    throw new Malformed("the status line is not `HTTP/1.1 code reason`");
  const minor = line[1] === "1" ? 1 : 0;
  const status = Number(line[2]);
  const fields = readFields(text, lineEnd + 2);
  const { chunked, length, persistent, upgrade, hops } = readKnown(
    fields,
    minor,
  );
  const bodiless = status < 200 || status === 204;
  if (bodiless && (chunked || (length ?? 0) > 0))
    throw new Malformed(`a ${String(status)} announces a body`);
  const framing =
    bodiless || status === 304 || method === "HEAD"
      ? 0
      : chunked
        ? "chunked"
        : (length ?? "close");
  return {
    status,
    reason: line[3] ?? "",
    minor,
    fields,
    framing,
    persistent,
    upgrade,
    hops,
  };
}

/** Whether text is a token, as names of fields are (RFC 9110 5.6.2). */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** Whether text is a host with or without a port, as Host has it (RFC 9110 7.2). */
export function isHost(text: string): boolean {
  return HOST.test(text);
}

/** The value of the first field of this name (lower case), or undefined. */
export function fieldOf(
  fields: readonly string[],
  name: string,
): string | undefined {
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i]?.toLowerCase() === name) return fields[i + 1];
  }
  return undefined;
}

/**
 * Reads one field line of a trailer section, its CR LF included; gives the field's name.
 * @throws Malformed
 */
export function checkTrailer(text: string): string {
  if (FORBIDDEN.test(text))
    throw new Malformed("the trailer has an octet that no field may have");
  const [name = ""] = readFields(text.slice(0, -2), 0);
  if (NEVER_A_TRAILER.has(name.toLowerCase()))
    throw new Malformed("the trailer has a field that belongs in the head");
  return name;
}

function headText(
  octets: Buffer,
  from: number,
  end: number,
  limits = LIMITS,
): string {
  if (end - from > limits.maxHeadOctets)
    throw new Malformed("the head is too long", 431);
  const text = octets.toString("latin1", from, end - END.length);
  if (FORBIDDEN.test(text))
    throw new Malformed("the head has an octet that no head may have");
  return text;
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf("\r\n", from);
  return end < 0 ? text.length : end;
}

function readFields(text: string, from: number, limits = LIMITS): string[] {
  const fields: string[] = [];
  for (let at = from; at < text.length;) {
    const end = endOfLine(text, at);
    const colon = text.indexOf(":", at);
    if (colon < 0 || colon > end)
      throw new Malformed("a field line has no colon");
    const name = text.slice(at, colon);
    // This also refuses obs-fold and white space before the colon (RFC 9112 5.1, 5.2).
    if (!isToken(name)) throw new Malformed("a field name is not a token");
    if (fields.length === 2 * limits.maxHeadFields)
      throw new Malformed("there are too many fields", 431);
    fields.push(name, trimSpace(text.slice(colon + 1, end)));
    at = end + 2;
  }
  return fields;
}

/** Text without the spaces and tabs around it (OWS, RFC 9110 5.6.3): to trim() other octets would be white space too. */
export function trimSpace(text: string): string {
  let first = 0;
  let last = text.length;
  while (first < last && isSpace(text.charCodeAt(first))) first++;
  while (last > first && isSpace(text.charCodeAt(last - 1))) last--;
  return text.slice(first, last);
}

function isSpace(code: number): boolean {
  return code === SPACE || code === TAB;
}

/** The fields that decide where a message goes, where it ends, and what becomes of the connection. */
function readKnown(fields: readonly string[], minor: 0 | 1) {
  let hosts = 0;
  let host: string | undefined;
  let length: number | undefined;
  let chunked = false;
  let upgrade: string | undefined;
  let hops = NO_HOPS;
  for (let i = 0; i < fields.length; i += 2) {
    const value = fields[i + 1] ?? "";
    switch (fields[i]?.toLowerCase()) {
      case "host":
        hosts++;
        host = value;
        break;
      case "content-length":
        if (length !== undefined)
          throw new Malformed("there is more than one Content-Length");
        if (!DIGITS.test(value))
          throw new Malformed("Content-Length is not a number");
        length = Number(value);
        break;
      case "transfer-encoding":
        if (chunked)
          throw new Malformed("there is more than one Transfer-Encoding");
        if (value.toLowerCase() !== "chunked")
          throw new Malformed(
            "the only transfer coding known here is chunked",
            501,
          );
        chunked = true;
        break;
      case "connection":
        hops = hops.concat(readList(value));
        break;
      case "upgrade":
        upgrade = upgrade === undefined ? value : `${upgrade}, ${value}`;
        break;
      default:
    }
  }
  if (chunked && length !== undefined)
    throw new Malformed("there are both Transfer-Encoding and Content-Length");
  if (chunked && minor === 0)
    throw new Malformed("HTTP/1.0 has no Transfer-Encoding");
  if (hops.some((name) => NEVER_A_HOP.has(name)))
    throw new Malformed("Connection names a field that is not its own");
  const persistent =
    minor === 1
      ? !hops.includes("close")
      : hops.includes("keep-alive") && !hops.includes("close");
  if (!hops.includes("upgrade") || minor === 0) upgrade = undefined;
  // RFC 9113 3.1 has given h2c up; it would carry requests past the relay.
  if (upgrade !== undefined && readList(upgrade).includes("h2c"))
    upgrade = undefined;
  return { hosts, host, length, chunked, persistent, upgrade, hops };
}

/** The first of these upgrades that a GET offers (RFC 9110 7.8), undefined for none. */
export function upgradeOf<Token extends string>(
  { method, upgrade = "" }: RequestHead,
  tokens: readonly Token[],
): Token | undefined {
  const offered = method === "GET" ? readList(upgrade) : [];
  return tokens.find((token) => offered.includes(token));
}

/** The members of a comma-separated list, in lower case. */
export function readList(value: string): string[] {
  return value
    .toLowerCase()
    .split(",")
    .map(trimSpace)
    .filter((member) => member !== "");
}

/** The directives of a Cache-Control as they stand there (RFC 9111 5.2), or undefined for what is no list of them. */
export function readDirectives(value: string): string[] | undefined {
  return DIRECTIVES.test(value) ? (value.match(DIRECTIVE) ?? []) : undefined;
}
