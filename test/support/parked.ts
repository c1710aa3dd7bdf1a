// A relay and an agent as the programs that users run, and what they say.
import { expect } from "chai";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { issue, type Issued } from "../../app/issue.ts";
import { checkSettings } from "../../app/relay/options.ts";
import { join } from "node:path";
import { afterThisTest } from "./cleanup.ts";
import {
  PROJECT,
  Program,
  run,
  startRelayProgram,
  startRendezvous,
} from "./programs.ts";
import { RELAY_SECRET } from "./relay.ts";

/** No way out that the machine's own environment names. */
export const NO_PROXIES: NodeJS.ProcessEnv = Object.fromEntries(
  ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].flatMap((name) => [
    [name, ""],
    [name.toUpperCase(), ""],
  ]),
);

export interface RunningRelay {
  readonly program: Program;
  readonly port: number;
}

/** The relay program with the tests' secret. */
export async function startRelayHere(
  env: NodeJS.ProcessEnv = {},
): Promise<RunningRelay> {
  return startRelayProgram({ RELAY_SECRET, LOG_LEVEL: "info", ...env });
}

/** What the owner of an id on this relay has been given. */
export function issueFor(
  id: string,
  port: number,
  { baseDomain, scheme = "http", host = "127.0.0.1" } = {} as {
    baseDomain?: string;
    scheme?: string;
    host?: string;
  },
): Issued {
  const settings = checkSettings({ relaySecret: RELAY_SECRET, baseDomain });
  return issue(id, {
    ...settings,
    relay: new URL(`${scheme}://${host}:${port}`),
  });
}

/** The agent program, not waited for. */
export function startAgent(
  id: string,
  relayPort: number,
  service: number | string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Program {
  const { url } = issueFor(id, relayPort);
  return startRendezvous(["park", url, String(service), ...args], {
    ...NO_PROXIES,
    ...env,
  });
}

/** The agent program, once it is up. */
export async function parkProgram(
  ...args: Parameters<typeof startAgent>
): Promise<Program> {
  const agent = startAgent(...args);
  await agent.prints(/ is up: /);
  return agent;
}

/** A hidden server of test/support/services, once it listens, and where. */
export async function startService(
  name: "bulk" | "moody",
  port = 0,
): Promise<{ service: Program; port: number }> {
  const service = new Program(
    process.execPath,
    [
      "--import",
      "tsx",
      join(PROJECT, "test/support/services", `${name}.ts`),
      "serve",
      String(port),
    ],
    { cwd: PROJECT },
  );
  const [, bound] = await service.prints(/^listening on (\d+)$/m);
  return { service, port: Number(bound) };
}

/** A hidden server in this process that says hello, and where it listens. */
export async function startHello(): Promise<number> {
  const server = createServer((_request, answer) => answer.end("hello\n"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

export interface Fetched {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Runs curl to its end, and takes the last answer apart. */
export async function curl(...args: readonly string[]): Promise<Fetched> {
  const { code, output } = await run("curl", [
    "--silent",
    "--show-error",
    "--include",
    "--max-time",
    "18",
    "--noproxy",
    args.includes("--proxy") ? "" : "*",
    ...args,
  ]);
  expect(code, output).to.equal(0);
  let [head, body] = cutHead(output);
  // What came before it: 100 and 103, and the challenge that was answered.
  while (
    body.startsWith("HTTP/1.") &&
    /^HTTP\/1\.[01] (1\d\d|401)/.test(head.split("\r\n", 1)[0] ?? "")
  )
    [head, body] = cutHead(body);
  return { status: Number(head.split(" ")[1]), head, body };
}

function cutHead(text: string): [head: string, body: string] {
  const end = text.indexOf("\r\n\r\n");
  return end < 0 ? [text, ""] : [text.slice(0, end + 2), text.slice(end + 4)];
}

/** Programs that met something they had not foreseen say so in a stack. */
export function expectNoCrash(...programs: readonly Program[]): void {
  for (const { output } of programs) {
    expect(output).not.to.match(
      /^\s+at .+:\d+:\d+\)?$|unhandled|uncaught|Warning:|"level":[56]0/im,
    );
  }
}
