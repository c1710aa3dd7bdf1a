// A TCP connection to say exactly what a test wants to say, and to read what comes until something is there.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterThisTest } from "./cleanup.ts";

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: string;
}

export class Raw {
  readonly socket: Socket;
  /** Octets that have come and were not taken, in latin1. */
  received = "";
  ended = false;
  /** How the connection closed: undefined while it is open. */
  closed: "clean" | "reset" | undefined;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("latin1");
    const wake = (): void => {
      this.#wake();
    };
    socket.on("data", (text: string) => {
      this.received += text;
      wake();
    });
    socket.on("end", () => {
      this.ended = true;
      wake();
    });
    socket.on("error", () => (this.closed = "reset"));
    socket.on("close", () => {
      this.closed ??= "clean";
      wake();
    });
  }

  write(text: string | Buffer): this {
    if (typeof text === "string") this.socket.write(text, "latin1");
    else this.socket.write(text);
    return this;
  }

  /** Waits until `text` has come, and takes everything up to its end. */
  async take(text: string): Promise<string> {
    await this.#until(() => this.received.includes(text), `"${text}"`);
    return this.#cut(this.received.indexOf(text) + text.length);
  }

  async takeOctets(count: number): Promise<string> {
    await this.#until(() => this.received.length >= count, `${count} octets`);
    return this.#cut(count);
  }

  /** Waits for one answer, framed by Content-Length, chunks, or the end of the connection. */
  async answer(method = "GET"): Promise<RawAnswer> {
    const head = await this.take("\r\n\r\n");
    const [line = "", ...lines] = head.trimEnd().split("\r\n");
    const status = Number(line.split(" ")[1]);
    const fields: Record<string, string> = {};
    for (const field of lines) {
      const colon = field.indexOf(":");
      const name = field.slice(0, colon).toLowerCase();
      const value = field.slice(colon + 1).trim();
      fields[name] = name in fields ? `${fields[name] ?? ""}, ${value}` : value;
    }
    let body = "";
    if (method === "HEAD" || status < 200 || status === 204 || status === 304) {
      // No body.
    } else if (fields["content-length"] !== undefined) {
      body = await this.takeOctets(Number(fields["content-length"]));
    } else if (fields["transfer-encoding"] === "chunked") {
      for (;;) {
        const size = parseInt(await this.take("\r\n"), 16);
        if (size === 0) break;
        body += (await this.takeOctets(size + 2)).slice(0, -2);
      }
      while ((await this.take("\r\n")) !== "\r\n");
    } else {
      await this.end();
      body = this.#cut(this.received.length);
    }
    return { status, head, fields, body };
  }

  /** Waits until the other side has ended or closed. */
  async end(): Promise<void> {
    await this.#until(() => this.ended || this.closed !== undefined, "the end");
  }

  async close(): Promise<"clean" | "reset"> {
    await this.#until(() => this.closed !== undefined, "the close");
    return this.closed ?? "clean";
  }

  #cut(count: number): string {
    const text = this.received.slice(0, count);
    this.received = this.received.slice(count);
    return text;
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.closed !== undefined) {
        throw new Error(
          `closed (${this.closed}) before ${what}; came: ${JSON.stringify(this.received)}`,
        );
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** Connects to a port of 127.0.0.1, from an address that may be another one of 127.0.0.0/8. */
export async function connectRaw(
  port: number,
  localAddress = "127.0.0.1",
): Promise<Raw> {
  const socket = connect({
    port,
    host: "127.0.0.1",
    localAddress,
    allowHalfOpen: true,
  });
  afterThisTest(() => socket.destroy());
  const raw = new Raw(socket);
  await once(socket, "connect");
  return raw;
}
