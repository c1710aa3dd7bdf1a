// Varnish that caches nothing. As its documents show, it becomes a pipe for an Upgrade, and for methods it does not know.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterThisTest } from "../cleanup.ts";
import { Program, freePort, listening, scratch } from "../programs.ts";
import type { RouterKind } from "./router.ts";

const NAME = "varnish";

export const VARNISH: RouterKind = {
  name: NAME,
  // It compiles its configuration.
  programs: ["varnishd", "cc"],
  async start(relayPort, cutSeconds) {
    const port = await freePort();
    const own = scratch();
    chmodSync(own, 0o755);
    const file = join(own, "relay.vcl");
    writeFileSync(
      file,
      `vcl 4.1;
backend relay {
  .host = "127.0.0.1";
  .port = "${relayPort}";
  .first_byte_timeout = ${cutSeconds}s;
  .between_bytes_timeout = ${cutSeconds}s;
}
sub vcl_recv {
  set req.http.X-Forwarded-Proto = "http";
  if (req.http.Upgrade) {
    return (pipe);
  }
  call vcl_req_host;
  call vcl_req_method;
  return (pass);
}
sub vcl_pipe {
  if (req.http.Upgrade) {
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = req.http.Connection;
  }
}
`,
    );
    const settings = {
      pipe_timeout: cutSeconds,
      timeout_idle: cutSeconds,
      idle_send_timeout: cutSeconds,
      vsl_space: "1M",
    };
    const program = new Program("varnishd", [
      ...["-F", "-j", "none", "-T", "none", "-s", "malloc,16m"],
      ...["-n", join(own, "work"), "-f", file, "-a", `127.0.0.1:${port}`],
      ...Object.entries(settings).flatMap(([setting, value]) => [
        "-p",
        `${setting}=${value}`,
      ]),
    ]);
    // Asked to, it ends its worker too before the directory goes.
    afterThisTest(() => program.stop("SIGTERM"));
    await listening(port);
    return { name: NAME, port };
  },
};
