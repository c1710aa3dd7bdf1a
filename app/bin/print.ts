// What the programs print: one line each, harmless to a terminal whatever a visitor or a relay has put into it.

/** Tells a fact, on standard output. */
export function say(line: string): void {
  console.log(harmless(line));
}

/** Tells what is wrong, on standard error. */
export function complain(line: string): void {
  console.error(harmless(line));
}

function harmless(line: string): string {
  return line.replaceAll(/\p{Cc}/gu, "?");
}
