// Two readers, one message: whatever our framing accepts, Node's llhttp accepts with the same boundaries.
import { METHODS } from "node:http";
import fc from "fast-check";
import { nameServer } from "../../app/relay/naming.ts";
import { BodyReader } from "../../app/wire/body.ts";
import {
  Malformed,
  fieldOf,
  headEnd,
  readAnswerHead,
  readRequestHead,
  skipEmptyLines,
  type AnswerHead,
  type RequestHead,
} from "../../app/wire/head.ts";
import { Llhttp, type Head } from "./llhttp.ts";
import { answers, requests } from "./messages.ts";
import { latin1 } from "./octets.ts";
import { target } from "./target.ts";

/** One message as our framing reads it; indexes are into the octets. */
interface Message<H> {
  readonly head: H;
  readonly from: number;
  readonly bodyFrom: number;
  /** Just past its last octet, or as far as it has come. */
  readonly end: number;
  readonly complete: boolean;
  readonly payload: string;
}

type Ours = Message<AnswerHead> | Message<RequestHead>;

/** What Node's parser refuses and we do not, each for a reason. The list is closed: anything else is a finding. */
const STRICTER: readonly (readonly [
  why: string,
  refuses: RegExp,
  is: (message: Ours, former: readonly Ours[]) => boolean,
])[] = [
  [
    "a line of a chunked body is judged when it has come whole; until then it has no octet that could end it",
    /./,
    ({ complete, head }) => !complete && head.framing === "chunked",
  ],
  [
    "methods are any tokens (RFC 9110 9.1), and llhttp has a list",
    /^(?:Invalid method encountered|Expected space after method)$/,
    ({ head }) => "method" in head && !METHODS.includes(head.method),
  ],
  [
    "octets above ASCII in a target pass as they came, for browsers of old and curl send them, and no reader ends a target there",
    /^Invalid char in url (?:path|query)$/,
    ({ head }) => "target" in head && /[\x80-\xff]/.test(head.target),
  ],
  [
    "an interim answer that says close is passed on without, and its tunnel is not used again",
    /^Data after `Connection: close`$/,
    (_, former) =>
      former.some(({ head }) => "status" in head && !head.persistent),
  ],
  [
    "Proxy-Connection, which no standard knows, is not passed on and says nothing; llhttp takes it for Connection",
    /^Data after `Connection: close`$/,
    (_, former) => former.some(saysProxyConnection),
  ],
];

/** A tab behind `chunked`, a length or a member of Connection is no part of it (RFC 9110 5.6.3), though llhttp takes it for one; it is not passed on. */
const TAB_BEHIND =
  /\r\n(?:transfer-encoding|content-length|connection):[^\r]*\t[^\r]*\r\n/i;

/** Reads the messages of a text up to the first that is malformed or has not come whole. */
function readAll<H extends AnswerHead | RequestHead>(
  octets: Buffer,
  readHead: (from: number, end: number) => H,
  isLast: (message: Message<H>) => boolean,
): Message<H>[] {
  const found: Message<H>[] = [];
  try {
    for (let at = 0; at < octets.length;) {
      const bodyFrom = headEnd(octets, at);
      if (bodyFrom < 0) return found;
      const head = readHead(at, bodyFrom);
      const payload: Buffer[] = [];
      const body = new BodyReader(head.framing, payload);
      const end = body.read(octets, bodyFrom);
      const message = {
        head,
        from: at,
        bodyFrom,
        end,
        complete: body.done,
        payload: latin1(Buffer.concat(payload)),
      };
      found.push(message);
      if (!body.done || isLast(message)) return found;
      at = end;
    }
  } catch (problem) {
    if (!(problem instanceof Malformed)) throw problem;
  }
  return found;
}

/** Lets llhttp read the same octets, and throws where it finds other boundaries. */
function compare(octets: Buffer, ours: readonly Ours[], other: Llhttp): void {
  const former: Ours[] = [];
  for (const message of ours) {
    const { from, bodyFrom, end, complete, payload, head } = message;
    const has = (what: string, isSo: boolean): void => {
      if (other.error !== undefined) throw new Refused(other.error);
      if (!isSo) throw new Error(`llhttp ${what}`);
    };
    try {
      // It reads empty lines before a request for itself.
      other.feed(octets.subarray(from, bodyFrom - 1));
      has("ends the head earlier", other.head === undefined);
      other.feed(octets.subarray(bodyFrom - 1, bodyFrom));
      has("ends the head later", other.head !== undefined);
      if (end > bodyFrom) {
        has("ends the message with its head", !other.complete);
        other.feed(octets.subarray(bodyFrom, end - 1));
        has("ends the message earlier", !other.complete);
        other.feed(octets.subarray(end - 1, end));
      }
      has(
        complete ? "ends the message later" : "ends what has not come whole",
        other.complete === complete,
      );
      if (head.framing === "close") {
        other.finish();
        has("does not end the answer with the stream", other.complete);
      }
      if (other.head !== undefined) compareHeads(head, other.head);
      if (other.body !== payload)
        throw new Error(
          `llhttp reads another body: ${JSON.stringify(other.body)}, not ${JSON.stringify(payload)}`,
        );
    } catch (difference) {
      if (!(difference instanceof Refused)) throw difference;
      const known = STRICTER.some(
        ([, refuses, is]) =>
          refuses.test(difference.message) && is(message, former),
      );
      if (!known) throw difference;
      return;
    }
    former.push(message);
    other.forget();
  }
}

function saysProxyConnection({ head }: Pick<Ours, "head">): boolean {
  return fieldOf(head.fields, "proxy-connection") !== undefined;
}

/** llhttp does not take what we take. */
class Refused extends Error {}

function compareHeads(ours: AnswerHead | RequestHead, other: Head): void {
  same("fields", JSON.stringify(ours.fields), JSON.stringify(other.fields));
  same("version", ours.minor, other.minor);
  if ("status" in ours) {
    same("status", ours.status, other.status);
    same("reason", ours.reason, other.reason);
  } else same("target", ours.target, other.target);
  if (saysProxyConnection({ head: ours })) return;
  // To close where the other side would not is safe. And what is asked here is asked before it knows that HEAD has no body.
  const hasNoLength =
    ours.framing === 0 && other.status !== undefined && !isFramed(ours);
  if (ours.persistent && ours.framing !== "close" && !hasNoLength)
    same("keep-alive", true, other.keepAlive);
}

function isFramed({ fields }: AnswerHead | RequestHead): boolean {
  return ["content-length", "transfer-encoding"].some(
    (name) => fieldOf(fields, name) !== undefined,
  );
}

function same(what: string, ours: unknown, other: unknown): void {
  if (ours !== other)
    throw new Error(
      `llhttp reads another ${what}: ${String(other)}, not ${String(ours)}`,
    );
}

/** Whether the relay would look at this request at all; what it refuses by its target need not be read by anybody else. */
function isNamed(head: RequestHead): boolean {
  const named = nameServer(head, {
    parameter: "rendezvous",
    baseDomain: "example.com",
    cookieNaming: true,
    ownHosts: [],
  });
  return named.to === "server" || named.to === "relay";
}

export function checkAnswer([text, method]: readonly [string, string]): void {
  const octets = Buffer.from(text, "latin1");
  const ours = readAll(
    octets,
    (from, end) => readAnswerHead(octets.subarray(from), end - from, method),
    ({ head }) => head.status >= 200 || head.status === 101,
  );
  if (ours.length === 0 || TAB_BEHIND.test(text)) return;
  const other = new Llhttp("answer", method === "HEAD");
  try {
    compare(octets, ours, other);
  } finally {
    other.close();
  }
}

export function checkRequest(text: string): void {
  const octets = Buffer.from(text, "latin1");
  const ours = readAll(
    octets,
    (from, end) => readRequestHead(octets, skipEmptyLines(octets, from), end),
    ({ head }) =>
      !head.persistent || fieldOf(head.fields, "upgrade") !== undefined,
  );
  const last = ours.findIndex(({ head }) => !isNamed(head));
  const taken = last < 0 ? ours : ours.slice(0, last);
  if (taken.length === 0 || TAB_BEHIND.test(text)) return;
  const other = new Llhttp("request");
  try {
    compare(octets, taken, other);
  } finally {
    other.close();
  }
}

export const differential = [
  target(
    "an answer that our framing accepts is read by llhttp with the same boundaries",
    fc.tuple(answers, fc.constantFrom("GET", "GET", "GET", "HEAD", "POST")),
    checkAnswer,
    6,
  ),
  target(
    "a request that our framing accepts is read by llhttp with the same boundaries",
    requests,
    checkRequest,
    6,
  ),
];
