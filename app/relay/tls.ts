// TLS on the relay's port: takes its sockets, and hands on those whose handshake is done.
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import {
  createSecureContext,
  createServer,
  type Server,
  type TLSSocket,
} from "node:tls";
import { tellFailure } from "../errors.ts";
import { socketUnder } from "../wire/link.ts";
import { SettingsError, type Certificate } from "./options.ts";

/** How long the first octet may take, and the handshake after it. */
const HANDSHAKE_MILLISECONDS = 10 * 1000;
/** How long somebody who speaks no TLS has to read why he is not served. */
const REFUSED_MILLISECONDS = 5 * 1000;
/** The first octet of a TLS record of a handshake (RFC 8446 5.1). */
const HANDSHAKE_RECORD = 22;

export class Tls {
  readonly #server: Server;
  /** Sockets whose handshake is not done; its end, or their close, takes them out. */
  readonly #arriving = new Set<Socket>();

  /**
   * @throws SettingsError for a certificate that cannot be used
   */
  constructor(certificate: Certificate, take: (stream: TLSSocket) => void) {
    check(certificate);
    this.#server = createServer({
      ...certificate,
      // Upgrade and CONNECT as they are used here do not exist in HTTP/2.
      ALPNProtocols: ["http/1.1"],
      handshakeTimeout: HANDSHAKE_MILLISECONDS,
    });
    this.#server.on("secureConnection", (stream) => {
      const socket = socketUnder(stream);
      if (socket !== undefined) this.#arriving.delete(socket);
      stream.allowHalfOpen = true;
      take(stream);
    });
    this.#server.on("tlsClientError", (_error, stream) => {
      stream.destroy();
    });
  }

  /**
   * New connections get this certificate; those that are open keep theirs.
   * @throws SettingsError for one that cannot be used; the old one stays
   */
  setCertificate(certificate: Certificate): void {
    check(certificate);
    this.#server.setSecureContext({ ...certificate });
  }

  /** Begins with an accepted socket, which must be paused and have nothing read. */
  accept(socket: Socket): void {
    this.#arriving.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => this.#arriving.delete(socket));
    socket.setTimeout(HANDSHAKE_MILLISECONDS, () => socket.destroy());
    socket.once("readable", () => {
      this.#begin(socket);
    });
    socket.read(0);
  }

  /** Closes what is still in its handshake. */
  close(): void {
    for (const socket of this.#arriving) socket.destroy();
  }

  #begin(socket: Socket): void {
    const first: unknown = socket.read();
    // The end came first.
    if (!Buffer.isBuffer(first)) {
      socket.destroy();
      return;
    }
    if (first[0] !== HANDSHAKE_RECORD) {
      refusePlain(socket);
      return;
    }
    socket.setTimeout(0);
    socket.unshift(first);
    // Who ends his direction in the handshake has left; afterwards he may still read.
    socket.allowHalfOpen = false;
    // Node documents that connections may be given to a server so.
    this.#server.emit("connection", socket);
  }
}

/** Most who speak no TLS here have typed http: for https:. */
function refusePlain(socket: Socket): void {
  const { status, reason, fields, body } = tellFailure({
    code: "bad_request",
    detail: "this port speaks HTTPS: use an https: URL",
    requestId: randomUUID(),
  });
  let head = `HTTP/1.1 ${String(status)} ${reason}\r\n`;
  for (let i = 0; i < fields.length; i += 2)
    head += `${fields[i] ?? ""}: ${fields[i + 1] ?? ""}\r\n`;
  socket.setTimeout(0);
  // Whatever still comes does not put it off.
  const deadline = setTimeout(() => socket.destroy(), REFUSED_MILLISECONDS);
  socket.once("close", () => {
    clearTimeout(deadline);
  });
  socket.resume().on("end", () => socket.destroy());
  socket.end(`${head}Connection: close\r\n\r\n${body}`);
}

function check({ cert, key }: Certificate): void {
  try {
    // Node takes an empty text for none.
    if (cert === "" || key === "") throw new Error("one of them is empty");
    createSecureContext({ cert, key });
  } catch (error) {
    throw new SettingsError(
      `TLS_CERT and TLS_KEY must be a certificate and its key, both in PEM: ${error instanceof Error ? error.message : String(error)}. Leave both out for plain HTTP.`,
    );
  }
}
