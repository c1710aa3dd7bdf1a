// visitor: curl, or any TCP client by `rendezvous dial` -> relay ==tunnels==> `rendezvous park --private` -> hidden server
import { expect } from "chai";
import {
  NO_PROXIES,
  curl,
  expectNoCrash,
  issueFor,
  startHello,
  type RunningRelay,
} from "../support/parked.ts";
import {
  Program,
  needs,
  run,
  scratch,
  scratchFile,
  startRendezvous,
} from "../support/programs.ts";
import { RENDEZVOUS, offer, startEcho } from "../support/tcp.ts";

/** Runs `rendezvous share` for `pi`, with the secret from a variable. */
async function share(
  { port }: Pick<RunningRelay, "port">,
  ...args: string[]
): Promise<{ link: string; output: string }> {
  const { url, visit } = issueFor("pi", port);
  const { code, output } = await run(
    process.execPath,
    [RENDEZVOUS, "share", visit, ...args],
    { env: { ...NO_PROXIES, RENDEZVOUS_URL: url }, cwd: scratch() },
  );
  expect(code, output).to.equal(0);
  return { link: output.split("\n", 1)[0] ?? "", output };
}

async function offerPrivately() {
  const echo = await startEcho();
  return offer([
    await startHello(),
    "--tcp",
    `7=127.0.0.1:${echo}`,
    "--private",
  ]);
}

/** Says hello through `rendezvous dial`. */
async function dialHello(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  return run(process.execPath, [RENDEZVOUS, "dial", ...args], {
    env: { ...NO_PROXIES, ...env },
    input: "hello\n",
  });
}

describe("rendezvous share", () => {
  it("makes a link that lets curl in, where nobody gets in without", async function () {
    needs(this, "curl");
    const relay = await offerPrivately();
    await relay.agent.prints(/^pi is private: `npx rendezvous share 'http/m);
    expect((await curl(`${relay.url}/?rendezvous=pi`)).status).to.equal(401);
    const proxied = ["--proxy", relay.url, "http://pi/"];
    expect((await curl(...proxied)).status).to.equal(401);

    const { link, output } = await share(relay, "--expires", "10m");
    expect(output).to.match(
      /^It allows everything that pi offers, until .+ GMT\./m,
    );
    expect(output).to.include(`curl '${link}'`);
    expect((await curl(link)).body).to.equal("hello\n");
    const followed = ["-L", "-b", "", "-H", "Accept: text/html", link];
    expect(
      (await run("curl", ["-s", "--noproxy", "*", ...followed])).output,
    ).to.equal("hello\n");
    const grant = link.slice(link.indexOf("eyJ"));
    const asPassword = ["--proxy-user", `me:${grant}`, ...proxied];
    expect((await curl(...asPassword)).body).to.equal("hello\n");
    const asBearer = ["--oauth2-bearer", grant, `${relay.url}/?rendezvous=pi`];
    expect((await curl(...asBearer)).body).to.equal("hello\n");
    // By CONNECT, as a proxy for everything else.
    const wrapped = ["-p", "--proxytunnel", "--suppress-connect-headers"];
    expect((await curl(...wrapped, ...asPassword)).body).to.equal("hello\n");
    expect(relay.program.output).to.not.include("eyJ");
    expectNoCrash(relay.program, relay.agent);
  });

  it("makes links for a path, methods and so many uses", async function () {
    needs(this, "curl");
    const relay = await offerPrivately();
    const { link, output } = await share(
      relay,
      ...["--path", "/photos/", "--methods", "GET", "--uses", "2"],
    );
    expect(link).to.include("/photos/?rendezvous=pi&grant=");
    expect(output).to.include("GET of /photos/ at pi, 2 times");
    const elsewhere = link.replace("/photos/", "/secret/");
    expect((await curl(elsewhere)).status).to.equal(403);
    expect((await curl("-X", "DELETE", link)).status).to.equal(403);
    const statuses = [await curl(link), await curl(link), await curl(link)];
    expect(statuses.map(({ status }) => status)).to.deep.equal([200, 200, 403]);
  });

  it("makes links for ports, by which dial gets in", async () => {
    const relay = await offerPrivately();
    const none = await dialHello([relay.url, "pi", "7"]);
    expect(none.code).to.equal(3);
    expect(none.output)
      .to.match(/cannot be reached: .*is private/)
      .and.include("RENDEZVOUS_GRANT takes the link");
    const { link, output } = await share(relay, "--ports", "7");
    expect(output).to.include("port 7 of pi").and.not.include("curl");
    const [, grant = ""] = /RENDEZVOUS_GRANT=(\S+) npx/.exec(output) ?? [];
    const shown = { RENDEZVOUS_GRANT: grant };
    const said = await dialHello([relay.url, "pi", "7"], shown);
    expect(said).to.deep.equal({ code: 0, output: "hello\n" });
    const byLink = await dialHello([link, "pi", "7"]);
    expect(byLink).to.deep.equal({ code: 0, output: "hello\n" });
    const other = await dialHello([relay.url, "pi", "80"], shown);
    expect(other.code).to.equal(3);
    expect(other.output)
      .to.include("it is for other ports only")
      .and.not.include("RENDEZVOUS_GRANT takes");
    expectNoCrash(relay.program, relay.agent);
  });

  it("draws the link for phones on a terminal, and elsewhere only when it is asked", async function () {
    needs(this, "script");
    const at = { port: 5000 };
    const blocks = /[\u2580\u2584\u2588]{3}/;
    expect((await share(at)).output).to.not.match(blocks);
    expect((await share(at, "--qr")).output).to.match(blocks);
    const { url, visit } = issueFor("pi", at.port);
    const terminal = new Program(
      "script",
      [
        ...["-qec", `"${process.execPath}" "${RENDEZVOUS}" share '${visit}'`],
        "/dev/null",
      ],
      { env: { RENDEZVOUS_URL: url }, cwd: scratch() },
    );
    expect(await terminal.exited).to.equal(0);
    expect(terminal.output).to.match(/[\u2580\u2584\u2588]/);
  });

  it("says that the host has named the id, and what to add where that is the relay", async () => {
    const { secret } = issueFor("relay", 5000);
    const program = startRendezvous([
      ...["share", "https://relay.example.com/"],
      ...["--secret-file", scratchFile(secret)],
    ]);
    expect(await program.exited).to.equal(0);
    expect(program.output).to.include(
      "\nThe host name relay.example.com names relay. If that host is the relay itself, add what names the id, ?rendezvous=ID, to the URL.\n",
    );
  });

  it("takes the secret from a file, and says in a sentence what is wrong", async () => {
    const { secret, visit } = issueFor("pi", 5000);
    const file = scratchFile(secret);
    const good = startRendezvous([
      ...["share", visit, "--secret-file", file, "--json"],
    ]);
    expect(await good.exited).to.equal(0);
    const told = JSON.parse(good.output) as Record<string, unknown>;
    expect(told).to.include({ id: "pi" });
    expect(told["link"]).to.equal(`${visit}&grant=${String(told["grant"])}`);
    const bad = startRendezvous(["share", visit, "--uses", "x"], {
      RENDEZVOUS_URL: "https://pi:not-base32@x",
    });
    expect(await bad.exited).to.equal(2);
    expect(bad.output.trimEnd().split("\n")).to.have.length(1);
    const unreadable = startRendezvous(["share", visit], {
      RENDEZVOUS_URL: "https://pi:not-base32@x",
    });
    expect(await unreadable.exited).to.equal(2);
    expect(unreadable.output).to.include("is not base32 text");
  });
});
