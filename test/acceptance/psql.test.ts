// visitor: psql and scripts -> rendezvous dial -> relay ==tunnels==> agent -> hidden server: PostgreSQL and others
import { expect } from "chai";
import { once } from "node:events";
import { userInfo } from "node:os";
import { join } from "node:path";
import { createServer, type AddressInfo } from "node:net";
import { NO_PROXIES, expectNoCrash } from "../support/parked.ts";
import {
  PROJECT,
  Program,
  freePort,
  needs,
  run,
  scratch,
} from "../support/programs.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { connectRaw } from "../support/raw.ts";
import { until } from "../support/relay.ts";
import {
  RENDEZVOUS,
  offer,
  postgresPrograms,
  startBlackHole,
  startDial,
  startEcho,
  startTcp,
} from "../support/tcp.ts";
import { memoryOf } from "../support/usage.ts";

const MEGABYTE = 1024 * 1024;
const MOST_MEGABYTES = 150;
const WAYS = ["connect", "connect-tcp", "websocket"] as const;
const POSTGRES = join(postgresPrograms(), "postgres");

/** Does it over each way at once. */
async function byEachWay(
  task: (via: (typeof WAYS)[number]) => Promise<void>,
): Promise<void> {
  await Promise.all(WAYS.map(task));
}

/** PostgreSQL on a cluster of this test's own; it does not run as root. */
async function startPostgres(): Promise<number> {
  const own = scratch();
  const data = join(own, "data");
  const isRoot = userInfo().uid === 0;
  const as = isRoot
    ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    : ["env"];
  if (isRoot) await run("chown", ["postgres", own]);
  const [program = "", ...args] = as;
  const made = await run(
    program,
    [
      ...[...args, join(postgresPrograms(), "initdb"), "-D", data],
      ...["-U", "visitor", "-A", "trust", "--no-sync", "--locale=C"],
    ],
    { cwd: own },
  );
  expect(made.code, made.output).to.equal(0);
  const port = await freePort();
  const postgres = new Program(
    program,
    [
      ...[...args, POSTGRES, "-D", data, "-p", String(port), "-F"],
      ...["-c", "listen_addresses=127.0.0.1"],
      ...["-c", "unix_socket_directories="],
    ],
    { cwd: own },
  );
  await postgres.prints(/ready to accept connections/);
  // Its children end with it when it is asked, not when it is killed.
  afterThisTest(() => postgres.stop("SIGINT"));
  return port;
}

/** `rendezvous dial --listen`, and where it listens. */
async function startListener(
  url: string,
  port: number,
): Promise<{ dial: Program; port: number }> {
  const dial = startDial(
    url,
    "pi",
    port,
    "--listen",
    `127.0.0.1:${await freePort()}`,
  );
  const [, bound] = await dial.prints(/^Listening on 127\.0\.0\.1:(\d+) for/m);
  return { dial, port: Number(bound) };
}

const psqlArgs = (port: number): string[] => [
  ...["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
  ...["-h", "127.0.0.1", "-p", String(port), "-U", "visitor", "postgres"],
];

describe("psql through `rendezvous dial --listen`", function () {
  this.timeout(40_000);

  it("runs a session, and several sessions at once", async function () {
    needs(this, "psql", POSTGRES);
    const relay = await offer([
      "--tcp",
      `5432=127.0.0.1:${await startPostgres()}`,
    ]);
    const { dial, port } = await startListener(relay.url, 5432);
    const psql = new Program("psql", psqlArgs(port));
    psql.child.stdin.write("create table one (number int, word text);\n");
    psql.child.stdin.write("insert into one values (1, 'a'), (2, 'b');\n");
    psql.child.stdin.write("select count(*), max(word) from one;\n");
    await psql.prints(/^2\|b$/m);
    const sessions = Array.from({ length: 8 }, async (_, i) =>
      run("psql", psqlArgs(port), {
        input: `create table many${i} as select generate_series(1, 10000) as n;
select count(*), sum(n), repeat('x', 100000) = string_agg(x, '') from many${i}, (select 'x' as x) as xs;
select repeat('y', 1000000);
`,
      }),
    );
    for (const { code, output } of await Promise.all(sessions)) {
      expect(code, output.slice(0, 1000)).to.equal(0);
      expect(output).to.equal(`10000|50005000|f\n${"y".repeat(1_000_000)}\n`);
    }
    // The first one is still there.
    psql.child.stdin.end("select 'still', count(*) from one;\n");
    expect(await psql.exited, psql.output).to.equal(0);
    expect(psql.output).to.equal("2|b\nstill|2\n");
    dial.child.kill("SIGTERM");
    expect(await dial.exited).to.equal(0);
    expectNoCrash(relay.program, relay.agent, dial);
  });

  it("is cut where there is no service, and the listener says why and goes on", async function () {
    needs(this, "psql");
    const relay = await offer(["--tcp", `5432=127.0.0.1:${await freePort()}`]);
    const { dial, port } = await startListener(relay.url, 5432);
    for (const times of [1, 2]) {
      const { code } = await run("psql", psqlArgs(port), { input: "" });
      expect(code).to.equal(2);
      await dial.prints(
        new RegExp(
          `(pi:5432 cannot be reached: .+ \\(target_down\\)\\.\\s+){${times}}`,
        ),
      );
    }
    expectNoCrash(relay.program, relay.agent, dial);
  });
});

describe("`rendezvous dial` in a script", () => {
  it("ends by itself when both sides have ended", async () => {
    const relay = await offer(["--tcp", `7=127.0.0.1:${await startEcho()}`]);
    await byEachWay(async (via) => {
      const { code, output } = await run(
        "sh",
        [
          ...["-c", 'echo x | "$@" | wc -c', "sh", process.execPath],
          ...[RENDEZVOUS, "dial", relay.url, "pi", "7", "--via", via],
        ],
        { env: NO_PROXIES },
      );
      expect([via, code, output.trim()]).to.deep.equal([via, 0, "2"]);
    });
    expectNoCrash(relay.program, relay.agent);
  });

  it("ends its output when the service has ended, though its input is open", async () => {
    const heard: string[] = [];
    const port = await startTcp((socket) => {
      socket.end("hello\n");
      let text = "";
      socket.on("data", (octets: Buffer) => (text += octets.toString()));
      socket.on("end", () => heard.push(text));
    });
    const relay = await offer(["--tcp", `7=127.0.0.1:${port}`]);
    await byEachWay(async (via) => {
      const dial = startDial(relay.url, "pi", 7, "--via", via);
      await once(dial.child.stdout, "end");
      expect(dial.output).to.equal("hello\n");
      dial.child.stdin.end(`bye by ${via}\n`);
      expect(await dial.exited, dial.output).to.equal(0);
    });
    await until(() => heard.length === WAYS.length);
    expect(heard).to.have.members(WAYS.map((via) => `bye by ${via}\n`));
    expectNoCrash(relay.program, relay.agent);
  });

  it("exits with 1 when the service breaks the stream, after what had come", async () => {
    const port = await startTcp((socket) => {
      socket.write("part");
      socket.once("data", () => socket.resetAndDestroy());
    });
    const relay = await offer(["--tcp", `7=127.0.0.1:${port}`]);
    await byEachWay(async (via) => {
      const dial = startDial(relay.url, "pi", 7, "--via", via);
      await dial.prints(/part/);
      dial.child.stdin.write("go");
      expect(await dial.exited).to.equal(1);
      expect(dial.output).to.equal("partpi:7: the connection was cut.\n");
    });
    expectNoCrash(relay.program, relay.agent);
  });

  it("breaks the stream when it is killed in the middle", async () => {
    const ends: string[] = [];
    const port = await startTcp((socket) => {
      socket.write("part");
      let name = "";
      socket.on("data", (octets: Buffer) => (name += octets.toString()));
      socket.on("error", () => ends.push(`${name} broke`));
      socket.on("end", () => {
        ends.push(`${name} ended`);
        socket.end();
      });
    });
    const relay = await offer(["--tcp", `7=127.0.0.1:${port}`]);
    await byEachWay(async (via) => {
      const dial = startDial(relay.url, "pi", 7, "--via", via);
      dial.child.stdin.write(via);
      await dial.prints(/part/);
      await dial.stop("SIGKILL");
    });
    await until(() => ends.length === WAYS.length);
    // The kernel ends the connection of a dead process in due form: only a way with an end of its own shows the cut.
    expect(ends.filter((end) => end.endsWith("broke"))).to.have.length(2);
    expectNoCrash(relay.program, relay.agent);
  });

  it("exits with 2 when it is used wrongly, and says how to", async () => {
    const cases = [
      [[], "Name the relay"],
      [["http://a", "pi", "70000"], "a port from 1 to 65535"],
      [["a", "pi", "22"], "must be a URL"],
      [["http://a", "pi", "22", "--via", "pigeon"], "--via must be one of"],
      [["http://a", "pi", "22", "--listen", "x"], "host:port"],
      [["http://a", "pi", "22", "--nonsense"], "--nonsense"],
      [["http://a", "not_an_id", "22"], "DNS label"],
      [["http://a", "not_an_id", "22", "--listen", "1"], "DNS label"],
    ] as const;
    const check = async ([args, words]: (typeof cases)[number]) => {
      const dial = startDial(...args);
      expect(await dial.exited, dial.output).to.equal(2);
      expect(dial.output).to.include(words);
      expectNoCrash(dial);
    };
    await Promise.all(cases.map(check));
  });

  it("exits with 2 when it cannot listen", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    afterThisTest(() => taken.close());
    const { port } = taken.address() as AddressInfo;
    const dial = startDial(
      "http://a",
      "pi",
      22,
      "--listen",
      `127.0.0.1:${port}`,
    );
    expect(await dial.exited).to.equal(2);
    expect(dial.output).to.match(/^Cannot listen on 127.0.0.1:\d+: .+\.\n$/);
  });

  it("exits with 3 when the relay or the agent refuses, or the service does not accept in time, and says which failure it is", async function () {
    needs(this, "python3");
    const hole = await startBlackHole();
    const relay = await offer([
      ...["--tcp", `9=127.0.0.1:${await freePort()}`],
      ...["--tcp", `10=127.0.0.1:${hole.port}`],
    ]);
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT pi:10 HTTP/1.1\r\nHost: pi:10\r\n\r\n");
    const late = raw.answer();
    const check = async (
      [id, port, code]: readonly [string, number, string],
      ...args: string[]
    ): Promise<void> => {
      const dial = startDial(relay.url, id, port, ...args);
      expect(await dial.exited, dial.output).to.equal(3);
      expect(dial.output).to.match(
        new RegExp(`^${id}:${port} cannot be reached: .+ \\(${code}\\)\\.\n$`),
      );
    };
    const cases = [
      ["pi", 10, "target_timeout"],
      ["pi", 9, "target_down"],
      ["pi", 22, "not_offered"],
      ["nobody", 22, "unknown_server"],
    ] as const;
    await Promise.all([
      byEachWay(async (via) => {
        await Promise.all(cases.map((one) => check(one, "--via", via)));
      }),
      // Without a way the first clear answer is the last.
      ...cases.slice(1).map((one) => check(one)),
    ]);
    const timeout = await late;
    expect(timeout.status).to.equal(504);
    expect(timeout.body).to.include('"target_timeout"');
    expectNoCrash(relay.program, relay.agent);
  });

  it("exits with 4 when the relay cannot be reached", async () => {
    const port = await freePort();
    const dial = startDial(`http://127.0.0.1:${port}`, "pi", 22);
    expect(await dial.exited).to.equal(4);
    expect(dial.output).to.match(
      new RegExp(`^pi:22 cannot be reached: 127.0.0.1:${port} .+ECONNREFUSED`),
    );
    expectNoCrash(dial);
  });
});

describe("much data by `rendezvous dial`", function () {
  this.timeout(40_000);

  for (const via of WAYS) {
    it(`passes both ways whole over ${via}, while the relay stays small`, async function () {
      needs(this, "openssl");
      const relay = await offer(["--tcp", `7=127.0.0.1:${await startEcho()}`]);
      const bulk = join(PROJECT, "test/support/services/bulk.ts");
      const { code, output } = await run(
        "sh",
        [
          "-c",
          '"$1" --import tsx "$2" write "$3" | "$1" "$4" dial "$5" pi 7 --via "$6" | openssl dgst -sha256',
          ...["sh", process.execPath, bulk, String(100 * MEGABYTE)],
          ...[RENDEZVOUS, relay.url, via],
        ],
        { cwd: PROJECT, env: NO_PROXIES },
      );
      expect(code, output).to.equal(0);
      const sum = /wrote (\w{64})/.exec(output)?.[1] ?? "no sum";
      expect(output).to.include(`= ${sum}`);
      const { most } = memoryOf(relay.program);
      console.log(`      the relay took ${most.toFixed(0)} MB at most`);
      expect(most).to.be.lessThan(MOST_MEGABYTES);
      expectNoCrash(relay.program, relay.agent);
    });
  }
});
