// Much data, many visitors, and a visitor who does not read.
//   visitor: curl and sockets -> relay ==tunnels==> agent -> hidden server: test/support/services/bulk.ts
import { expect } from "chai";
import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { PUBLIC_READS, readsPublicly } from "../support/adoption.ts";
import {
  expectNoCrash,
  parkProgram,
  startRelayHere,
  startService,
} from "../support/parked.ts";
import { PROJECT, Program, needs } from "../support/programs.ts";
import { connectRaw } from "../support/raw.ts";
import { memoryOf } from "../support/usage.ts";

const GIGABYTE = 1024 * 1024 * 1024;
const MOST_MEGABYTES = 150;

async function putBulk(env: NodeJS.ProcessEnv = {}) {
  const [relay, { service, port: servicePort }] = await Promise.all([
    startRelayHere(env),
    startService("bulk"),
  ]);
  const agent = await parkProgram("pi", relay.port, servicePort);
  return {
    ...relay,
    agent,
    service,
    url: (path: string) =>
      `http://127.0.0.1:${relay.port}/${path}?rendezvous=pi`,
  };
}

/** Runs a line of shell; `$1` and so on are the arguments. Looks at the relay's memory whenever curl tells its progress. */
async function pour(line: string, args: string[], relay: Program) {
  const shell = new Program("sh", ["-c", line, "sh", ...args], {
    cwd: PROJECT,
  });
  const watch = (): void => {
    expect(memoryOf(relay).now).to.be.lessThan(MOST_MEGABYTES);
  };
  shell.child.stderr.on("data", watch);
  expect(await shell.exited, shell.output).to.equal(0);
  const { most } = memoryOf(relay);
  console.log(`      the relay took ${most.toFixed(0)} MB at most`);
  expect(most).to.be.lessThan(MOST_MEGABYTES);
  return shell.output;
}

describe("much data", function () {
  this.timeout(60_000);

  it("2 GB come down whole while the relay stays small", async function () {
    needs(this, "curl", "openssl");
    const { program, agent, service, url } = await putBulk();
    const octets = 2 * GIGABYTE;
    const output = await pour(
      'curl --fail --noproxy "*" "$1" | openssl dgst -sha256',
      [url(String(octets))],
      program,
    );
    const [, sum] = await service.prints(
      new RegExp(`sent ${octets} octets, (\\w{64})`),
    );
    expect(output).to.include(`= ${sum ?? ""}`);
    expectNoCrash(program, agent, service);
  });

  it("2 GB go up whole while the relay stays small", async function () {
    needs(this, "curl", "openssl");
    const { program, agent, service, url } = await putBulk();
    const octets = 2 * GIGABYTE;
    const output = await pour(
      '"$1" --import tsx "$2" write "$3" | curl --fail --noproxy "*" -H Expect: -T - "$4"',
      [
        process.execPath,
        join(PROJECT, "test/support/services/bulk.ts"),
        String(octets),
        url("up"),
      ],
      program,
    );
    const sum = /wrote (\w{64})/.exec(output)?.[1] ?? "no sum";
    expect(output).to.include(`got ${octets} octets, ${sum}`);
    expectNoCrash(program, agent, service);
  });
});

/** So many visitors in the same moment, each on a connection of his own: how often each status and length came. */
async function storm(
  count: number,
  url: string,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const visit = async (): Promise<void> => {
    const request = get(url, { agent: new Agent() });
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    let length = 0;
    for await (const octets of answer) length += (octets as Buffer).length;
    const retry = answer.headers["retry-after"];
    const seen =
      answer.statusCode === 200
        ? `200 with ${String(length)} octets`
        : `${String(answer.statusCode)}, again after ${String(retry)} s`;
    counts[seen] = (counts[seen] ?? 0) + 1;
  };
  await Promise.all(Array.from({ length: count }, visit));
  return counts;
}

describe("1 000 visitors at once", () => {
  it("are all served where so many may wait", async () => {
    // Half of the places are for visitors from elsewhere.
    const { program, agent, service, url } = await putBulk({
      MAX_WAITING_PER_SERVER: "2000",
    });
    expect(await storm(1000, url("1000"))).to.deep.equal({
      "200 with 1000 octets": 1000,
    });
    expect(memoryOf(program).most).to.be.lessThan(MOST_MEGABYTES);
    expectNoCrash(program, agent, service);
  });

  it("are all answered by default: those for whom there is no place are told when to come again", async () => {
    const { program, agent, service, url } = await putBulk();
    const counts = await storm(1000, url("1000"));
    const { "200 with 1000 octets": served = 0, ...others } = counts;
    const { "503, again after 2 s": refused = 0, ...strange } = others;
    expect(strange).to.deep.equal({});
    expect(served + refused).to.equal(1000);
    // At least those of one address who may wait.
    expect(served).to.be.at.least(256);
    expect(await storm(200, url("1000"))).to.deep.equal({
      "200 with 1000 octets": 200,
    });
    expectNoCrash(program, agent, service);
  });
});

describe("a visitor who does not read", () => {
  for (const how of ["with a length", "in chunks"]) {
    it(`holds up nobody else, and fills nobody's memory, when the answer comes ${how}`, async () => {
      const { program, agent, service, url } = await putBulk();
      const { pathname, search, port } = new URL(url(String(GIGABYTE)));
      const idlers = await Promise.all(
        Array.from({ length: 3 }, async () => {
          const idler = await connectRaw(Number(port));
          idler.write(
            `GET ${pathname}${search} HTTP/1.1\r\nHost: x\r\n${how === "in chunks" ? "X-Chunked: 1\r\n" : ""}\r\n`,
          );
          await idler.take("\r\n\r\n");
          idler.socket.pause();
          return idler;
        }),
      );
      for (let round = 0; round < 10; round++) {
        await Promise.all(
          Array.from({ length: 10 }, async () => {
            const answer = await fetch(url("100000"));
            expect(answer.status).to.equal(200);
            expect((await answer.arrayBuffer()).byteLength).to.equal(100_000);
          }),
        );
      }
      for (const idler of idlers) {
        expect(idler.closed).to.equal(undefined);
        expect(idler.received.length).to.be.lessThan(100 * 1024 * 1024);
      }
      expect(memoryOf(program).most).to.be.lessThan(MOST_MEGABYTES);
      expect(memoryOf(agent).most).to.be.lessThan(MOST_MEGABYTES);
      // He goes, and the hidden server hears of it.
      for (const idler of idlers) idler.socket.destroy();
      await service.prints(/(was cut off\s+([^]*)){3}/);
      expectNoCrash(program, agent, service);
    });
  }
});

describe("a relay program", () => {
  it("says at its start when Node allows only the slower way to read", async () => {
    const cases = [
      { env: {}, slower: readsPublicly },
      { env: { NODE_OPTIONS: PUBLIC_READS }, slower: true },
      { env: { NODE_OPTIONS: "" }, slower: false },
    ];
    for (const { env, slower } of cases) {
      const { program } = await startRelayHere(env);
      const said = /"level":40,.*slower way to read/.test(program.output);
      expect(said, program.output).to.equal(slower);
    }
  });
});
