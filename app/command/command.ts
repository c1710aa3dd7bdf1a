// The command lines of `rendezvous`. Every problem is reported at once, in a sentence that names its cure.
import { SettingsError } from "../relay/options.ts";
import { shown, type Environment } from "../values.ts";
import { readDial, type DialCommand } from "./dial.ts";
import { readDoctor, type DoctorCommand } from "./doctor.ts";
import type { HelpCommand } from "./flags.ts";
import { readIssue, type IssueCommand } from "./issue.ts";
import { readPark, type ParkCommand } from "./park.ts";
import { readShare, type ShareCommand } from "./share.ts";

/** A command line of the `rendezvous` program, checked. */
export type Command =
  | HelpCommand
  | { readonly command: "version" }
  | IssueCommand
  | ParkCommand
  | ShareCommand
  | DialCommand
  | DoctorCommand;

/**
 * Reads a command line.
 * @throws SettingsError with one sentence for each problem
 */
export function readCommand(
  argv: readonly string[],
  environment: Environment,
): Command {
  const [name, ...rest] = argv;
  switch (name) {
    case undefined:
    case "help":
    case "--help":
    case "-h":
      return { command: "help", topic: rest[0] };
    case "--version":
    case "-v":
      return { command: "version" };
    case "issue":
      return readIssue(rest, environment);
    case "park":
      return readPark(rest, environment);
    case "dial":
      return readDial(rest, environment);
    case "share":
      return readShare(rest, environment);
    case "doctor":
      return readDoctor(rest, environment);
    default:
      throw new SettingsError(
        `There is no command ${shown(name)}. \`npx rendezvous help\` lists them.`,
      );
  }
}
