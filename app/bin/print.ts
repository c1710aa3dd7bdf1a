// What the programs print: one line each, harmless to a terminal whatever a visitor or a relay has put into it.

/** Tells a fact, on standard output. */
export function say(line: string): void {
  console.log(harmless(line));
}

/** Tells what is wrong, on standard error. */
export function complain(line: string): void {
  console.error(harmless(line));
}

/** The same for a document of JSON, which knows a way to write them. */
export function sayJson(value: unknown): void {
  const escape = (character: string): string =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  console.log(JSON.stringify(value).replaceAll(UNRULY, escape));
}

/** Controls, and what turns the direction of writing around. */
const UNRULY = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

function harmless(line: string): string {
  return line.replaceAll(UNRULY, "?");
}
