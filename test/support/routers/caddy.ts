// Caddy's reverse proxy. Its only idle cut is for what comes from the relay: what the client says does not count.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, freePort, listening, scratch } from "../programs.ts";
import type { RouterKind } from "./router.ts";

const NAME = "caddy";

export const CADDY: RouterKind = {
  name: NAME,
  programs: ["caddy"],
  async start(relayPort, cutSeconds) {
    const port = await freePort();
    const own = scratch();
    const file = join(own, "Caddyfile");
    writeFileSync(
      file,
      `{
	admin off
	auto_https off
}
http://:${port} {
	bind 127.0.0.1
	reverse_proxy 127.0.0.1:${relayPort} {
		flush_interval -1
		transport http {
			read_timeout ${cutSeconds}s
			write_timeout ${cutSeconds}s
		}
	}
}
`,
    );
    // It keeps its certificates and its last configuration in the user's home.
    const env = { HOME: own, XDG_DATA_HOME: own, XDG_CONFIG_HOME: own };
    new Program("caddy", ["run", "--config", file, "--adapter", "caddyfile"], {
      env,
    });
    await listening(port);
    return { name: NAME, port };
  },
};
