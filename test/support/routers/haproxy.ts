// HAProxy in HTTP mode. Any visitor's request may take any idle connection to the relay.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, freePort, listening, scratch } from "../programs.ts";
import type { RouterKind } from "./router.ts";

const NAME = "haproxy";

export const HAPROXY: RouterKind = {
  name: NAME,
  programs: ["haproxy"],
  async start(relayPort, cutSeconds) {
    const port = await freePort();
    const file = join(scratch(), "haproxy.cfg");
    writeFileSync(
      file,
      `global
  maxconn 2000
defaults
  mode http
  option forwardfor
  no option http-server-close
  http-reuse always
  timeout connect 5s
  timeout client ${cutSeconds}s
  timeout server ${cutSeconds}s
  timeout tunnel ${cutSeconds}s
frontend visitors
  bind 127.0.0.1:${port}
  http-request set-header X-Forwarded-Proto http
  default_backend relay
backend relay
  server relay 127.0.0.1:${relayPort}
`,
    );
    new Program("haproxy", ["-db", "-f", file]);
    await listening(port);
    return { name: NAME, port };
  },
};
