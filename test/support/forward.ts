// A forward proxy that refuses CONNECT and passes requests in absolute form on, an Upgrade too.
import { connect } from "node:net";
import { afterThisTest } from "./cleanup.ts";
import { startTcp } from "./tcp.ts";

export interface ForwardProxy {
  /** The request line of each connection. */
  readonly asked: string[];
}

/** Starts it, and names it as the way out of this process until the test is over. */
export async function startForwardProxy(): Promise<ForwardProxy> {
  const asked: string[] = [];
  const port = await startTcp((client) => {
    client.once("data", (octets: Buffer) => {
      const head = octets.toString("latin1");
      const line = head.slice(0, head.indexOf("\r\n"));
      asked.push(line);
      const target = line.split(" ")[1] ?? "";
      if (!target.startsWith("http://")) {
        client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        return;
      }
      const url = new URL(target);
      client.pause();
      const server = connect({
        port: Number(url.port),
        host: url.hostname,
        allowHalfOpen: true,
      });
      server.on("error", () => client.destroy());
      server.on("close", () => client.destroy());
      client.on("close", () => server.destroy());
      const path = `${url.pathname}${url.search}`;
      server.write(Buffer.from(head.replace(target, path), "latin1"));
      client.pipe(server).pipe(client);
    });
  });
  const former = process.env;
  const proxy = `http://127.0.0.1:${port}`;
  const set = {
    http_proxy: proxy,
    HTTP_PROXY: proxy,
    no_proxy: "",
    NO_PROXY: "",
  };
  process.env = { ...former, ...set };
  afterThisTest(() => {
    process.env = former;
  });
  return { asked };
}
