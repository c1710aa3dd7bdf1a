// What is fuzzed: a property of hostile input, and how it is tried for a while.
import fc from "fast-check";

/** How to try. */
export interface Plan {
  readonly seed: number;
  readonly milliseconds: number;
  /** Cases at most. */
  readonly runs?: number | undefined;
}

export interface Target {
  /** A sentence that is true of every case. */
  readonly title: string;
  /** Its part of the time; 1 is one part. */
  readonly share: number;
  /**
   * Tries cases, and gives their number.
   * @throws Error that shows the smallest case that fails, and how to see it again
   */
  readonly run: (plan: Plan) => Promise<number>;
}

type Tried = Pick<fc.RunDetails<unknown>, "failed" | "numRuns">;

/** A property that is looked at within one call. */
export function target<T>(
  title: string,
  cases: fc.Arbitrary<T>,
  check: (one: T) => void,
  share = 1,
): Target {
  const property = fc.property(cases, check);
  return {
    title,
    share,
    run: (plan) => {
      const details = fc.check(property, parametersOf<[T]>(plan));
      return Promise.resolve().then(() =>
        countOf(title, plan, details, fc.defaultReportMessage(details)),
      );
    },
  };
}

/** One that needs some turns of the event loop. */
export function slowTarget<T>(
  title: string,
  cases: fc.Arbitrary<T>,
  check: (one: T) => Promise<void>,
  share = 1,
): Target {
  let last: Promise<void> = Promise.resolve();
  const property = fc.asyncProperty(cases, async (one) => {
    last = check(one);
    await last;
  });
  return {
    title,
    share,
    run: async (plan) => {
      const details = await fc.check(property, parametersOf<[T]>(plan));
      // The end of the time does not wait for the case under way.
      await last.catch(() => undefined);
      const report = fc.defaultReportMessage(details);
      return countOf(title, plan, details, report);
    },
  };
}

function parametersOf<Ts>({
  seed,
  milliseconds,
  runs = Number.POSITIVE_INFINITY,
}: Plan): fc.Parameters<Ts> {
  return {
    seed,
    numRuns: runs,
    // It looks at no case, whatever its type.
    plugins: [fc.interruptAfterTimeLimit(milliseconds) as fc.Plugin<Ts>],
    includeErrorInReport: true,
  };
}

function countOf(
  title: string,
  { seed }: Plan,
  { failed, numRuns }: Tried,
  report: string | undefined,
): number {
  if (failed)
    throw new Error(
      `${report ?? ""}\n\nAgain: FUZZ_SEED=${seed} npm run fuzz -- --only ${JSON.stringify(title)}`,
    );
  return numRuns;
}

/** FUZZ_SEED, or a new one for each time. */
export function seedOf(environment: NodeJS.ProcessEnv): number {
  const given = environment["FUZZ_SEED"];
  const seed =
    given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  if (!Number.isInteger(seed))
    throw new Error(`FUZZ_SEED must be an integer, got "${given ?? ""}".`);
  return seed;
}

/** FUZZ_SECONDS for all targets together. */
export function secondsOf(
  environment: NodeJS.ProcessEnv,
  byDefault: number,
): number {
  const seconds = Number(environment["FUZZ_SECONDS"] ?? byDefault);
  if (!(seconds > 0))
    throw new Error(
      `FUZZ_SECONDS must be a number of seconds, got "${environment["FUZZ_SECONDS"] ?? ""}".`,
    );
  return seconds;
}

/** What a target gets of so many seconds for all. */
export function partOf(
  one: Target,
  all: readonly Target[],
  seconds: number,
): number {
  const shares = all.reduce((sum, { share }) => sum + share, 0);
  return (1000 * seconds * one.share) / shares;
}
