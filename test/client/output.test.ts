// Where `rendezvous dial` puts what the service says, and what happens when that cannot be written.
import { expect } from "chai";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Socket } from "node:net";
import { run, needs, scratch } from "../support/programs.ts";
import { NO_PROXIES } from "../support/parked.ts";
import { offerService } from "../support/streams.ts";
import { RENDEZVOUS } from "../support/tcp.ts";

const SOME = Buffer.alloc(64 * 1024, "x");
/** In a shell, by blocks of 512 octets or 1 KiB: which of them does not matter. */
const MOST_BLOCKS = 100;

/** A service that never stops to talk. */
function chatter(socket: Socket): void {
  const talk = (): void => {
    while (!socket.destroyed && socket.write(SOME));
  };
  socket.on("drain", talk);
  talk();
}

/** Runs `dial`, which stands as "$@" in a line for a shell. */
async function inShell(
  line: string,
  serve: (socket: Socket) => void,
): Promise<{ code: number | null; output: string }> {
  const { relay } = await offerService(serve);
  const dial = [process.execPath, RENDEZVOUS, "dial", relay.url, "pi", "7"];
  return run("bash", ["-c", line, "bash", ...dial], { env: NO_PROXIES });
}

describe("the output of `rendezvous dial`", () => {
  it("says by which way with --verbose, and nothing of it without", async function () {
    needs(this, "bash");
    const greet = (socket: Socket): void => {
      socket.end("hello\n");
    };
    const quiet = await inShell('"$@" </dev/null', greet);
    expect(quiet.output).to.equal("hello\n");
    const told = await inShell('"$@" --verbose </dev/null', greet);
    expect(told.output.split("\n").sort()).to.deep.equal([
      "",
      "hello",
      "pi:7 by upgrade.",
    ]);
  });

  it("that nobody has room for is told, and is an exit code", async function () {
    needs(this, "bash");
    const { code, output } = await inShell('"$@" >/dev/full', chatter);
    expect(code, output).to.equal(1);
    expect(output).to.match(
      /^The standard output cannot be written: ENOSPC: .+\.\n$/,
    );
  });

  it("that makes a file too large is told, and ends", async function () {
    needs(this, "bash");
    const file = join(scratch(), "all");
    const { code, output } = await inShell(
      `ulimit -f ${MOST_BLOCKS}; trap '' XFSZ; "$@" >${file}`,
      chatter,
    );
    expect(code, output).to.equal(1);
    expect(output).to.match(/^The standard output .+ EFBIG: .+\.\n$/);
    expect(statSync(file).size % 512).to.equal(0);
  });

  it("that nobody reads any more ends without a word", async function () {
    needs(this, "bash", "head");
    const { code, output } = await inShell(
      '"$@" | head -c 5; exit ${PIPESTATUS[0]}',
      chatter,
    );
    expect([code, output]).to.deep.equal([0, "xxxxx"]);
  });

  it("is whole in a file", async function () {
    needs(this, "bash");
    const file = join(scratch(), "all");
    const { code, output } = await inShell(`"$@" >>${file}`, (socket) => {
      for (let n = 0; n < 100; n++) socket.write(SOME);
      socket.end();
    });
    expect([code, output]).to.deep.equal([0, ""]);
    expect(statSync(file).size).to.equal(100 * SOME.length);
  });
});
