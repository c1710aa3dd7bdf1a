// `rendezvous dial`: stdin and stdout, or a local port, to a TCP port of a hidden server.
import { closeSync, createWriteStream, fstatSync } from "node:fs";
import { Socket, type AddressInfo } from "node:net";
import process from "node:process";
import type { Writable } from "node:stream";
import { isatty } from "node:tty";
import { reach, type Led } from "../client/dial.ts";
import { createListener } from "../client/listen.ts";
import { DialError } from "../client/ways.ts";
import { list } from "../wire/ladder.ts";
import { PipeStream } from "../wire/pipestream.ts";
import { relayOf } from "../protocol.ts";
import { leaveWithNpm } from "./npm.ts";
import { complain } from "./print.ts";
import type { DialCommand } from "../command/dial.ts";

const STDOUT = 1;

const CUT_EXIT = 1;
const REFUSED_EXIT = 3;
const UNREACHABLE_EXIT = 4;

/** A private server was asked for without a grant. */
const GRANT_CODES: ReadonlySet<string | undefined> = new Set([
  "grant_wanted",
  "missing_grant",
]);

export function runDial(command: DialCommand): void {
  leaveWithNpm(() => process.kill(process.pid, "SIGTERM"));
  if (command.listen === undefined) void runOnce(command);
  else listen(command, command.listen);
}

async function runOnce(command: DialCommand): Promise<void> {
  try {
    const led = await reach(command);
    if (command.verbose) tell(command, led);
    const stream = new PipeStream(led.pipe);
    const output = openOutput();
    stream.on("error", (error) => {
      complain(`${command.id}:${String(command.port)}: ${error.message}.`);
      process.exitCode = CUT_EXIT;
      // What has come before the cut is still on its way.
      if (output !== process.stdout) output.end();
    });
    process.stdin.on("error", () => stream.end());
    output.on("error", (error: NodeJS.ErrnoException) => {
      // Whoever reads no more has what he wanted.
      if (error.code !== "EPIPE") {
        complain(`The standard output cannot be written: ${error.message}.`);
        process.exitCode = CUT_EXIT;
      }
      stream.destroy();
    });
    process.stdin.pipe(stream);
    stream.pipe(output);
    // The service has said everything; whoever feeds stdin may not know that there is nobody left to read it.
    stream.on("close", () => process.stdin.destroy());
  } catch (error) {
    process.exitCode = report(command, error);
  }
}

/**
 * The standard output. A pipe can be ended, which process.stdout cannot: whoever reads it hears that the service has said everything.
 * And of a file process.stdout does not notice that only a part was written.
 */
function openOutput(): Writable {
  if (isatty(STDOUT)) return process.stdout;
  const kind = fstatSync(STDOUT);
  if (!kind.isFIFO() && !kind.isSocket())
    return createWriteStream("", { fd: STDOUT });
  const output = new Socket({ fd: STDOUT, readable: false, writable: true });
  // Node itself leaves this one open.
  return output.once("close", () => {
    closeSync(STDOUT);
  });
}

function listen(
  command: DialCommand,
  place: { readonly host: string; readonly port: number },
): void {
  const server = createListener(
    command,
    (error) => {
      report(command, error);
    },
    (led) => {
      if (command.verbose) tell(command, led);
    },
  );
  server.on("error", (error) => {
    complain(
      `Cannot listen on ${place.host}:${String(place.port)}: ${error.message}.`,
    );
    process.exitCode = 2;
  });
  server.listen(place, () => {
    const { address, port } = server.address() as AddressInfo;
    complain(
      `Listening on ${address}:${String(port)} for ${command.id}:${String(command.port)}.`,
    );
  });
  const leave = (): void => {
    process.exit(0);
  };
  process.on("SIGTERM", leave).on("SIGINT", leave);
}

/** Says by which way it went, and what was tried. */
function tell({ id, port }: DialCommand, { way, tried }: Led): void {
  const why =
    tried === undefined || tried.size === 0 ? "" : ` (${list(tried)})`;
  complain(`${id}:${String(port)} by ${way}${why}.`);
}

/** Says what stood in the way, and gives the exit code for it. */
function report(
  { id, port, relay, grant }: DialCommand,
  error: unknown,
): number {
  if (!(error instanceof DialError)) throw error;
  const code = error.code === undefined ? "" : ` (${error.code})`;
  complain(
    `${id}:${String(port)} cannot be reached: ${error.message.replace(/\.$/, "")}${code}.`,
  );
  if (grant === undefined && GRANT_CODES.has(error.code))
    complain(
      "RENDEZVOUS_GRANT takes the link that its owner makes with `npx rendezvous share`.",
    );
  const { origin } = relayOf(relay, id);
  if (error.code !== undefined && origin !== relay.origin)
    complain(
      `${relay.host} is ${id} itself. Name the relay: \`npx rendezvous dial ${origin} ${id} ${String(port)}\`.`,
    );
  // The relay's own word needs no more.
  if (error.code === undefined)
    complain(`\`npx rendezvous doctor ${relay.origin}\` tells more.`);
  return error.status === undefined ? UNREACHABLE_EXIT : REFUSED_EXIT;
}
