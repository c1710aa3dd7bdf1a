// Apache httpd with mod_proxy: any Upgrade by mod_proxy_http, or WebSocket alone by mod_proxy_wstunnel.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, freePort, listening, scratch } from "../programs.ts";
import type { RouterKind } from "./router.ts";

/** Where Debian keeps them. */
const MODULES = "/usr/lib/apache2/modules";

/** A configuration for a server in a directory of its own, which has to be writable for all: Apache gives up root. */
export function apacheConfiguration(
  own: string,
  port: number,
  modules: readonly string[],
  lines: string,
): string {
  const loaded = ["mpm_event", "authz_core", "proxy", ...modules]
    .map((module) => `LoadModule ${module}_module ${MODULES}/mod_${module}.so`)
    .join("\n");
  return `${loaded}
ServerRoot ${own}
ServerName 127.0.0.1
PidFile ${own}/pid
DefaultRuntimeDir ${own}
Mutex pthread
ErrorLog ${own}/error.log
User nobody
Group nogroup
Listen 127.0.0.1:${port}
ProxyPreserveHost On
${lines}
`;
}

function apache(
  name: string,
  modules: readonly string[],
  lines: (relay: string) => string,
): RouterKind {
  return {
    name,
    programs: ["apache2"],
    async start(relayPort, cutSeconds) {
      const port = await freePort();
      const own = scratch();
      chmodSync(own, 0o777);
      const file = join(own, "httpd.conf");
      writeFileSync(
        file,
        apacheConfiguration(
          own,
          port,
          ["headers", ...modules],
          `ThreadsPerChild 256
ThreadLimit 256
MaxRequestWorkers 256
Timeout ${cutSeconds}
ProxyTimeout ${cutSeconds}
LimitRequestBody 0
RequestHeader set X-Forwarded-Proto http
${lines(`127.0.0.1:${relayPort}/`)}`,
        ),
      );
      // All in one process: nothing of it is left when that is killed.
      new Program("apache2", ["-X", "-f", file]);
      await listening(port);
      return { name, port };
    },
  };
}

export const APACHE: readonly RouterKind[] = [
  apache(
    "apache",
    ["proxy_http"],
    (relay) => `ProxyPass "/" "http://${relay}" upgrade=any flushpackets=on`,
  ),
  apache(
    "apache with wstunnel",
    ["proxy_http", "proxy_wstunnel", "rewrite"],
    (relay) => `RewriteEngine On
RewriteCond %{HTTP:Upgrade} =websocket [NC]
RewriteRule "^/(.*)" "ws://${relay}$1" [P,L]
ProxyPass "/" "http://${relay}" flushpackets=on`,
  ),
];
