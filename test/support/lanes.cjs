// Runs command lines at once: npm test would be too long one after the other, and much of it waits.
// The output of the first comes as it is said, that of each other one when all are over. Fails when one of them does.
//   node test/support/lanes.cjs "COMMAND" "COMMAND"
const { spawn } = require("node:child_process");
const process = require("node:process");

const lanes = process.argv.slice(2).map((command, i) => {
  const output = i === 0 ? "inherit" : "pipe";
  const child = spawn(command, {
    shell: true,
    stdio: ["ignore", output, output],
  });
  const said = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (octets) => said.push(octets));
  return new Promise((resolve) => {
    child.on("close", (code) => resolve({ command, said, code: code ?? 1 }));
  });
});

Promise.all(lanes).then((ended) => {
  for (const { command, said, code } of ended) {
    process.stdout.write(Buffer.concat(said));
    if (code === 0) continue;
    console.error(`\`${command}\` failed with status ${code}.`);
    process.exitCode = 1;
  }
});
