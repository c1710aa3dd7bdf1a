// Shared caches in front of the relay, which read fields each in a way of its own.
//   visitor -> cache: squid, apache, nginx, varnish -> relay ==tunnel==> hidden servers
import { expect } from "chai";
import { createServer } from "node:http";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { afterThisTest } from "../support/cleanup.ts";
import { parkProgram, startRelayHere } from "../support/parked.ts";
import {
  Program,
  freePort,
  listening,
  needs,
  scratch,
} from "../support/programs.ts";
import { apacheConfiguration } from "../support/routers/apache.ts";

interface Cache {
  readonly name: string;
  readonly program: string;
  readonly configuration: (own: string, port: number, relay: number) => string;
  readonly args: (file: string, own: string, port: number) => string[];
}

const CACHES: readonly Cache[] = [
  {
    name: "squid",
    program: "squid",
    configuration: (
      own,
      port,
      relay,
    ) => `http_port 127.0.0.1:${port} accel defaultsite=relay.test no-vhost
cache_peer 127.0.0.1 parent ${relay} 0 no-query originserver no-digest login=PASSTHRU
http_access allow all
cache_mem 16 MB
pid_filename none
access_log none
cache_log ${own}/cache.log
coredump_dir ${own}
pinger_enable off
netdb_filename none
visible_hostname relay.test
shutdown_lifetime 0 seconds
`,
    args: (file) => ["-N", "-f", file],
  },
  {
    name: "apache",
    program: "apache2",
    configuration: (own, port, relay) =>
      apacheConfiguration(
        own,
        port,
        ["proxy_http", "cache", "socache_shmcb", "cache_socache"],
        `ProxyPass "/" "http://127.0.0.1:${relay}/"
CacheEnable socache /
CacheSocache shmcb`,
      ),
    args: (file) => ["-X", "-f", file],
  },
  {
    name: "nginx",
    program: "nginx",
    configuration: (
      own,
      port,
      relay,
    ) => `daemon off; master_process off; pid ${own}/pid; error_log stderr;
events {}
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(" ")}
  proxy_cache_path ${own}/kept keys_zone=kept:1m;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${relay};
      proxy_set_header Host $http_host;
      proxy_cache kept;
    }
  }
}
`,
    args: (file, own) => ["-c", file, "-p", own],
  },
  {
    name: "varnish",
    program: "varnishd",
    // By itself it keeps nothing for who has a cookie.
    configuration: (_own, _port, relay) => `vcl 4.1;
backend relay { .host = "127.0.0.1"; .port = "${relay}"; }
sub vcl_recv { return (hash); }
`,
    args: (file, own, port) => [
      ...["-F", "-j", "none", "-T", "none", "-s", "malloc,16m"],
      ...["-n", join(own, "work"), "-f", file, "-a", `127.0.0.1:${port}`],
      ...["-p", "vsl_space=1M"],
    ],
  },
];

/** Field lines of mallory's answers, which would have them kept for everybody. */
const LURES = [
  ["Cache-Control", "public, max-age=600"],
  ["Cache-Control", 'public, max-age=600, x="', "Vary", 'x"'],
  ["Cache-Control", 'public, max-age=600, x="\\"', "Vary", 'x, "\\"'],
  ["Cache-Control", 'private="x", public, s-maxage=600', "Vary", '"'],
  ["Edge-Control", "cache-maxage=600", "Cache-Control", "s-maxage=600"],
];

/** A hidden server whose pages say whose they are, behind an agent; gives what it was asked for. */
async function serve(id: string, relayPort: number): Promise<string[]> {
  const asked: string[] = [];
  const server = createServer(({ url = "" }, answer) => {
    asked.push(url);
    const lure = id === "mallory" ? LURES[Number(url.slice(1))] : undefined;
    const fields = lure ?? ["Cache-Control", "public, max-age=600"];
    const page = `page of ${id}`;
    // Apache keeps nothing that does not say its length.
    answer.writeHead(200, [...fields, "Content-Length", String(page.length)]);
    answer.end(page);
  });
  server.listen(0, "127.0.0.1");
  afterThisTest(() => server.close());
  const { port } = await new Promise<AddressInfo>((resolve) =>
    server.on("listening", () => {
      resolve(server.address() as AddressInfo);
    }),
  );
  await parkProgram(id, relayPort, port);
  return asked;
}

describe("a cache in front of the relay", () => {
  for (const { name, program, configuration, args } of CACHES) {
    it(`gives no server's answer to another's visitors: ${name}`, async function () {
      this.timeout(60_000);
      needs(this, program, ...(program === "varnishd" ? ["cc"] : []));
      const relay = await startRelayHere({ TRUST_PROXY: "1" });
      await serve("mallory", relay.port);
      const asked = await serve("victim", relay.port);
      const [port, own] = [await freePort(), scratch()];
      // Squid and Apache give up root.
      chmodSync(own, 0o777);
      const file = join(own, "configuration");
      writeFileSync(file, configuration(own, port, relay.port));
      const cache = new Program(program, args(file, own, port));
      // Varnish ends its worker too when it is asked to.
      afterThisTest(() => cache.stop("SIGTERM"));
      await listening(port);
      // An address that names one server is kept, so that this is a cache.
      const named = `http://127.0.0.1:${port}/kept?rendezvous=victim`;
      for (let i = 0; i < 2; i++)
        expect(await (await fetch(named)).text()).to.equal("page of victim");
      expect(asked).to.deep.equal(["/kept"]);
      const login = Buffer.from("victim:").toString("base64");
      for (const [i, lure] of LURES.entries()) {
        for (const [who, names] of [
          ["mallory", { Cookie: "rendezvous=mallory" }],
          ["victim", { Cookie: "rendezvous=victim" }],
          ["victim", { Authorization: `Basic ${login}` }],
          ["mallory", { Cookie: "rendezvous=mallory" }],
        ] as const) {
          const answer = await fetch(`http://127.0.0.1:${port}/${i}`, {
            headers: names,
          });
          expect(await answer.text(), lure.join()).to.equal(`page of ${who}`);
        }
      }
    });
  }
});
