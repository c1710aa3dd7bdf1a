// Refusals: who said no to a request for a connection, or what failed, and in which words, as far as they can be read.
import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";

const MAX_REFUSAL_OCTETS = 16 * 1024;
/** How long the reason for a refusal may take, after its head. */
const REFUSAL_MILLISECONDS = 2 * 1000;

/** What is known of a refusal. */
export interface Refusal {
  /** Who answered: a host, or the proxy on the way to it. */
  readonly who: string;
  readonly byProxy: boolean;
  readonly status: number;
  /** The words beside the status. */
  readonly reason: string;
  /** What the answerer calls itself: its Server field. */
  readonly server: string | undefined;
  /** Of a problem document (RFC 9457) with a code of its own. */
  readonly code: string | undefined;
  readonly detail: string | undefined;
  /** Where a redirect leads. */
  readonly location: string | undefined;
  /** Seconds after which it may be asked again, where it says so in seconds. */
  readonly retrySeconds: number | undefined;
}

/** A refusal in a few words; undefined where nobody answered. */
export function briefly(refusal: Refusal | undefined): string | undefined {
  if (refusal === undefined) return undefined;
  // The relay has heard a plain GET.
  if (refusal.code === "upgrade_wanted")
    return "the Upgrade was lost on the way";
  return refusal.code === undefined
    ? `answered ${String(refusal.status)}`
    : `the relay answered ${String(refusal.status)} ${refusal.code}`;
}

/** No connection was handed over. Without `refusal` nobody answered. */
export class HandoverError extends Error {
  override readonly name = "HandoverError";
  readonly refusal: Refusal | undefined;

  constructor(message: string, refusal?: Refusal) {
    super(message);
    this.refusal = refusal;
  }
}

/** Who it is that answers. */
export type Answerer = Pick<Refusal, "who" | "byProxy">;

/** Why the other side, or whoever answered in its place, said no. */
export async function readRefusal(
  answerer: Answerer,
  answer: IncomingMessage,
  body: Readable,
  early: Buffer = Buffer.alloc(0),
): Promise<HandoverError> {
  const text = await readText(answer, body, early);
  const refusal: Refusal = {
    ...answerer,
    ...readProblem(text),
    status: answer.statusCode ?? 0,
    reason: answer.statusMessage ?? "",
    server: serverOf(answer),
    location: answer.headers.location,
    retrySeconds: readSeconds(answer.headers["retry-after"]),
  };
  return new HandoverError(
    refusal.detail ?? `${refusal.who} answered ${String(refusal.status)}`,
    refusal,
  );
}

/** RFC 9110 10.2.3; a date is not taken, for clocks differ. */
function readSeconds(value: string | undefined): number | undefined {
  return /^\d{1,9}$/.test(value ?? "") ? Number(value) : undefined;
}

/** What an answerer calls itself. */
export function serverOf({ headers }: IncomingMessage): string | undefined {
  const { server } = headers as Readonly<Record<string, unknown>>;
  return typeof server === "string" ? server : undefined;
}

async function readText(
  answer: IncomingMessage,
  body: Readable,
  early: Buffer,
): Promise<string> {
  // After a CONNECT Node gives the connection instead of a body; it may stay open.
  const length = Number(answer.headers["content-length"] ?? Infinity);
  const most = Math.min(length, MAX_REFUSAL_OCTETS);
  const pieces = [early];
  let count = early.length;
  const timer = setTimeout(() => body.destroy(), REFUSAL_MILLISECONDS);
  try {
    const came: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
    while (count < most) {
      const next = await came.next();
      if (next.done === true) break;
      pieces.push(next.value);
      count += next.value.length;
    }
  } catch {
    // What has come is enough.
  }
  clearTimeout(timer);
  return Buffer.concat(pieces).toString();
}

/** The code and the words of a problem document, where a text is one of ours. */
export function readProblem(text: string): Pick<Refusal, "code" | "detail"> {
  try {
    const problem = JSON.parse(text) as { detail?: unknown; code?: unknown };
    if (typeof problem.detail === "string" && typeof problem.code === "string")
      return { code: problem.code, detail: problem.detail };
  } catch {
    // No problem document.
  }
  return { code: undefined, detail: undefined };
}

/** The words of an error; where all addresses of a name have failed it has none of its own. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== "" || !(error instanceof AggregateError))
    return error.message;
  const causes: readonly unknown[] = error.errors;
  return causes.map(reasonOf).join(", ");
}
