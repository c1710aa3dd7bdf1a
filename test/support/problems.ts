// What is wrong with settings and command lines.
import { SettingsError } from "../../app/relay/options.ts";

/** The sentences of a refusal. */
export function problemsOf(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split("\n");
    throw error;
  }
  throw new Error("nothing was wrong");
}
