// What doctor finds out: one line for a reader, and the same as facts for a program.

/** `warn` is what works, and will surprise somebody; `-` was not tested. */
export type Mark = "ok" | "warn" | "no" | "-";

export interface Finding {
  /** What was looked at, in two words at most. */
  readonly check: string;
  readonly mark: Mark;
  readonly words: string;
  readonly facts?: Readonly<Record<string, unknown>>;
}
