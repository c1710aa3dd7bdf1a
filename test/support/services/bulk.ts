// A hidden server of much data: GET /N streams N octets, PUT counts what comes. Both tell the SHA-256, GET on stdout.
// Run as `write N` it writes so many octets to stdout, and the SHA-256 to stderr.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";

const BLOCK_OCTETS = 256 * 1024;

/** Octets of which no two blocks are alike, so that a block lost, doubled or moved is noticed. */
function* generate(octets: number): Generator<Buffer> {
  for (let at = 0; at < octets; at += BLOCK_OCTETS) {
    const block = Buffer.alloc(Math.min(BLOCK_OCTETS, octets - at), at % 251);
    block.writeDoubleBE(at);
    yield block;
  }
}

async function send(octets: number, to: Writable): Promise<string> {
  const hash = createHash("sha256");
  const seen = function* () {
    for (const block of generate(octets)) {
      hash.update(block);
      yield block;
    }
  };
  await pipeline(
    Readable.from(seen(), { objectMode: false, highWaterMark: BLOCK_OCTETS }),
    to,
  );
  return hash.digest("hex");
}

const server = createServer((request, answer) => {
  if (request.method === "GET") {
    const octets = Number(request.url?.slice(1));
    answer.setHeader("Content-Length", octets);
    if (request.headers["x-chunked"] !== undefined)
      answer.removeHeader("Content-Length");
    send(octets, answer).then(
      (sum) => {
        console.log(`sent ${String(octets)} octets, ${sum}`);
      },
      () => {
        console.log("was cut off");
      },
    );
    return;
  }
  const hash = createHash("sha256");
  let octets = 0;
  request.on("data", (block: Buffer) => {
    hash.update(block);
    octets += block.length;
  });
  request.on("end", () => {
    answer.end(`got ${String(octets)} octets, ${hash.digest("hex")}\n`);
  });
});

const [task, number = "0"] = process.argv.slice(2);
if (task === "write")
  console.error(`wrote ${await send(Number(number), process.stdout)}`);
else
  server.listen(Number(number), "127.0.0.1", () => {
    const address = server.address();
    if (address !== null && typeof address === "object")
      console.log(`listening on ${String(address.port)}`);
  });
