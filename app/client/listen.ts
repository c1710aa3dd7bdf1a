// A local port that leads to a port of a hidden server: each connection is dialled for by itself.
import { createServer, type Server } from "node:net";
import { Link } from "../wire/link.ts";
import { splice } from "../wire/splice.ts";
import { reach, type DialOptions, type Led } from "./dial.ts";

/** Octets kept of a caller who is being dialled for. One who has said more is not read, and so not heard to leave. */
const MAX_EARLY_OCTETS = 64 * 1024;

/** Makes the server; the caller decides where it listens. `failed` hears of each connection that could not be dialled for, `led` of the others. */
export function createListener(
  options: DialOptions,
  failed: (error: unknown) => void,
  led: (led: Led) => void = () => undefined,
): Server {
  const socketOptions = { allowHalfOpen: true, noDelay: true };
  return createServer(socketOptions, function dialFor(socket) {
    const left = new AbortController();
    const early: Buffer[] = [];
    let ended = false;
    const link = new Link(socket, {
      data(octets) {
        early.push(Buffer.from(octets));
        if (link.received >= MAX_EARLY_OCTETS) link.pause();
      },
      end() {
        // He may have asked all that he has to ask, and wait for the answer.
        ended = true;
      },
      drain() {},
      gone() {
        left.abort();
      },
    });
    reach({ ...options, signal: left.signal }).then(
      (found) => {
        led(found);
        splice(link, found.pipe, () => undefined);
        for (const octets of early) link.receiver.data(octets);
        if (ended) link.receiver.end();
      },
      (error: unknown) => {
        if (left.signal.aborted) return;
        link.reset();
        failed(error);
      },
    );
  });
}
