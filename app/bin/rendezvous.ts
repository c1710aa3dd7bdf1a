#!/usr/bin/env node
// The program for everybody but the relay: issue | park | share | dial | doctor.
import { existsSync } from "node:fs";
import process from "node:process";
import { park } from "../agent/agent.ts";
import { createWatch } from "../agent/watch.ts";
import { readCommand, type Command } from "../command/command.ts";
import type { IssueCommand } from "../command/issue.ts";
import type { ParkCommand } from "../command/park.ts";
import { issue } from "../issue.ts";
import { relayOf } from "../protocol.ts";
import { SettingsError } from "../relay/options.ts";
import { VERSION } from "../version.ts";
import { list } from "../wire/ladder.ts";
import { runDial } from "./dial.ts";
import { runDoctor } from "./doctor.ts";
import { help } from "./help.ts";
import { leaveWithNpm } from "./npm.ts";
import { complain, say } from "./print.ts";
import { runShare } from "./share.ts";

/** How long the same trouble is not told again. */
const TOLD_MILLISECONDS = 60 * 1000;
/** How long exchanges under way may go on after a signal. */
const LEAVING_SECONDS = 10;
const USAGE_EXIT = 2;
/** Where HTTP visits go when no HTTP service is named. */
const HTTP_PORT = 80;

function main(): void {
  try {
    // Where the relay's settings are, its secret is.
    const [, , name = ""] = process.argv;
    if (["issue", "share"].includes(name) && existsSync(".env"))
      process.loadEnvFile();
    run(readCommand(process.argv.slice(2), process.env));
  } catch (error) {
    if (!(error instanceof SettingsError) && !(error instanceof RangeError))
      throw error;
    console.error(error.message);
    process.exitCode = USAGE_EXIT;
  }
}

function run(command: Command): void {
  switch (command.command) {
    case "help":
      console.log(help(command.topic));
      break;
    case "version":
      console.log(VERSION);
      break;
    case "issue":
      runIssue(command);
      break;
    case "park":
      runPark(command);
      break;
    case "share":
      runShare(command);
      break;
    case "dial":
      runDial(command);
      break;
    case "doctor":
      runDoctor(command);
  }
}

function runIssue({ id, relay, json, settings }: IssueCommand): void {
  const issued = issue(id, { ...settings, relay });
  if (json) {
    console.log(JSON.stringify(issued));
    return;
  }
  console.log(`Secret of ${issued.id}, for its owner only:
    ${issued.secret}

Park, beside a server that listens on port 8080:
    npx rendezvous park ${issued.url} 8080

Visit:
    curl '${issued.visit}'

Authenticator app, for parking by hand:
    ${issued.otpauth}`);
}

/** Whether something may be told again: each thing at most once in so long. */
function seldom(): (what: string) => boolean {
  const told = new Map<string, number>();
  return (what) => {
    const now = performance.now();
    const at = told.get(what) ?? -Infinity;
    if (now - at < TOLD_MILLISECONDS) return false;
    told.set(what, now);
    return true;
  };
}

function runPark(command: ParkCommand): void {
  const { relay, id, secret, service, tcp, spare, max, ca, verbose, via } =
    command;
  const tap = verbose ? () => createWatch(say) : undefined;
  const agent = park(service, {
    relay,
    id,
    secret,
    spare,
    max,
    ca,
    via,
    tcp,
    tap,
    private: command.private,
  });
  agent.on("way", (way, tried) => {
    const why = tried.size === 0 ? "" : ` (${list(tried)})`;
    say(`${id} parks by ${way}${why}.`);
  });
  // A relay that is away is asked every other second; the same reason is told once a minute.
  let told = { reason: "", at: 0 };
  agent.on("up", (visit) => {
    told = { reason: "", at: 0 };
    for (const line of upLines(id, visit, command)) say(line);
    if (command.private)
      say(
        `${id} is private: \`npx rendezvous share '${visit.href}'\`, with the secret as here, makes a link that lets in.`,
      );
  });
  const isDown = seldom();
  agent.on("down", ({ host, port }, reason) => {
    const at = `${host}:${String(port)}`;
    if (isDown(at))
      complain(
        `${at} takes no connection, so visitors get an error: ${reason}.`,
      );
  });
  let hinted = false;
  agent.on("trouble", (reason, seconds) => {
    const now = performance.now();
    if (reason === told.reason && now - told.at < TOLD_MILLISECONDS) return;
    told = { reason, at: now };
    complain(
      `${id} is not parked: ${reason.replace(/\.$/, "")}. Trying again in ${seconds.toFixed(1)} s.`,
    );
    // Once is enough; it goes on by itself.
    if (!hinted)
      complain(`\`npx rendezvous doctor ${relay.origin}\` tells more.`);
    hinted = true;
  });
  let leaving = false;
  const leave = (): void => {
    void agent.close(leaving ? 0 : LEAVING_SECONDS);
    leaving = true;
  };
  process.on("SIGTERM", leave).on("SIGINT", leave);
  // Not a second time, which would cut what is under way.
  leaveWithNpm(() => {
    if (!leaving) leave();
  });
}

/** Where visitors come in, and where they get to. */
function upLines(
  id: string,
  visit: URL,
  { service, tcp }: ParkCommand,
): string[] {
  const place = ({ host, port }: { host: string; port: number }): string =>
    `${host}:${String(port)}`;
  const web = service ?? tcp.get(HTTP_PORT);
  const http =
    web === undefined ? [] : [`${id} is up: ${visit.href} -> ${place(web)}`];
  return [
    ...http,
    ...[...tcp].map(
      ([port, target]) =>
        `${id} is up: npx rendezvous dial ${relayOf(visit, id).origin} ${id} ${String(port)} -> ${place(target)}`,
    ),
  ];
}

main();
