// Our own routers, which imitate what is not to be had here, as programs beside the test.
import { join } from "node:path";
import { PROJECT, Program } from "../programs.ts";
import type { RouterKind } from "./router.ts";

function own(name: string, file: string): RouterKind {
  return {
    name,
    programs: [],
    async start(relayPort, cutSeconds) {
      const program = new Program(
        process.execPath,
        [
          ...["--import", "tsx", join(PROJECT, "test/support/routers", file)],
          ...[String(relayPort), String(cutSeconds)],
        ],
        { cwd: PROJECT },
      );
      const [, port] = await program.prints(/^listening on (\d+)$/m);
      return { name, port: Number(port) };
    },
  };
}

export const HEROKU: RouterKind = own("like Heroku", "heroku.ts");
export const CLOUDFLARE: RouterKind = own("like Cloudflare", "cloudflare.ts");
