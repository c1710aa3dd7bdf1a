// The hidden server of the benchmark, a program of its own: one http.Server, parked on the relay and listening for haproxy.
//   wrk -> relay ==tunnel==> server        wrk -> haproxy -> server
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { park } from "../../app/agent/agent.ts";
import { SIZES } from "./sizes.ts";

/** More than the load has connections, less than the relay takes for one id. */
const MAX_TUNNELS = 96;

const bodies = new Map(
  SIZES.map(({ name, octets }) => [`/${name}`, Buffer.alloc(octets, "x")]),
);

const server = createServer((request, response) => {
  const body = bodies.get(request.url ?? "");
  if (body === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    "Content-Type": "text/plain",
    "Content-Length": body.length,
  });
  response.end(body);
});

const relay = process.argv[2] ?? "";
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(`listening on ${port}`);
  const agent = park(server, { relay, max: MAX_TUNNELS });
  agent.on("up", () => {
    console.log("parked");
  });
  agent.on("trouble", (reason) => {
    console.error(`not parked: ${reason}`);
  });
});
