// Several ways at once: the best one that has proved itself in time.

/** How each way went: a reason, or undefined for one that was still under way, or proved but not taken. */
export type Tried<Way> = ReadonlyMap<Way, string | undefined>;

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

/** All ways have failed. */
export class LadderError<Way> extends Error {
  override readonly name = "LadderError";
  /** What each way has failed by, the best way first. */
  readonly failures: ReadonlyMap<Way, unknown>;

  constructor(failures: ReadonlyMap<Way, unknown>) {
    super(tell([...failures].map(([way, error]) => [way, textOf(error)])));
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
}: Climb<Way, T>): Promise<{ way: Way; proved: T; tried: Tried<Way> }> {
  return new Promise((resolve, reject) => {
    const proved = new Map<Way, T>();
    const failures = new Map<Way, unknown>();
    const attempts = new Map(ways.map((way) => [way, new AbortController()]));
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
      reject(signal?.reason as Error);
    };
    const look = (): void => {
      if (over) return;
      const best = ways.find(
        (way) => proved.has(way) || !(late || failures.has(way)),
      );
      if (best !== undefined && proved.has(best)) {
        end(best);
        resolve({
          way: best,
          proved: proved.get(best) as T,
          tried: new Map(ways.map((way) => [way, reasonOf(failures, way)])),
        });
      } else if (failures.size === ways.length) {
        end();
        reject(
          new LadderError(new Map(ways.map((way) => [way, failures.get(way)]))),
        );
      }
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
          if (isFinal(error)) {
            end();
            reject(error instanceof Error ? error : new Error(textOf(error)));
            return;
          }
          failures.set(way, error);
          look();
        },
      );
    }
  });
}

/** What all have in common is told once. */
function tell(reasons: readonly (readonly [unknown, string])[]): string {
  const [first] = reasons;
  return first !== undefined && reasons.every(([, text]) => text === first[1])
    ? first[1]
    : reasons.map(([way, text]) => `${String(way)}: ${text}`).join("; ");
}

function reasonOf<Way>(
  failures: ReadonlyMap<Way, unknown>,
  way: Way,
): string | undefined {
  return failures.has(way) ? textOf(failures.get(way)) : undefined;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
