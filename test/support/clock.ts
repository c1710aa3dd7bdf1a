// The monotonic clock of this process, which a test may put forward: what is measured in minutes is over at the next sweep.
import { afterThisTest } from "./cleanup.ts";

/** Makes timers that are set from now on as many times faster, until the test is over. */
export function hurryTimers(factor: number): void {
  const before = globalThis.setTimeout;
  const hurried = (act: () => void, milliseconds = 0): NodeJS.Timeout =>
    before(act, milliseconds / factor);
  globalThis.setTimeout = Object.assign(hurried, before);
  afterThisTest(() => {
    globalThis.setTimeout = before;
  });
}

/** Puts performance.now() forward, until the test is over. */
export function advanceClock(milliseconds: number): void {
  const before = performance.now.bind(performance);
  performance.now = () => before() + milliseconds;
  afterThisTest(() => {
    performance.now = before;
  });
}
