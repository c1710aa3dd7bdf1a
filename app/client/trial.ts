// One way tried: whether it is granted, and whether octets then go there and back. Each step has a deadline.
import { BAD_TOKEN } from "../cures.ts";
import { HandoverError, type Refusal } from "../wire/refusal.ts";

/** In milliseconds. */
export interface Deadlines {
  /** How long a way may take to be granted or refused, and the relay to answer at all. */
  readonly answer: number;
  /** How long octets may take to come back once it is granted: as long as agent and dial wait for a better way. */
  readonly proof: number;
}

export const DEADLINES: Deadlines = { answer: 4 * 1000, proof: 3 * 1000 };

export type Result = "yes" | "no" | "half duplex" | "hung";

export interface Trial {
  readonly result: Result;
  readonly words: string;
  /** Milliseconds until it was proved. */
  readonly milliseconds?: number;
  readonly status?: number;
  readonly server?: string;
  readonly code?: string;
}

/** What the one who goes a way tells when it is granted, and by what he is called back. */
export interface Told {
  readonly granted: () => void;
  readonly signal: AbortSignal;
}

/** Goes one way. Whatever becomes of it is a result, in time. */
export function tryWay(
  go: (told: Told) => Promise<void>,
  { answer, proof }: Deadlines,
): Promise<Trial> {
  return new Promise((resolve) => {
    const began = performance.now();
    const attempt = new AbortController();
    let isGranted = false;
    const settle = (trial: Trial): void => {
      clearTimeout(deadline);
      resolve(trial);
      attempt.abort();
    };
    const late = (result: Result, words: string, after: number) =>
      setTimeout(() => {
        settle({ result, words: `${words} within ${String(after / 1000)} s` });
      }, after);
    let deadline = late("hung", "no answer", answer);
    const granted = (): void => {
      isGranted = true;
      clearTimeout(deadline);
      deadline = late("half duplex", "granted, but nothing came back", proof);
    };
    go({ granted, signal: attempt.signal }).then(
      () => {
        const milliseconds = Math.round(performance.now() - began);
        const words = `octets went there and back within ${String(milliseconds)} ms`;
        settle({ result: "yes", words, milliseconds });
      },
      (error: unknown) => {
        settle(isGranted ? CUT : failed(error));
      },
    );
  });
}

const CUT: Trial = {
  result: "half duplex",
  words: "granted, but then closed before anything came back",
};

function failed(error: unknown): Trial {
  const cause = error instanceof Error ? error.cause : undefined;
  const refusal = cause instanceof HandoverError ? cause.refusal : undefined;
  if (refusal === undefined)
    return { result: "no", words: textOf(cause ?? error) };
  const { status, server, code } = refusal;
  return {
    result: "no",
    words: refusalWords(refusal),
    status,
    ...(server === undefined ? {} : { server }),
    ...(code === undefined ? {} : { code }),
  };
}

/** What a relay's refusal means here, where its own words are for somebody else. */
const MEANINGS: Readonly<Record<string, string>> = {
  upgrade_wanted: "the Upgrade was lost on the way",
  bad_token: BAD_TOKEN,
};

/** What came back, and from whom: `405 Not Allowed, nginx`. */
export function refusalWords(
  refusal: Pick<Refusal, "status" | "reason" | "server"> & Partial<Refusal>,
): string {
  const { status, reason, server, code, detail, location, byProxy } = refusal;
  const line = `${String(status)} ${reason}`.trim();
  // With a code it is the relay that speaks, whatever its router has put into the answer.
  const who =
    code !== undefined
      ? ` by the relay: ${MEANINGS[code] ?? (detail ?? code).replace(/\.$/, "")}`
      : byProxy === true
        ? ", the proxy on the way"
        : server === undefined
          ? ""
          : `, ${server}`;
  return `${line}${who}${location === undefined ? "" : `, to ${location}`}`;
}

/** The message of an error, also of one of several (Node tells none of its own then). */
export function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== "") return error.message;
  const causes: readonly unknown[] =
    error instanceof AggregateError ? error.errors : [];
  const [first] = causes;
  return first === undefined ? error.name : textOf(first);
}
