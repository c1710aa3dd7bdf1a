// When the agent asks again after a failure: soon while the relay is away, seldom after it has said no.
import type { Refusal } from "../wire/refusal.ts";

/**
 * away: nobody answered, or whoever did cannot help now. unfit: something else than a relay answered.
 * denied: the relay said no. A number: it said when to come back, in seconds.
 */
export type Trouble = "away" | "unfit" | "denied" | number;

const FIRST_MILLISECONDS = 1000;
/** A relay that restarts has its agents back in 2 s, their way to it included. */
const AWAY_MILLISECONDS = 1500;
/** One that stays away is asked less often, but still within the time that it lets visitors wait (HOLD_SECONDS). */
const LONG_AWAY_MILLISECONDS = 8 * 1000;
const LONG_MILLISECONDS = 10 * 60 * 1000;
const MAX_MILLISECONDS = 30 * 1000;
/** Nobody is told to stay away for longer than that. */
const MAX_TOLD_MILLISECONDS = 60 * 60 * 1000;

/** What a refusal means to an agent. Without one nobody answered. */
export function troubleOf(
  refusal: Pick<Refusal, "status" | "code" | "retrySeconds"> | undefined,
): Trouble {
  if (refusal === undefined) return "away";
  const { status, code, retrySeconds } = refusal;
  if (status === 429 || code === "too_many_tunnels")
    return retrySeconds ?? "denied";
  if (status >= 500) return "away";
  return status === 401 || status === 403 ? "denied" : "unfit";
}

/** Of several ways that have failed in one search: one that may lead there in a moment decides. */
export function mildest(troubles: readonly Trouble[]): Trouble {
  const kinds: readonly Trouble[] = ["away", "denied", "unfit"];
  return kinds.find((kind) => troubles.includes(kind)) ?? troubles[0] ?? "away";
}

export class Backoff {
  /** Failed attempts since the last good one. */
  failures = 0;
  /** Milliseconds of the monotonic clock at the first of them. */
  #since = 0;

  succeeded(): void {
    this.failures = 0;
  }

  /** Milliseconds to wait, with full jitter: agents that have lost one relay do not come in one moment. `now` is of the monotonic clock. */
  failed(trouble: Trouble, now: number): number {
    if (this.failures++ === 0) this.#since = now;
    if (typeof trouble === "number")
      return Math.min(trouble * 1000, MAX_TOLD_MILLISECONDS) + jitter();
    if (trouble === "denied") return (MAX_MILLISECONDS + jitter(30)) / 2;
    const most =
      trouble === "unfit"
        ? MAX_MILLISECONDS
        : now - this.#since < LONG_MILLISECONDS
          ? AWAY_MILLISECONDS
          : LONG_AWAY_MILLISECONDS;
    const ceiling = FIRST_MILLISECONDS * 2 ** (this.failures - 1);
    return Math.random() * Math.min(ceiling, most);
  }
}

/** Up to so many seconds, in milliseconds. */
function jitter(seconds = 1): number {
  return Math.random() * seconds * 1000;
}
