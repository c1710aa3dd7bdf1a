// What a test opens is closed after it, last first, whatever became of the test.

type Cleanup = () => unknown;

const cleanups: Cleanup[] = [];
/** Tests that are over. */
let over = 0;

export function afterThisTest(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

/** Gives a function for whoever waits: it throws once the test of now is over, so that what a failed one leaves waits for nothing. */
export function duringThisTest(): () => void {
  const here = over;
  return () => {
    if (over !== here) throw new Error("the test is over");
  };
}

export const mochaHooks = {
  async afterEach(): Promise<void> {
    over++;
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  },
};
