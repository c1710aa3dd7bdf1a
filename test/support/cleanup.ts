// What a test opens is closed after it, last first, whatever became of the test.

type Cleanup = () => unknown;

const cleanups: Cleanup[] = [];

export function afterThisTest(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

export const mochaHooks = {
  async afterEach(): Promise<void> {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  },
};
