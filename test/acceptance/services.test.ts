// visitor: curl -> relay ==tunnels==> agent -> hidden server: nginx, Python's http.server, express
import { expect } from "chai";
import express from "express";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterThisTest } from "../support/cleanup.ts";
import {
  curl,
  expectNoCrash,
  parkProgram,
  startRelayHere,
} from "../support/parked.ts";
import {
  Program,
  freePort,
  listening,
  needs,
  run,
  scratch,
} from "../support/programs.ts";

const MEGABYTE = 1024 * 1024;
const PAGE = "<h1>Hello from behind NAT</h1>\n";

/** A directory with a page and a file of a few megabytes. */
function site(): { directory: string; file: Buffer } {
  const directory = scratch();
  const file = randomBytes(5 * MEGABYTE);
  writeFileSync(join(directory, "index.html"), PAGE);
  writeFileSync(join(directory, "file.bin"), file);
  writeFileSync(join(directory, "text.txt"), "a line\n".repeat(1000));
  return { directory, file };
}

async function startNginx(directory: string): Promise<number> {
  const port = await freePort();
  const own = scratch();
  writeFileSync(
    join(own, "nginx.conf"),
    `daemon off; master_process off; pid ${own}/pid; error_log stderr;
events {}
http {
  access_log off;
  types { text/html html; text/plain txt; }
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(" ")}
  client_max_body_size 0;
  gzip on; gzip_types text/plain; gzip_proxied any;
  server {
    listen 127.0.0.1:${port};
    root ${directory};
    location /up/ { alias ${own}/; dav_methods PUT; }
    location /echo-host { return 200 $host; }
  }
}`,
  );
  new Program("nginx", ["-c", join(own, "nginx.conf"), "-p", own]);
  await listening(port);
  return port;
}

async function startPython(directory: string): Promise<number> {
  const python = new Program("python3", [
    ...["-u", "-m", "http.server", "0"],
    ...["--bind", "127.0.0.1", "--directory", directory],
  ]);
  const [, port] = await python.prints(/port (\d+)/);
  return Number(port);
}

async function startExpress(directory: string): Promise<number> {
  const app = express();
  app.use(express.static(directory));
  app.all("/upload", (request, response) => {
    const hash = createHash("sha256");
    request.on("data", (octets: Buffer) => hash.update(octets));
    request.on("end", () =>
      response.json({
        method: request.method,
        length: request.get("content-length") ?? null,
        coding: request.get("transfer-encoding") ?? null,
        expect: request.get("expect") ?? null,
        sum: hash.digest("hex"),
      }),
    );
  });
  app.get("/seen", (request, response) => {
    response.json({ url: request.originalUrl, fields: request.headers });
  });
  const server = createServer(app);
  // Refuses by the head alone what says so, and asks for the body otherwise.
  server.on("checkContinue", (request, answer) => {
    if (request.headers["x-no-thanks"] !== undefined) {
      answer.writeHead(413, { Connection: "close" }).end("no thanks\n");
      return;
    }
    answer.writeContinue();
    server.emit("request", request, answer);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const sum = (octets: Buffer): string =>
  createHash("sha256").update(octets).digest("hex");

/** A relay with a domain of its own and an agent in front of a service; and every way to name it to curl. */
async function put(service: number) {
  const relay = await startRelayHere({ BASE_DOMAIN: "localhost" });
  const agent = await parkProgram("pi", relay.port, service);
  const at = `127.0.0.1:${relay.port}`;
  const query = (path: string): string => `http://${at}${path}?rendezvous=pi`;
  const ways: Readonly<Record<string, (path: string) => string[]>> = {
    query: (path) => [query(path)],
    proxy: (path) => ["--proxy", `http://${at}`, `http://pi${path}`],
    "proxy, with a dot": (path) => [
      ...["--proxy", `http://${at}`],
      `http://pi.rendezvous.internal${path}`,
    ],
    digest: (path) => [
      ...["--digest", "-u", "pi:"],
      `http://${at}${path}?rendezvous=T`,
    ],
    "basic, asked for": (path) => [
      ...["--anyauth", "-u", "pi:"],
      `http://${at}${path}?rendezvous=T`,
    ],
    basic: (path) => ["-u", "pi:", `http://${at}${path}`],
    host: (path) => [`http://pi.localhost:${relay.port}${path}`],
    "host, resolved by hand": (path) => [
      ...["--resolve", `pi.localhost:${relay.port}:127.0.0.1`],
      `http://pi.localhost:${relay.port}${path}`,
    ],
    "host, written by hand": (path) => [
      ...["-H", "Host: pi.localhost"],
      `http://${at}${path}`,
    ],
  };
  const well = (): void => {
    expectNoCrash(relay.program, agent);
  };
  return { relay, agent, query, ways, well };
}

const SERVICES: Readonly<
  Record<
    string,
    { needed: string[]; start: (directory: string) => Promise<number> }
  >
> = {
  nginx: { needed: ["nginx"], start: startNginx },
  "Python's http.server": { needed: ["python3"], start: startPython },
  "an express app": { needed: [], start: startExpress },
};

for (const [name, { needed, start }] of Object.entries(SERVICES)) {
  describe(`${name} behind the agent`, () => {
    it("is visited by curl in every way of naming", async function () {
      needs(this, "curl", ...needed);
      const { directory } = site();
      const { ways, well } = await put(await start(directory));
      for (const [way, to] of Object.entries(ways)) {
        const { status, body } = await curl(...to("/"));
        expect([way, status, body]).to.deep.equal([way, 200, PAGE]);
      }
      well();
    });

    it("gives files as they are, and 404 for what it does not have", async function () {
      needs(this, "curl", ...needed);
      const { directory, file } = site();
      const { ways, well } = await put(await start(directory));
      for (const [way, to] of Object.entries(ways)) {
        const copy = join(scratch(), "copy");
        const { code, output } = await run("curl", [
          ...["-sS", "--noproxy", way.startsWith("proxy") ? "" : "*"],
          ...["-o", copy, ...to("/file.bin")],
        ]);
        expect([way, code, output]).to.deep.equal([way, 0, ""]);
        expect(sum(readFileSync(copy)), way).to.equal(sum(file));
      }
      const { status } = await curl(...(ways["host"]?.("/nothing") ?? []));
      expect(status).to.equal(404);
      well();
    });

    it("answers HEAD with the length and without the body", async function () {
      needs(this, "curl", ...needed);
      const { directory } = site();
      const { query, well } = await put(await start(directory));
      // Two on one connection: a body that came all the same would spoil the second.
      const { status, head, body } = await curl(
        ...["--head", query("/file.bin"), query("/file.bin")],
      );
      expect(status).to.equal(200);
      const answers = `${head}\r\n${body}`;
      expect(
        answers.match(
          new RegExp(`^content-length: ${5 * MEGABYTE}\r$`, "gim"),
        ) ?? [],
      ).to.have.length(2);
      well();
    });
  });
}

describe("nginx behind the agent", () => {
  it("takes a file by PUT, with a length and in chunks, and gives it back", async function () {
    needs(this, "curl", "nginx");
    const { directory, file } = site();
    const { query, well } = await put(await startNginx(directory));
    for (const [name, ...how] of [
      ["whole", "-T", join(directory, "file.bin")],
      ["chunked", "-T", "-"],
    ]) {
      const input = how.includes("-")
        ? join(directory, "file.bin")
        : "/dev/null";
      const { code, output } = await run("sh", [
        "-c",
        'exec curl -sS --fail --noproxy "*" "$@" <"$0"',
        input,
        ...how,
        query(`/up/${name ?? ""}`),
      ]);
      expect(code, output).to.equal(0);
      const copy = join(scratch(), "copy");
      await run("curl", [
        ...["-sS", "--noproxy", "*", "-o", copy],
        query(`/up/${name ?? ""}`),
      ]);
      expect(sum(readFileSync(copy)), name).to.equal(sum(file));
    }
    well();
  });

  it("gives a part of a file", async function () {
    needs(this, "curl", "nginx");
    const { directory, file } = site();
    const { query, well } = await put(await startNginx(directory));
    const copy = join(scratch(), "copy");
    const { code, output } = await run("curl", [
      ...["-sS", "--noproxy", "*", "-r", "1000000-1999999"],
      ...["-w", "%{http_code} %header{content-range}", "-o", copy],
      query("/file.bin"),
    ]);
    expect([code, output]).to.deep.equal([
      0,
      `206 bytes 1000000-1999999/${file.length}`,
    ]);
    expect(readFileSync(copy).equals(file.subarray(1_000_000, 2_000_000))).to.be
      .true;
    well();
  });

  it("gives several parts of a file in one answer", async function () {
    needs(this, "curl", "nginx");
    const { directory } = site();
    const { query, well } = await put(await startNginx(directory));
    const { status, head, body } = await curl(
      ...["-r", "0-5,7-12", query("/text.txt")],
    );
    expect(status).to.equal(206);
    expect(head).to.match(/^content-type: multipart\/byteranges/im);
    expect(body).to.include("bytes 7-12/7000\r\n\r\na line");
    well();
  });

  it("answers a conditional request with 304", async function () {
    needs(this, "curl", "nginx");
    const { directory } = site();
    const { query, well } = await put(await startNginx(directory));
    const first = await curl(query("/text.txt"));
    const etag = /^etag: (.+)\r$/im.exec(first.head)?.[1] ?? "";
    const { status, body } = await curl(
      ...["-H", `If-None-Match: ${etag}`, query("/text.txt")],
    );
    expect([status, body]).to.deep.equal([304, ""]);
    well();
  });

  it("compresses for a visitor who wants that, and the octets pass as they are", async function () {
    needs(this, "curl", "nginx");
    const { directory } = site();
    const { query, well } = await put(await startNginx(directory));
    const packed = join(scratch(), "packed");
    const { output } = await run("curl", [
      ...["-sS", "--noproxy", "*", "-H", "Accept-Encoding: gzip"],
      ...["-w", "%{http_code} %header{content-encoding}", "-o", packed],
      query("/text.txt"),
    ]);
    expect(output).to.equal("200 gzip");
    expect(gunzipSync(readFileSync(packed)).toString()).to.equal(
      "a line\n".repeat(1000),
    );
    const { body } = await curl("--compressed", query("/text.txt"));
    expect(body).to.equal("a line\n".repeat(1000));
    well();
  });

  it("sees the host that the visitor asked for", async function () {
    needs(this, "curl", "nginx");
    const { directory } = site();
    const { ways, well } = await put(await startNginx(directory));
    const seen = async (way: string): Promise<string> =>
      (await curl(...(ways[way]?.("/echo-host") ?? []))).body;
    expect(await seen("host")).to.equal("pi.localhost");
    expect(await seen("proxy")).to.equal("pi");
    expect(await seen("query")).to.equal("127.0.0.1");
    well();
  });
});

describe("Python's http.server behind the agent", () => {
  it("refuses a POST by itself", async function () {
    needs(this, "curl", "python3");
    const { directory } = site();
    const { query, well } = await put(await startPython(directory));
    const { status, body } = await curl("-d", "a=1", query("/"));
    expect(status).to.equal(501);
    expect(body).to.include("Unsupported method");
    well();
  });
});

describe("an express app behind the agent", () => {
  interface Upload {
    readonly method: string;
    readonly length: string | null;
    readonly coding: string | null;
    readonly expect: string | null;
    readonly sum: string;
  }
  const upload = async (...args: string[]): Promise<Upload> => {
    const { status, body } = await curl(...args);
    expect(status, body).to.equal(200);
    return JSON.parse(body) as Upload;
  };

  it("takes a POST with a length in every way of naming", async function () {
    needs(this, "curl");
    const { directory, file } = site();
    const { ways, well } = await put(await startExpress(directory));
    const path = join(directory, "file.bin");
    for (const [way, to] of Object.entries(ways)) {
      const got = await upload(
        ...["-H", "Expect:", "--data-binary", `@${path}`, ...to("/upload")],
      );
      expect(got, way).to.deep.equal({
        method: "POST",
        length: String(file.length),
        coding: null,
        expect: null,
        sum: sum(file),
      });
    }
    well();
  });

  it("takes an upload in chunks", async function () {
    needs(this, "curl");
    const { directory, file } = site();
    const { ways, well } = await put(await startExpress(directory));
    for (const way of ["query", "proxy", "host", "basic"]) {
      const { output } = await run("sh", [
        "-c",
        'exec curl -sS -H Expect: -T - "$@" <"$0"',
        join(directory, "file.bin"),
        ...["--noproxy", way === "proxy" ? "" : "*"],
        ...(ways[way]?.("/upload") ?? []),
      ]);
      expect(JSON.parse(output), way).to.deep.equal({
        method: "PUT",
        length: null,
        coding: "chunked",
        expect: null,
        sum: sum(file),
      });
    }
    well();
  });

  it("takes a form with files", async function () {
    needs(this, "curl");
    const { directory } = site();
    const { query, well } = await put(await startExpress(directory));
    const got = await upload(
      ...["-F", `file=@${join(directory, "file.bin")}`, query("/upload")],
    );
    expect(Number(got.length)).to.be.greaterThan(5 * MEGABYTE);
    well();
  });

  it("asks for a body that waits for 100-continue", async function () {
    needs(this, "curl");
    const { directory, file } = site();
    const { query, well } = await put(await startExpress(directory));
    // Far more patience than the test has: only a 100 makes curl go on.
    const got = await upload(
      ...["-H", "Expect: 100-continue", "--expect100-timeout", "60"],
      ...["--data-binary", `@${join(directory, "file.bin")}`],
      query("/upload"),
    );
    expect(got.sum).to.equal(sum(file));
    expect(got.expect).to.equal("100-continue");
    well();
  });

  it("refuses by the head alone a body that waits for 100-continue", async function () {
    needs(this, "curl");
    const { directory } = site();
    const { query, well } = await put(await startExpress(directory));
    const { status, body } = await curl(
      ...["-H", "Expect: 100-continue", "--expect100-timeout", "60"],
      ...["-H", "X-No-Thanks: 1"],
      ...["--data-binary", `@${join(directory, "file.bin")}`],
      query("/upload"),
    );
    expect([status, body]).to.deep.equal([413, "no thanks\n"]);
    well();
  });

  it("gives a part of a file, and the rest of one that was begun", async function () {
    needs(this, "curl");
    const { directory, file } = site();
    const { query, well } = await put(await startExpress(directory));
    const copy = join(scratch(), "copy");
    writeFileSync(copy, file.subarray(0, 3 * MEGABYTE));
    const { code, output } = await run("curl", [
      ...["-sS", "--noproxy", "*", "-C", "-", "-w", "%{http_code}"],
      ...["-o", copy, query("/file.bin")],
    ]);
    expect([code, output]).to.deep.equal([0, "206"]);
    expect(sum(readFileSync(copy))).to.equal(sum(file));
    well();
  });

  it("sees neither the name's parameter nor the login that named it, and sees any other", async function () {
    needs(this, "curl");
    const { directory } = site();
    const { relay, well } = await put(await startExpress(directory));
    const at = `http://127.0.0.1:${relay.port}`;
    const seen = async (...args: string[]) =>
      JSON.parse((await curl(...args)).body) as {
        url: string;
        fields: Record<string, string>;
      };
    const byQuery = await seen(
      ...["-u", "app:password", `${at}/seen?a=1&rendezvous=pi&b=2`],
    );
    expect(byQuery.url).to.equal("/seen?a=1&b=2");
    expect(byQuery.fields["authorization"]).to.match(/^Basic /);
    const byDigest = await seen(
      ...["--digest", "-u", "pi:", `${at}/seen?a=1&rendezvous=T`],
    );
    expect(byDigest.url).to.equal("/seen?a=1");
    expect(byDigest.fields).not.to.have.property("authorization");
    expect(byDigest.fields["x-forwarded-for"]).to.equal("127.0.0.1");
    well();
  });

  it("is reached by a program that only knows http_proxy", async function () {
    needs(this, "python3");
    const { directory } = site();
    const { relay, well } = await put(await startExpress(directory));
    const { code, output } = await run(
      "python3",
      [
        "-c",
        "import urllib.request as u; print(u.urlopen('http://pi.rendezvous.internal/').read().decode(), end='')",
      ],
      {
        env: { http_proxy: `http://127.0.0.1:${relay.port}`, no_proxy: "" },
      },
    );
    expect([code, output]).to.deep.equal([0, PAGE]);
    well();
  });
});
