// The hidden server of the TCP benchmark, a program of its own: it listens for haproxy, parks legacy tunnels, and stands behind an agent.
//   load -> relay ==tunnel==> service        load -> haproxy -> service
// The first octet that comes says what is wanted: POUR or ECHO.
import { request } from "node:http";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { park } from "../../app/agent/agent.ts";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import { POUR, TARGET_PORT } from "./tcpcases.ts";

const CHUNK = Buffer.alloc(256 * 1024, "x");
/** More than the load ever has streams on agent tunnels, less than the relay takes for one id. */
const MAX_TUNNELS = 96;

const [legacy = "", tunnels = "", agent = ""] = process.argv.slice(2);

/** Serves one stream, of which the first octets may have come. */
function serve(socket: Socket): void {
  socket.on("error", () => undefined);
  socket.setNoDelay(true);
  socket.once("data", (first: Buffer) => {
    if (first[0] === POUR.charCodeAt(0)) pour(socket);
    else {
      socket.on("data", (octets: Buffer) => socket.write(octets));
      if (first.length > 1) socket.write(first.subarray(1));
    }
  });
}

/** Sends until nobody takes it any more. */
function pour(socket: Socket): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(CHUNK));
  };
  socket.on("drain", more).resume();
  more();
}

/** Leaves one legacy tunnel at the relay, and another when it is claimed. */
async function parkLegacy(url: URL): Promise<void> {
  const token = await makeToken(url.username, decodeSecret(url.password));
  const asked = request({
    host: url.hostname,
    port: url.port,
    method: "CONNECT",
    path: `uuid:${url.username}?response=${token}`,
  });
  return new Promise((resolve, reject) => {
    asked.on("connect", (answer, socket, early) => {
      if (answer.statusCode !== 200) {
        reject(new Error(`parking was answered ${answer.statusCode ?? 0}`));
        return;
      }
      if (early.length > 0) socket.unshift(early);
      socket.once("data", () => {
        void parkLegacy(url);
      });
      serve(socket);
      resolve();
    });
    asked.on("error", reject).end();
  });
}

const service = createServer(serve).listen(0, "127.0.0.1", () => {
  const { port } = service.address() as AddressInfo;
  void begin(port);
});

async function begin(port: number): Promise<void> {
  console.log(`listening on ${port}`);
  const url = new URL(legacy);
  for (let i = 0; i < Number(tunnels); i++) await parkLegacy(url);
  const place = { host: "127.0.0.1", port };
  await park(undefined, {
    relay: agent,
    tcp: new Map([[TARGET_PORT, place]]),
    max: MAX_TUNNELS,
  }).ready();
  console.log("parked");
}
