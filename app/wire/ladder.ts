// Several ways at once: the best one that has proved itself in time.

/** Why ways were not taken: those better than the one that was, and all that had failed by then. The best first. */
export type Tried<Way> = ReadonlyMap<Way, Error>;

export interface Climb<Way, T> {
  /** The best first. */
  readonly ways: readonly Way[];
  /** Goes one way, and resolves when it is proved; its signal calls it off. */
  readonly attempt: (way: Way, signal: AbortSignal) => Promise<T>;
  /** Ends what was proved but is not taken. */
  readonly discard: (proved: T) => void;
  /** Whether no other way can do better after this error. */
  readonly isFinal: (error: unknown) => boolean;
  /** How long a better way is waited for when a lesser one is proved. */
  readonly milliseconds: number;
  readonly signal?: AbortSignal | undefined;
}

/** The way that was taken. */
export interface Climbed<Way, T> {
  readonly way: Way;
  readonly proved: T;
  readonly tried: Tried<Way>;
}

/** All ways have failed. */
export class LadderError<Way> extends Error {
  override readonly name = "LadderError";
  readonly failures: Tried<Way>;

  constructor(failures: Tried<Way>) {
    super(tell(failures));
    this.failures = failures;
  }
}

/**
 * Goes all ways at once. The others are called off as soon as one is taken.
 * @throws LadderError when none is left, or whatever error is final; the signal's reason when it calls off all
 */
export function climb<Way, T>({
  ways,
  attempt,
  discard,
  isFinal,
  milliseconds,
  signal,
}: Climb<Way, T>): Promise<Climbed<Way, T>> {
  return new Promise((resolve, reject) => {
    const attempts = new Map(ways.map((way) => [way, new AbortController()]));
    const proved = new Map<Way, T>();
    const failures = new Map<Way, Error>();
    let late = false;
    let over = false;

    const end = (taken?: Way): void => {
      over = true;
      clearTimeout(deadline);
      signal?.removeEventListener("abort", callOff);
      for (const [way, one] of attempts) if (way !== taken) one.abort();
      for (const [way, one] of proved) if (way !== taken) discard(one);
    };
    const callOff = (): void => {
      if (over) return;
      end();
      reject(toError(signal?.reason));
    };
    const tried = (better: readonly Way[]): Tried<Way> => {
      for (const way of better)
        if (!failures.has(way)) failures.set(way, tooLate(milliseconds));
      return new Map(
        ways.flatMap((way) => {
          const failure = failures.get(way);
          return failure === undefined ? [] : [[way, failure]];
        }),
      );
    };
    const look = (): void => {
      if (over) return;
      for (const [rank, way] of ways.entries()) {
        if (proved.has(way)) {
          end(way);
          const better = ways.slice(0, rank);
          const one = proved.get(way) as T;
          resolve({ way, proved: one, tried: tried(better) });
          return;
        }
        // It may still do.
        if (!late && !failures.has(way)) return;
      }
      if (failures.size < ways.length) return;
      end();
      reject(new LadderError(tried([])));
    };
    const deadline = setTimeout(() => {
      late = true;
      look();
    }, milliseconds);
    if (signal?.aborted === true) {
      callOff();
      return;
    }
    signal?.addEventListener("abort", callOff);
    for (const [way, { signal: calledOff }] of attempts) {
      attempt(way, calledOff).then(
        (one) => {
          if (over) discard(one);
          else proved.set(way, one);
          look();
        },
        (error: unknown) => {
          if (over) return;
          failures.set(way, toError(error));
          if (isFinal(error)) {
            end();
            reject(toError(error));
          } else look();
        },
      );
    }
  });
}

/** What all have in common is told once. */
function tell(failures: Tried<unknown>): string {
  const texts = new Set([...failures.values()].map(({ message }) => message));
  const [text = ""] = texts;
  return texts.size === 1 ? text : `no way gets through (${list(failures)})`;
}

/** Each way and its failure in a few words. */
export function list(failures: Tried<unknown>): string {
  return [...failures]
    .map(([way, error]) => `${String(way)}: ${briefOf(error)}`)
    .join("; ");
}

/** An error may have fewer words for where it is one of several. */
function briefOf(error: Error): string {
  return "brief" in error && typeof error.brief === "string"
    ? error.brief
    : error.message;
}

function tooLate(milliseconds: number): Error {
  return new Error(`nothing came back in ${String(milliseconds / 1000)} s`);
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
