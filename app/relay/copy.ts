// A copy of a text that is kept for longer than what it was cut out of: a part of a text keeps the whole of it in memory.

export function copyOf(text: string): string {
  return Buffer.from(text).toString();
}
