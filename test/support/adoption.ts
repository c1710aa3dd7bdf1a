// Which way accepted sockets are read: `npm run test:public` is a run on the public API alone.
import { join } from "node:path";
import { PROJECT } from "./programs.ts";

const NAME = "public-reads.cjs";

/** NODE_OPTIONS of a program that is to read through the public API alone. */
export const PUBLIC_READS = `--require "${join(PROJECT, "test/support", NAME)}"`;

/** Whether this process, and every one that it starts, reads so. */
export const readsPublicly = (process.env["NODE_OPTIONS"] ?? "").includes(NAME);
