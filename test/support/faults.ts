// One link of the chain as a bad network has it: a TCP proxy that harms a connection at an octet that is chosen beforehand.
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { afterThisTest } from "./cleanup.ts";

/**
 * cut: FIN to both sides. half: FIN in one direction. reset: RST to both. hole: what comes is read and dropped, and nobody is told of any end.
 * deaf: the same, but nothing is read. delay: one direction stands still for a while. throttle: it goes on slowly.
 */
export const HARMS = [
  ...(["cut", "half", "reset", "hole", "deaf"] as const),
  ...(["delay", "throttle"] as const),
] as const;
export type Harm = (typeof HARMS)[number];

export interface Fault {
  readonly harm: Harm;
  /** there: from whoever connected. back: to him. */
  readonly way: "there" | "back";
  /** So many octets pass before. */
  readonly octet: number;
}

const DELAY_MILLISECONDS = 150;
/** A throttled direction passes so many octets each tick. */
const THROTTLED_OCTETS = 2048;
const TICK_MILLISECONDS = 5;

/** A proxy to a port of 127.0.0.1; `draw` says what is to happen to each new connection. */
export class FaultyLink {
  readonly port: number;
  /** When which harm was done, on the monotonic clock. */
  readonly done: { readonly harm: Harm; readonly at: number }[] = [];
  draw: () => Fault | undefined = () => undefined;
  readonly #wires = new Set<Wire>();

  private constructor(port: number) {
    this.port = port;
  }

  static async start(target: number): Promise<FaultyLink> {
    const server = createServer(
      { allowHalfOpen: true, noDelay: true },
      (client) => {
        const wire = new Wire(client, target, link.draw(), (harm) => {
          link.done.push({ harm, at: performance.now() });
        });
        link.#wires.add(wire);
        wire.over = () => link.#wires.delete(wire);
      },
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const link = new FaultyLink((server.address() as AddressInfo).port);
    afterThisTest(() => {
      link.cut();
      server.close();
    });
    return link;
  }

  get open(): number {
    return this.#wires.size;
  }

  /** No new faults. What was lost in a hole is reset, as the kernels of both sides would do in the end. */
  heal(): void {
    this.draw = () => undefined;
    for (const wire of this.#wires) wire.heal();
  }

  /** Resets all connections. */
  cut(): void {
    for (const wire of this.#wires) wire.reset();
  }

  /** Whether one of these harms was done since then. */
  hasDone(harms: readonly Harm[], since: number): boolean {
    return this.done.some(
      ({ harm, at }) => at >= since && harms.includes(harm),
    );
  }
}

/** libuv takes a RST right behind the last octets for an end; a write of nothing tells. */
export function wasReset(socket: Socket): boolean {
  if (!socket.writableEnded) socket.write("");
  return socket.errored !== null;
}

/** A connection on the link. */
class Wire {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #fault: Fault | undefined;
  readonly #tell: (harm: Harm) => void;
  over: () => void = () => undefined;
  /** Nothing passes any more. */
  #lost: "open" | "hole" | "deaf" | "cut" = "open";
  #open = 2;

  constructor(
    client: Socket,
    target: number,
    fault: Fault | undefined,
    tell: (harm: Harm) => void,
  ) {
    this.#client = client;
    this.#server = connect({
      ...{ port: target, host: "127.0.0.1" },
      ...{ allowHalfOpen: true, noDelay: true },
    });
    this.#fault = fault;
    this.#tell = tell;
    this.#pass(this.#client, this.#server, "there");
    this.#pass(this.#server, this.#client, "back");
  }

  heal(): void {
    if (this.#lost !== "open") this.reset();
  }

  reset(): void {
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
  }

  #pass(from: Socket, to: Socket, way: Fault["way"]): void {
    let passed = 0;
    let isSlow = false;
    // Octets of a slow or delayed direction are on their way; its end waits for them.
    let isHeld = false;
    let isEnded = false;
    const goOn = (): void => {
      isHeld = false;
      if (isEnded) to.end();
      else from.resume();
    };
    const pending = this.#fault?.way === way ? this.#fault : undefined;
    let due = pending;
    const slowly = (octets: Buffer): void => {
      isHeld = true;
      from.pause();
      to.write(octets.subarray(0, THROTTLED_OCTETS));
      const rest = octets.subarray(THROTTLED_OCTETS);
      setTimeout(() => {
        if (this.#lost !== "open") return;
        if (rest.length > 0) slowly(rest);
        else goOn();
      }, TICK_MILLISECONDS);
    };
    const forward = (octets: Buffer): void => {
      passed += octets.length;
      if (octets.length === 0 || to.destroyed) return;
      if (isSlow) slowly(octets);
      else if (!to.write(octets)) from.pause();
    };
    to.on("drain", () => {
      if (!isHeld && this.#lost !== "deaf") from.resume();
    });
    from.on("data", (octets: Buffer) => {
      if (this.#lost !== "open") return;
      if (due === undefined || passed + octets.length < due.octet) {
        forward(octets);
        return;
      }
      const { harm, octet } = due;
      due = undefined;
      const before = octets.subarray(0, octet - passed);
      const after = octets.subarray(octet - passed);
      forward(before);
      this.#tell(harm);
      if (harm === "throttle") {
        isSlow = true;
        forward(after);
      } else if (harm === "delay") {
        isHeld = true;
        from.pause();
        setTimeout(() => {
          if (this.#lost !== "open") return;
          forward(after);
          goOn();
        }, DELAY_MILLISECONDS);
      } else if (harm === "half") {
        from.removeAllListeners("data").resume();
        to.end();
      } else this.#harm(harm);
    });
    from.on("end", () => {
      if (wasReset(from)) return;
      isEnded = true;
      if (this.#lost === "open" && !isHeld) to.end();
    });
    from.on("error", () => {
      if (this.#lost === "open" || this.#lost === "cut") to.resetAndDestroy();
    });
    from.on("close", () => {
      if (--this.#open === 0) this.over();
      // A connection that was refused, or that nobody can write to any more.
      else if (this.#lost === "open" && !from.readableEnded) to.destroy();
    });
  }

  #harm(harm: "cut" | "reset" | "hole" | "deaf"): void {
    const both = [this.#client, this.#server];
    if (harm === "reset") {
      this.reset();
      return;
    }
    this.#lost = harm;
    for (const socket of both) {
      if (harm === "cut") socket.end();
      if (harm === "deaf") socket.pause();
      else socket.resume();
    }
  }
}
