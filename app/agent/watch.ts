// Looks over the shoulder of a joined tunnel and tells each exchange in a line. It changes nothing, and gives up where it cannot follow.
import { BodyReader } from "../wire/body.ts";
import {
  Malformed,
  headEnd,
  readAnswerHead,
  readRequestHead,
  MAX_HEAD_OCTETS,
} from "../wire/head.ts";
import type { Tap } from "../wire/splice.ts";

interface Asked {
  readonly method: string;
  readonly target: string;
  readonly at: number;
}

/** Makes a tap that gives a line like `GET /style.css 200 12 ms` for each exchange. */
export function createWatch(tell: (line: string) => void): Tap {
  const asked: Asked[] = [];
  let following = true;
  const requests = messages((octets, end) => {
    const { method, target, framing } = readRequestHead(octets, 0, end);
    asked.push({ method, target, at: performance.now() });
    return new BodyReader(framing);
  });
  const answers = messages((octets, end) => {
    const [first] = asked;
    if (first === undefined) throw new Malformed("an answer to nothing");
    const answer = readAnswerHead(octets, end, first.method);
    if (answer.status === 101) following = false;
    if (answer.status >= 200 || answer.status === 101) {
      asked.shift();
      tell(
        `${first.method} ${first.target} ${String(answer.status)} ${(performance.now() - first.at).toFixed(0)} ms`,
      );
    }
    return new BodyReader(answer.framing);
  });
  const follow = (read: (octets: Buffer) => void) => (octets: Buffer) => {
    if (!following) return;
    try {
      read(octets);
    } catch {
      following = false;
    }
  };
  return { there: follow(requests), back: follow(answers) };
}

/** Cuts a stream into messages; `begin` reads a head and says how its body is found. */
function messages(
  begin: (octets: Buffer, end: number) => BodyReader,
): (octets: Buffer) => void {
  let body: BodyReader | undefined;
  let head: Buffer | undefined;
  return function read(octets) {
    let left = octets;
    while (left.length > 0) {
      if (body !== undefined && !body.done) {
        left = left.subarray(body.read(left, 0));
        continue;
      }
      left = head === undefined ? left : Buffer.concat([head, left]);
      const end = headEnd(left, 0);
      head = end < 0 ? Buffer.from(left) : undefined;
      if (end < 0 && left.length > MAX_HEAD_OCTETS)
        throw new Malformed("the head is too long");
      if (end < 0) return;
      body = begin(left, end);
      left = left.subarray(end);
    }
  };
}
