// The monotonic clock of this process, which a test may put forward: what is measured in minutes is over at the next sweep.
import { afterThisTest } from "./cleanup.ts";

/** Puts performance.now() forward, until the test is over. */
export function advanceClock(milliseconds: number): void {
  const before = performance.now.bind(performance);
  performance.now = () => before() + milliseconds;
  afterThisTest(() => {
    performance.now = before;
  });
}
