// `rendezvous doctor`: what stands between here and a relay, a line for each finding, or one document.
import process from "node:process";
import { createProof } from "../agent/prove.ts";
import {
  diagnose,
  type Conclusion,
  type DoctorOptions,
} from "../client/doctor.ts";
import type { Finding } from "../client/finding.ts";
import type { DoctorCommand } from "../command/doctor.ts";
import { say, sayJson } from "./print.ts";

const EXITS = { works: 0, refused: 3, unreachable: 4 } as const;
/** As wide as the widest of each column, and two more. */
const MARK_WIDTH = 6;
const CHECK_WIDTH = 16;

/** @throws RangeError for a secret that cannot be */
export function runDoctor(command: DoctorCommand): void {
  const { ca, idleSeconds, json, login } = command;
  const url = new URL(command.relay.origin);
  const park =
    login === undefined ? undefined : createProof(login.id, login.secret);
  const options = { relay: { url, ca }, idleSeconds, park };
  // Whoever has read enough has gone: `| head`.
  process.stdout.on("error", () => process.exit());
  void (json ? document(options) : lines(options)).then(({ outcome }) => {
    process.exitCode = EXITS[outcome];
  });
}

async function lines(options: DoctorOptions): Promise<Conclusion> {
  const conclusion = await diagnose(options, ({ mark, check, words }) => {
    say(`${mark.padEnd(MARK_WIDTH)}${check.padEnd(CHECK_WIDTH)}${words}`);
  });
  const { words } = conclusion;
  say("");
  say(`${words.charAt(0).toUpperCase()}${words.slice(1)}.`);
  return conclusion;
}

async function document(options: DoctorOptions): Promise<Conclusion> {
  const findings: Finding[] = [];
  const conclusion = await diagnose(options, (finding) => {
    findings.push(finding);
  });
  const { outcome, words, dial = null, park = null } = conclusion;
  const checks = Object.fromEntries(
    findings.map(({ check, mark, words: use, facts }) => [
      check,
      { ...facts, mark, words: use },
    ]),
  );
  const relay = options.relay.url.origin;
  sayJson({ relay, outcome, use: words, dial, park, checks });
  return conclusion;
}
