// Makes a server's sockets look as they would on a Node that does not let their handles be taken over.
import type { Server, Socket } from "node:net";

export function forbidAdoption(server: Server): void {
  server.prependListener("connection", (socket: Socket) => {
    const { _handle: handle } = socket as unknown as { _handle: object };
    Object.defineProperty(handle, "useUserBuffer", { value: undefined });
  });
}
