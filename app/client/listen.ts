// A local port that leads to a port of a hidden server: each connection is dialled for by itself.
import { createServer, type Server } from "node:net";
import { Link } from "../wire/link.ts";
import { splice } from "../wire/splice.ts";
import { reach, type DialOptions } from "./dial.ts";

/** Makes the server; the caller decides where it listens. `failed` hears of each connection that could not be dialled for. */
export function createListener(
  options: DialOptions,
  failed: (error: unknown) => void,
): Server {
  const socketOptions = {
    allowHalfOpen: true,
    pauseOnConnect: true,
    noDelay: true,
  };
  return createServer(socketOptions, function dialFor(socket) {
    const link = new Link(socket, {
      data() {},
      end() {},
      drain() {},
      gone() {},
    });
    link.pause();
    reach(options).then(
      ({ pipe }) => {
        splice(link, pipe, () => undefined);
      },
      (error: unknown) => {
        link.reset();
        failed(error);
      },
    );
  });
}
