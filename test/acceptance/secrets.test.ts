// The relay program's log at its most talkative: no secret, no token, no cookie and no query that anybody has sent is in it.
import { expect } from "chai";
import { generateSync } from "otplib";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import {
  issueFor,
  parkProgram,
  startHello,
  startRelayHere,
} from "../support/parked.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { RELAY_SECRET, until } from "../support/relay.ts";

/** Where a token may stand in a request that parks, for the id `pi`. */
const PLACES: readonly ((token: string) => readonly [string, string])[] = [
  (token) => [`?response=${token}`, ""],
  (token) => ["", `Authorization: Bearer ${token}\r\n`],
  (token) => ["", `Authorization: Basic ${btoa(`pi:${token}`)}\r\n`],
  (token) => ["", `Authorization: Basic ${btoa(`tau:${token}`)}\r\n`],
  (token) => ["", `Authorization: Digest response="${token}"\r\n`],
  (token) => ["", `Proxy-Authorization: Bearer ${token}\r\n`],
  (token) => ["", `Proxy-Authorization: Basic ${btoa(`pi:${token}`)}\r\n`],
];
const FORMS: readonly ((query: string, fields: string) => string)[] = [
  (query, fields) => `CONNECT uuid:pi${query} HTTP/1.1\r\n${fields}\r\n`,
  (query, fields) => `CONNECT uuid:not_an_id${query} HTTP/1.1\r\n${fields}\r\n`,
  (query, fields) =>
    `GET /-/park/pi${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ptth\r\n${fields}\r\n`,
  (query, fields) =>
    `GET /-/park/pi${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    `Sec-WebSocket-Protocol: ptth\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${fields}\r\n`,
  (query, fields) =>
    `PUT /${query === "" ? "?" : `${query}&`}uuid=pi HTTP/1.1\r\nHost: x\r\n${fields}\r\n`,
];

/** Eight digits are in no time of day. */
const code = (secret: string): string => generateSync({ secret, digits: 8 });

describe("the relay's log", () => {
  it("has no secret, token, cookie, login or query in it, good or bad, at trace", async () => {
    const { program, port } = await startRelayHere({
      LOG_LEVEL: "trace",
      HOLD_SECONDS: "0.1",
      DRAIN_SECONDS: "0.3",
      // A login may name a server that says nothing here.
      ANSWER_SECONDS: "1",
    });
    const { secret } = issueFor("pi", port);
    const key = decodeSecret(secret);
    const told = new Set([RELAY_SECRET, secret, secret.toLowerCase()]);
    const tell = (text: string): string => {
      told.add(text);
      told.add(Buffer.from(`pi:${text}`).toString("base64"));
      return text;
    };
    const say = async (text: string): Promise<Raw> =>
      (await connectRaw(port)).write(text);
    const answered = async (text: string): Promise<void> => {
      await (await say(text)).take("\r\n\r\n");
    };

    const asked: Promise<void>[] = [];
    for (const form of FORMS) {
      for (const [i, place] of PLACES.entries()) {
        const tokens = [
          await makeToken("pi", key),
          code(secret),
          `wrong-${i}-eyJhbGciOiJub25lIn0.e30.`,
        ];
        for (const token of tokens)
          asked.push(answered(form(...place(tell(token)))));
      }
    }
    await Promise.all(asked);

    await parkProgram("tau", port, await startHello());
    for (const visit of [
      "GET /?rendezvous=tau&password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "GET /?rendezvous=gone&password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "GET /?rendezvous=n_o&password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "GET http://someone:url-secret@tau/ HTTP/1.1\r\nHost: x\r\n",
      "GET http://nowhere.example/?password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "CONNECT gone:22 HTTP/1.1\r\nHost: x\r\n",
      "GET /.well-known/masque/tcp/tau/22/?password=query-secret HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n",
      "GET /?rendezvous=T HTTP/1.1\r\nHost: x\r\n",
      "GET /-/nowhere?password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "GET /%%?password=query-secret HTTP/1.1\r\nHost: x\r\n",
      "GET /?rendezvous=tau HTTP/1.1\r\nHost: x\r\nX : bad-line-secret\r\n",
    ])
      await answered(
        `${visit}Authorization: Bearer ${tell("visitor-login")}\r\nProxy-Authorization: Basic ${tell("proxy-login")}\r\n` +
          `Cookie: session=${tell("cookie-secret")}\r\nX-Request-Id: ${tell("request-id-secret")}\r\n\r\n`,
      );
    for (const text of ["query-secret", "url-secret", "bad-line-secret"])
      tell(text);

    // The generic protocol's cookies.
    const registering = await say(
      `PUT /?uuid=rho&response=${tell(code(issueFor("rho", port).secret))} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
    );
    const { result } = JSON.parse((await registering.answer()).body) as {
      result: { cookie: string };
    };
    for (const line of [tell(result.cookie), tell(`I${"0".repeat(36)}`)]) {
      const raw = await say(
        `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`,
      );
      await raw.take("\r\n\r\n");
      raw.write(`${line}\n`);
      if (line.startsWith("I")) await raw.take("-ERR");
    }

    program.child.kill("SIGTERM");
    await until(() => program.output.includes('"bye"'));
    // It has said much.
    expect(program.output).to.match(/"code":"bad_token"/);
    expect(program.output).to.match(/"msg":"a tunnel is parked"/);
    expect(program.output).to.match(/"msg":"a visit failed"/);
    expect(program.output).to.match(/"msg":"a TCP visit failed"/);
    for (const text of told) expect(program.output).to.not.include(text);
  });
});
