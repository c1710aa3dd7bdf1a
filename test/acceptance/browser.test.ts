// visitor: Chromium -> relay ==tunnels==> agent -> hidden server: express and ws
import { expect } from "chai";
import express from "express";
import { X509Certificate, createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { chromium, type Page } from "playwright-core";
import { WebSocketServer } from "ws";
import { afterThisTest } from "../support/cleanup.ts";
import {
  expectNoCrash,
  issueFor,
  parkProgram,
  startRelayHere,
} from "../support/parked.ts";
import { freePort, needs, run, scratch } from "../support/programs.ts";
import { RENDEZVOUS, offer, selfSign } from "../support/tcp.ts";

const CHROMIUM = "/usr/bin/chromium";

interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** A page whose parts are all reached by absolute paths, as most pages reach theirs. It speaks TLS if it has an identity. */
async function startSite(
  identity?: Identity,
  seen: string[] = [],
): Promise<number> {
  const app = express();
  app.use((request, _response, next) => {
    seen.push(`${request.url} ${request.rawHeaders.join(" ")}`);
    next();
  });
  app.get("/", (_request, response) => {
    response.type("html").send(`<!doctype html>
<title>A page from behind NAT</title>
<link rel="stylesheet" href="/style.css">
<h1>Hello</h1><p id="script"></p><p id="fetch"></p><p id="socket"></p><a href="/second">on</a>
<script src="/script.js"></script>`);
  });
  app.get("/second", (_request, response) => {
    response.send("<title>The second page</title>");
  });
  app.get("/style.css", (_request, response) => {
    response.type("css").send("h1 { color: rgb(1, 2, 3) }");
  });
  app.get("/script.js", (_request, response) => {
    response.type("js").send(`
const show = (id, text) => { document.getElementById(id).textContent = text; };
show("script", "ran");
fetch("/api", { method: "POST", body: "asked", headers: { "Content-Type": "text/plain" } })
  .then((answer) => answer.json()).then(({ said }) => show("fetch", said));
const socket = new WebSocket(location.origin.replace("http", "ws") + "/echo");
socket.onopen = () => socket.send("over a WebSocket");
socket.onmessage = ({ data }) => show("socket", data);`);
  });
  app.post("/api", express.text(), (request, response) => {
    response.json({ said: `you ${String(request.body)}` });
  });
  const server =
    identity === undefined ? createServer(app) : createTlsServer(identity, app);
  const sockets = new WebSocketServer({ server, path: "/echo" });
  sockets.on("connection", (socket) => {
    socket.on("message", (message: Buffer) => {
      socket.send(`echo: ${message.toString()}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function openBrowser(...args: string[]): Promise<Page> {
  const context = await chromium.launchPersistentContext(scratch(), {
    executablePath: CHROMIUM,
    headless: true,
    chromiumSandbox: false,
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
  afterThisTest(() => context.close());
  return context.newPage();
}

/** A public key as Chromium's command line has it. */
function fingerprint(cert: Buffer): string {
  const { publicKey } = new X509Certificate(cert);
  const der = publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(der).digest("base64");
}

/** All that the page loads has come, has been applied, and has run. */
async function expectWholePage(page: Page): Promise<void> {
  await page.waitForFunction(
    () =>
      document.querySelector("#fetch")?.textContent !== "" &&
      document.querySelector("#socket")?.textContent !== "",
  );
  expect(await page.title()).to.equal("A page from behind NAT");
  expect(
    await page.$eval("h1", (heading) => getComputedStyle(heading).color),
  ).to.equal("rgb(1, 2, 3)");
  const text = (id: string): Promise<string | null> => page.textContent(id);
  expect(await text("#script")).to.equal("ran");
  expect(await text("#fetch")).to.equal("you asked");
  expect(await text("#socket")).to.equal("echo: over a WebSocket");
}

describe("Chromium", function () {
  this.timeout(60_000);

  it("shows a whole page by host name", async function () {
    needs(this, CHROMIUM);
    const page = await openBrowser();
    const { program, port } = await startRelayHere({
      BASE_DOMAIN: "localhost",
    });
    const agent = await parkProgram("pi", port, await startSite());
    await page.goto(`http://pi.localhost:${port}/`);
    await expectWholePage(page);
    expect(await page.context().cookies()).to.deep.equal([]);
    expectNoCrash(program, agent);
  });

  it("shows a whole page by the query link alone, follows its links, and leaves", async function () {
    needs(this, CHROMIUM);
    const page = await openBrowser();
    const { program, port } = await startRelayHere();
    const agent = await parkProgram("pi", port, await startSite());
    await page.goto(`http://127.0.0.1:${port}/?rendezvous=pi`);
    await expectWholePage(page);
    const [cookie] = await page.context().cookies();
    expect(cookie).to.include({
      name: "rendezvous",
      value: "pi",
      httpOnly: true,
      sameSite: "Lax",
    });
    await Promise.all([page.waitForURL("**/second"), page.click("a")]);
    expect(await page.title()).to.equal("The second page");

    await page.goto(`http://127.0.0.1:${port}/-/leave`);
    expect(page.url()).to.equal(`http://127.0.0.1:${port}/`);
    expect(await page.title()).to.equal("Rendezvous relay");
    expect(await page.context().cookies()).to.deep.equal([]);
    expectNoCrash(program, agent);
  });

  it("shows a private page whole by the link that its owner shares, and tells nobody the grant", async function () {
    needs(this, CHROMIUM);
    const page = await openBrowser();
    const { program, port } = await startRelayHere();
    const seen: string[] = [];
    const agent = await parkProgram(
      "pi",
      port,
      await startSite(undefined, seen),
      ["--private"],
    );
    const { url, visit } = issueFor("pi", port);
    const bare = await page.goto(visit);
    expect(bare?.status()).to.equal(401);
    expect(await page.textContent("body")).to.include("is private");
    const { output } = await run(
      process.execPath,
      [RENDEZVOUS, "share", visit, "--json", "--uses", "1"],
      { env: { RENDEZVOUS_URL: url }, cwd: scratch() },
    );
    const { link } = JSON.parse(output) as { link: string };
    await page.goto(link);
    expect(page.url()).to.equal(visit);
    await expectWholePage(page);
    await Promise.all([page.waitForURL("**/second"), page.click("a")]);
    expect(await page.title()).to.equal("The second page");
    expect(await page.evaluate(() => document.cookie)).to.equal("");
    expect(seen.length).to.be.above(4);
    for (const head of seen) expect(head).to.not.match(/eyJ|grant/);
    expect(seen.join()).to.include("Referer http://127.0.0.1");

    const answer = await page.goto(`http://127.0.0.1:${port}/-/leave`);
    expect(answer?.status()).to.equal(200);
    expect(await page.context().cookies()).to.deep.equal([]);
    // It was good for one opening.
    expect((await page.goto(link))?.status()).to.equal(403);
    expectNoCrash(program, agent);
  });

  it("shows the link that the agent printed", async function () {
    needs(this, CHROMIUM);
    const page = await openBrowser();
    const { port } = await startRelayHere({ BASE_DOMAIN: "localhost" });
    const agent = await parkProgram("pi", port, await startSite());
    const [, url = ""] = await agent.prints(/is up: (\S+)/);
    await page.goto(url);
    await expectWholePage(page);
  });

  it("shows whole pages with the relay as its proxy, by id and by host name", async function () {
    needs(this, CHROMIUM);
    const relay = await offer([await startSite()]);
    const page = await openBrowser(`--proxy-server=${relay.url}`);
    for (const host of ["pi", "pi.rendezvous.internal"]) {
      await page.goto(`http://${host}/`);
      await expectWholePage(page);
      await Promise.all([
        page.waitForURL(`http://${host}/second`),
        page.click("a"),
      ]);
      expect(await page.title()).to.equal("The second page");
    }
    expect(await page.context().cookies()).to.deep.equal([]);
    expectNoCrash(relay.program, relay.agent);
  });

  it("shows a whole page by TLS with the hidden server itself, with the relay as its proxy", async function () {
    needs(this, CHROMIUM, "openssl");
    const files = await selfSign("pi");
    const cert = readFileSync(files.cert);
    const site = await startSite({ cert, key: readFileSync(files.key) });
    const relay = await offer(["--tcp", `443=127.0.0.1:${site}`]);
    const page = await openBrowser(
      `--proxy-server=${relay.url}`,
      // This one and no other: whoever came between would be found out.
      `--ignore-certificate-errors-spki-list=${fingerprint(cert)}`,
    );
    const answer = await page.goto("https://pi/");
    await expectWholePage(page);
    expect(await answer?.securityDetails()).to.include({ subjectName: "pi" });
    expectNoCrash(relay.program, relay.agent);
  });

  it("shows a plain page that says what is wrong, and how to leave", async function () {
    needs(this, CHROMIUM);
    const page = await openBrowser();
    const { program, port } = await startRelayHere({ HOLD_SECONDS: "0.5" });
    const service = await freePort();
    const agent = await parkProgram("pi", port, service);
    const at = `http://127.0.0.1:${port}`;
    const down = await page.goto(`${at}/?rendezvous=pi`);
    expect(down?.status()).to.equal(502);
    expect(await page.title()).to.equal("502 Bad Gateway");
    expect(await page.textContent("body")).to.include("local_service_down");

    const nobody = await page.goto(`${at}/?rendezvous=nobody`);
    expect(nobody?.status()).to.equal(404);
    expect(await page.textContent("h1")).to.equal("Not Found");
    expect(await page.textContent("body")).to.include("unknown_server");

    // Led here by the cookie, one may want to get away.
    await page
      .context()
      .addCookies([{ name: "rendezvous", value: "nobody", url: at }]);
    const astray = await page.goto(`${at}/`);
    expect(astray?.status()).to.equal(404);
    await Promise.all([page.waitForURL(`${at}/`), page.click("a")]);
    await page.waitForFunction(
      () => document.title === "Rendezvous relay",
      undefined,
      { timeout: 5000 },
    );
    expectNoCrash(program, agent);
  });
});
