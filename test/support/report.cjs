// For NODE_OPTIONS, with --expose-gc: on SIGUSR2 a program collects its garbage and writes what it holds to stderr, in a line of JSON.
let number = 0;
process.on("SIGUSR2", () => {
  globalThis.gc();
  const handles = {};
  for (const kind of process.getActiveResourcesInfo())
    handles[kind] = (handles[kind] ?? 0) + 1;
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  process.stderr.write(
    `${JSON.stringify({ report: ++number, rss, heapUsed, arrayBuffers, handles })}\n`,
  );
});
