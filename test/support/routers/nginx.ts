// nginx: as the documents of WebSocket have it, with nothing said about Upgrade, and with connections to the relay that it keeps.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, freePort, listening, scratch } from "../programs.ts";
import type { RouterKind } from "./router.ts";

const UPGRADE = `proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";`;

const UPGRADE_OR_KEEP = `proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;`;

function nginx(
  name: string,
  lines: string,
  keepalive: "" | "keepalive 8;",
): RouterKind {
  return {
    name,
    programs: ["nginx"],
    async start(relayPort, cutSeconds) {
      const port = await freePort();
      const own = scratch();
      const file = join(own, "nginx.conf");
      writeFileSync(
        file,
        `daemon off; master_process off; pid ${own}/pid; error_log stderr;
worker_rlimit_nofile 4096;
events { worker_connections 2048; }
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(" ")}
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream relay { server 127.0.0.1:${relayPort}; ${keepalive} }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    location / {
      proxy_pass http://relay;
      ${lines}
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout ${cutSeconds}s;
      proxy_send_timeout ${cutSeconds}s;
    }
  }
}
`,
      );
      new Program("nginx", ["-c", file, "-p", own]);
      await listening(port);
      return { name, port };
    },
  };
}

export const NGINX: readonly RouterKind[] = [
  nginx("nginx", UPGRADE, ""),
  nginx("nginx without Upgrade", "", ""),
  nginx("nginx with keepalive", UPGRADE_OR_KEEP, "keepalive 8;"),
];
