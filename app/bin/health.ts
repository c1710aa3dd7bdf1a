// Asks the relay on this machine whether it serves, for containers: exit code 0 is yes.
import { existsSync } from "node:fs";
import { get as getPlain } from "node:http";
import { get as getSecure } from "node:https";
import process from "node:process";
import { readRelayConfig } from "../config.ts";

/** An answer that takes longer is as bad as none. */
const ANSWER_MILLISECONDS = 4 * 1000;

if (existsSync(".env")) process.loadEnvFile();
const { port, host, certificateFiles } = readRelayConfig(process.env);
const get = certificateFiles === undefined ? getPlain : getSecure;
const request = get(
  {
    host: host ?? "localhost",
    port,
    path: "/-/health",
    timeout: ANSWER_MILLISECONDS,
    // The certificate is for the relay's public name.
    rejectUnauthorized: false,
  },
  (answer) => {
    if (answer.statusCode !== 200)
      fail(`it answered ${String(answer.statusCode)}`);
    answer.resume();
  },
);
request.on("timeout", () => request.destroy(new Error("it does not answer")));
request.on("error", (error) => {
  fail(error.message);
});

function fail(reason: string): void {
  console.error(`The relay on port ${String(port)} does not serve: ${reason}.`);
  process.exitCode = 1;
}
