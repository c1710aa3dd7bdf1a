// visitor: anybody's program that can CONNECT -> relay ==tunnels==> agent -> hidden server: any TCP service
import { expect } from "chai";
import { HttpsProxyAgent } from "https-proxy-agent";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, get } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterThisTest } from "../support/cleanup.ts";
import { curl, expectNoCrash, startHello } from "../support/parked.ts";
import { Program, freePort, needs, run, scratch } from "../support/programs.ts";
import { connectRaw } from "../support/raw.ts";
import { until } from "../support/relay.ts";
import {
  connectionsTo,
  offer,
  selfSign,
  startBlackHole,
  startEcho,
  startNginx,
  startSshd,
  startTcp,
} from "../support/tcp.ts";

/** nginx with a certificate for `pi` of its own. */
async function startTlsNginx(): Promise<{ port: number; cert: string }> {
  const { cert, key } = await selfSign("pi");
  const port = await startNginx(`listen 127.0.0.1:PORT ssl http2;
  ssl_certificate ${cert}; ssl_certificate_key ${key};
  location / { return 200 "$server_protocol from $host\\n"; }`);
  return { port, cert };
}

describe("curl by CONNECT", () => {
  it("reaches the HTTP server of an agent with -p", async function () {
    needs(this, "curl");
    const relay = await offer([await startHello()]);
    const { status, body } = await curl(
      ...["-p", "--suppress-connect-headers"],
      ...["--proxy", relay.url, "http://pi/"],
    );
    expect([status, body]).to.deep.equal([200, "hello\n"]);
    expectNoCrash(relay.program, relay.agent);
  });

  it("speaks TLS and HTTP/2 with an nginx that has its own certificate, of which the relay sees octets only", async function () {
    needs(this, "curl", "nginx", "openssl");
    const nginx = await startTlsNginx();
    const relay = await offer(["--tcp", `443=127.0.0.1:${nginx.port}`]);
    const args = ["--suppress-connect-headers", "--proxy", relay.url];
    const { body } = await curl(
      ...args,
      ...["--http2", "--cacert", nginx.cert, "https://pi/"],
    );
    expect(body).to.equal("HTTP/2.0 from pi\n");
    const strange = await run("curl", [...args, "-sS", "https://pi/"]);
    expect(strange.code).to.equal(60);
    expect(strange.output).to.include("self-signed certificate");
    expectNoCrash(relay.program, relay.agent);
  });

  it("is told why it cannot get there", async function () {
    needs(this, "curl");
    const relay = await offer(["--tcp", `9=127.0.0.1:${await freePort()}`]);
    for (const [place, status] of [
      ["pi:9", 502],
      ["pi:22", 403],
      ["nobody:22", 404],
      ["example.com:443", 404],
      ["127.0.0.1:22", 404],
    ] as const) {
      const { code, output } = await run("curl", [
        ...["-sS", "-p", "--proxy", relay.url, "--noproxy", ""],
        ...["-w", " %{http_connect}", `http://${place}/`],
      ]);
      expect([place, code]).to.deep.equal([place, 56]);
      expect(output).to.match(new RegExp(`response ${status}\n? ${status}$`));
    }
    expectNoCrash(relay.program, relay.agent);
  });
});

describe("a CONNECT", () => {
  it("that cannot be served is answered with the reason, and with nothing before it", async () => {
    const relay = await offer(["--tcp", `9=127.0.0.1:${await freePort()}`]);
    for (const [place, status, code] of [
      ["pi:9", 502, "target_down"],
      ["pi:22", 403, "not_offered"],
      ["nobody:9", 404, "unknown_server"],
      ["example.com:443", 404, "unknown_server"],
      ["127.0.0.1:9", 404, "unknown_server"],
    ] as const) {
      const raw = await connectRaw(relay.port);
      raw.write(`CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
      const answer = await raw.answer();
      expect([place, answer.status]).to.deep.equal([place, status]);
      expect(JSON.parse(answer.body)).to.include({ status, code });
      expect(answer.fields["content-type"]).to.equal(
        "application/problem+json",
      );
      expect(answer.fields["proxy-status"]).to.match(/^rendezvous; error=/);
    }
    expectNoCrash(relay.program, relay.agent);
  });

  it("is answered 200 when the service has accepted, not before", async function () {
    needs(this, "python3");
    const hole = await startBlackHole();
    const relay = await offer(["--tcp", `9=127.0.0.1:${hole.port}`]);
    const before = connectionsTo(hole.port, "SYN_SENT");
    const raw = await connectRaw(relay.port);
    raw.write("CONNECT pi:9 HTTP/1.1\r\nHost: pi:9\r\n\r\n");
    await until(() => connectionsTo(hole.port, "SYN_SENT") > before);
    expect(raw.received).to.equal("");
    hole.accept();
    expect(await raw.take("\r\n\r\n")).to.match(/^HTTP\/1\.1 200 /);
    expect(await raw.take("\n")).to.equal("hello\n");
    expectNoCrash(relay.program, relay.agent);
  });

  it("finds each of several ports, beside an HTTP server that has port 80", async function () {
    needs(this, "curl", "nc", "socat");
    const [echo, counter] = await Promise.all([startEcho(), startCounter()]);
    const relay = await offer([
      await startHello(),
      ...["--tcp", `7=127.0.0.1:${echo}`, "--tcp", `5432=127.0.0.1:${counter}`],
    ]);
    expect(await netcat(relay.port, 7, "1 2\n")).to.equal("1 2\n");
    expect(await netcat(relay.port, 5432, "1 2\n")).to.equal("4\n");
    const page = await curl(`${relay.url}/?rendezvous=pi`);
    expect(page.body).to.equal("hello\n");
    const by80 = await netcat(relay.port, 80, "GET / HTTP/1.0\r\n\r\n");
    expect(by80).to.match(/^HTTP\/1\.1 200 OK[^]*hello\n$/);
    expectNoCrash(relay.program, relay.agent);
  });

  it("finds what is offered at port 80 rather than the HTTP server", async function () {
    needs(this, "curl", "nc");
    const [hello, echo] = await Promise.all([startHello(), startEcho()]);
    const relay = await offer([hello, "--tcp", `80=127.0.0.1:${echo}`]);
    expect(await netcat(relay.port, 80, "1 2\n")).to.equal("1 2\n");
    const page = await curl(`${relay.url}/?rendezvous=pi`);
    expect(page.body).to.equal("hello\n");
  });

  it("finds what is offered at port 80 over HTTP too, where there is no HTTP server", async function () {
    needs(this, "curl");
    const hello = await startHello();
    const relay = await offer(["--tcp", `80=127.0.0.1:${hello}`]);
    await relay.agent.prints(
      new RegExp(`is up: http://\\S+/\\?rendezvous=pi -> 127.0.0.1:${hello}\n`),
    );
    const page = await curl(`${relay.url}/?rendezvous=pi`);
    expect(page.body).to.equal("hello\n");
    expectNoCrash(relay.program, relay.agent);
  });

  it("finds several ports without an HTTP server, and HTTP is refused", async function () {
    needs(this, "curl", "nc", "socat");
    const [echo, counter] = await Promise.all([startEcho(), startCounter()]);
    const relay = await offer([
      ...["--tcp", `7=127.0.0.1:${echo}`, "--tcp", `8=127.0.0.1:${counter}`],
    ]);
    expect(await netcat(relay.port, 7, "1 2\n")).to.equal("1 2\n");
    expect(await netcat(relay.port, 8, "1 2\n")).to.equal("4\n");
    const page = await curl(`${relay.url}/?rendezvous=pi`);
    expect(page.status).to.equal(403);
    expect(page.body).to.include('"no_web_server"');
    expect(page.head).to.match(/^Date: \w{3}, .+ GMT\r$/m);
    const by80 = await connectRaw(relay.port);
    by80.write("CONNECT pi:80 HTTP/1.1\r\nHost: pi:80\r\n\r\n");
    expect((await by80.answer()).status).to.equal(403);
  });
});

/** A service that says how many octets it got, when it has got them all. */
async function startCounter(): Promise<number> {
  const port = await freePort();
  const socat = new Program("socat", [
    ...["-d", "-d", "-t", "10"],
    ...[`TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr`, "EXEC:wc -c"],
  ]);
  await socat.prints(/listening on/);
  return port;
}

async function netcat(
  relayPort: number,
  port: number,
  input: string,
): Promise<string> {
  const { code, output } = await run(
    "nc",
    [
      ...["-N", "-X", "connect", "-x", `127.0.0.1:${relayPort}`],
      ...["pi", String(port)],
    ],
    { input },
  );
  expect(code, output).to.equal(0);
  return output;
}

/** Programs that CONNECT for others, as commands for the shell: %r is the relay's port, %h and %p the target. */
const CONNECTORS: Readonly<Record<string, string>> = {
  nc: "nc -X connect -x 127.0.0.1:%r %h %p",
  ncat: "ncat --proxy 127.0.0.1:%r --proxy-type http %h %p",
  socat: "socat - PROXY:127.0.0.1:%h:%p,proxyport=%r",
  proxytunnel: "proxytunnel -q -p 127.0.0.1:%r -d %h:%p",
  corkscrew: "corkscrew 127.0.0.1 %r %h %p",
};

describe("a program that CONNECTs for others", () => {
  for (const [program, command] of Object.entries(CONNECTORS)) {
    it(`${program}: hands octets to and fro, and carries ssh`, async function () {
      needs(this, program, "ssh", "sshd");
      const sshd = await startSshd();
      const relay = await offer([
        ...["--tcp", `22=127.0.0.1:${sshd.port}`],
        ...["--tcp", `7=127.0.0.1:${await startEcho()}`],
      ]);
      const here = command.replace("%r", String(relay.port));
      const line = here.replace("%h", "pi").replace("%p", "7");
      const running = new Program("sh", ["-c", `exec ${line}`]);
      running.child.stdin.write("hello\n");
      await running.prints(/^hello$/m);
      running.child.stdin.write("again\n");
      await running.prints(/^hello\nagain$/m);
      const { code, output } = await run(
        "ssh",
        [
          ...[...sshd.options, "-o", `ProxyCommand=${here}`],
          ...[sshd.login, "tr a-z A-Z; exit 7"],
        ],
        { input: "hello\n" },
      );
      expect([code, output]).to.deep.equal([7, "HELLO\n"]);
      expectNoCrash(relay.program, relay.agent);
    });
  }

  for (const [program, args] of [
    ["nc", ["-N", "-X", "connect", "-x", "127.0.0.1:%r", "pi", "7"]],
    ["ncat", ["--proxy", "127.0.0.1:%r", "--proxy-type", "http", "pi", "7"]],
    ["socat", ["-t10", "-", "PROXY:127.0.0.1:pi:7,proxyport=%r"]],
  ] as const) {
    it(`${program}: ends by itself when its input has ended and the service has answered`, async function () {
      needs(this, program, "socat");
      const relay = await offer([
        "--tcp",
        `7=127.0.0.1:${await startCounter()}`,
      ]);
      const { code, output } = await run(
        program,
        args.map((word) => word.replace("%r", String(relay.port))),
        { input: "1 2\n".repeat(10_000) },
      );
      expect([code, output]).to.deep.equal([0, "40000\n"]);
      expectNoCrash(relay.program, relay.agent);
    });
  }
});

/** git's own HTTP backend, a CGI program, for the repositories below a directory. */
function serveGit(root: string) {
  return (request: IncomingMessage, response: ServerResponse): void => {
    const [path = "", query = ""] = (request.url ?? "").split("?", 2);
    const fields = request.headers;
    const git = spawn("git", ["http-backend"], {
      env: {
        ...process.env,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: "1",
        GIT_PROTOCOL: String(fields["git-protocol"] ?? ""),
        REMOTE_USER: "somebody",
        REQUEST_METHOD: request.method,
        PATH_INFO: path,
        QUERY_STRING: query,
        CONTENT_TYPE: fields["content-type"] ?? "",
        CONTENT_LENGTH: fields["content-length"] ?? "",
        HTTP_CONTENT_ENCODING: fields["content-encoding"] ?? "",
      },
    });
    request.pipe(git.stdin).on("error", () => undefined);
    const parts: Buffer[] = [];
    git.stdout.on("data", (part: Buffer) => parts.push(part));
    git.on("close", () => {
      const all = Buffer.concat(parts);
      const end = all.indexOf("\r\n\r\n");
      for (const line of all.toString("latin1", 0, end).split("\r\n")) {
        const [name = "", value = ""] = line.split(": ", 2);
        if (name === "Status") response.statusCode = parseInt(value);
        else response.setHeader(name, value);
      }
      response.end(all.subarray(end + 4));
    });
  };
}

describe("git with http.proxy", () => {
  for (const scheme of ["http", "https"] as const) {
    it(`clones and pushes over ${scheme}:`, async function () {
      needs(this, "git", "openssl");
      const root = scratch();
      const { cert, key } = await selfSign("pi");
      const server =
        scheme === "http"
          ? createServer(serveGit(root))
          : createTlsServer(
              { cert: readFileSync(cert), key: readFileSync(key) },
              serveGit(root),
            );
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      afterThisTest(() => server.close());
      const { port } = server.address() as AddressInfo;
      const relay = await offer(
        scheme === "http" ? [port] : ["--tcp", `443=127.0.0.1:${port}`],
      );
      const work = scratch();
      const git = async (...args: string[]): Promise<string> => {
        const { code, output } = await run(
          "git",
          [
            ...[
              "-c",
              `http.proxy=${relay.url}`,
              "-c",
              `http.sslCAInfo=${cert}`,
            ],
            ...["-c", "user.name=a"],
            ...["-c", "user.email=a@b", ...args],
          ],
          {
            cwd: work,
            env: {
              ...{ HOME: work, GIT_CONFIG_NOSYSTEM: "1", NO_PROXY: "" },
              ...{ no_proxy: "", GIT_TERMINAL_PROMPT: "0" },
              GIT_SSL_CAINFO: cert,
            },
          },
        );
        expect(code, output).to.equal(0);
        return output;
      };
      mkdirSync(join(root, "a.git"));
      await git("init", "--bare", "-b", "main", join(root, "a.git"));
      await git("clone", `${scheme}://pi/a.git`, "one");
      writeFileSync(join(work, "one/file"), "text\n".repeat(100_000));
      await git("-C", "one", "add", "file");
      await git("-C", "one", "commit", "-m", "a file");
      await git("-C", "one", "push", "origin", "HEAD:main");
      await git("clone", "-b", "main", `${scheme}://pi/a.git`, "two");
      expect(readFileSync(join(work, "two/file"), "utf8")).to.equal(
        "text\n".repeat(100_000),
      );
      expectNoCrash(relay.program, relay.agent);
    });
  }
});

describe("Node's https-proxy-agent", () => {
  it("reaches https://ID/", async function () {
    needs(this, "nginx", "openssl");
    const nginx = await startTlsNginx();
    const relay = await offer(["--tcp", `443=127.0.0.1:${nginx.port}`]);
    const request = get("https://pi/", {
      agent: new HttpsProxyAgent(relay.url),
      ca: readFileSync(nginx.cert),
    });
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    let body = "";
    for await (const part of answer) body += String(part);
    expect([answer.statusCode, body]).to.deep.equal([
      200,
      "HTTP/1.1 from pi\n",
    ]);
    expectNoCrash(relay.program, relay.agent);
  });
});

describe("an upgraded visit through the agent", () => {
  it("passes what the service says after the visitor has ended", async () => {
    const port = await startTcp((socket) => {
      socket.once("data", () => {
        socket.write(
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        );
      });
      socket.on("end", () => socket.end("after your end\n"));
    });
    const relay = await offer([port]);
    const raw = await connectRaw(relay.port);
    raw.write(
      "GET /?rendezvous=pi HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    );
    await raw.take("\r\n\r\n");
    raw.socket.end("bye");
    await raw.end();
    expect(raw.received).to.equal("after your end\n");
    expect(await raw.close()).to.equal("clean");
    expectNoCrash(relay.program, relay.agent);
  });
});
