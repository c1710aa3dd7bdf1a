// visitor: curl -> relay ==tunnel==> legacy hidden server: raw sockets and an authenticator's code, as in 2013
import { expect } from "chai";
import { connect, type Socket } from "node:net";
import { generateSync } from "otplib";
import { afterThisTest } from "../support/cleanup.ts";
import {
  curl,
  expectNoCrash,
  issueFor,
  startRelayHere,
} from "../support/parked.ts";
import { needs } from "../support/programs.ts";
import { connectRaw } from "../support/raw.ts";

/** The whole of a legacy hidden server: park, wait for the 200, answer the one request that comes, park again. */
function startLegacyServer(port: number, id: string, secret: string): void {
  let stopped = false;
  let answered = 0;
  let socket: Socket;
  afterThisTest(() => {
    stopped = true;
    socket.destroy();
  });
  const parkAgain = (): void => {
    if (stopped) return;
    const code = generateSync({ secret });
    let text = "";
    let parked = false;
    socket = connect(port, "127.0.0.1");
    socket.write(`CONNECT uuid:${id}?response=${code} HTTP/1.1\r\n\r\n`);
    socket.setEncoding("latin1");
    socket.on("data", (octets: string) => {
      text += octets;
      // The request of a visitor who waits may come together with the 200.
      for (;;) {
        const end = text.indexOf("\r\n\r\n");
        if (end < 0) return;
        const line = text.slice(0, text.indexOf("\r\n"));
        text = text.slice(end + 4);
        if (parked) {
          const body = `answer ${++answered} to ${line}\n`;
          socket.end(
            `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
          );
        } else if (line === "HTTP/1.1 200 OK") parked = true;
        else socket.destroy(new Error(line));
      }
    });
    socket.on("error", () => undefined).on("close", parkAgain);
  };
  parkAgain();
}

describe("a legacy hidden server of raw sockets", () => {
  it("is visited by curl --digest, again and again", async function () {
    needs(this, "curl");
    const { program, port } = await startRelayHere();
    startLegacyServer(port, "old", issueFor("old", port).secret);
    for (const n of [1, 2, 3, 4, 5]) {
      const { status, body } = await curl(
        ...["--digest", "-u", "old:"],
        `http://127.0.0.1:${port}/page/${n}?rendezvous=T`,
      );
      expect([status, body]).to.deep.equal([
        200,
        `answer ${n} to GET /page/${n} HTTP/1.1\n`,
      ]);
    }
    expectNoCrash(program);
  });

  it("is visited in every other way of naming too", async function () {
    needs(this, "curl");
    const { program, port } = await startRelayHere({
      BASE_DOMAIN: "localhost",
    });
    startLegacyServer(port, "old", issueFor("old", port).secret);
    const at = `http://127.0.0.1:${port}`;
    const visits = [
      [`${at}/x?rendezvous=old`],
      ["--proxy", at, "http://old/x"],
      [`http://old.localhost:${port}/x`],
      ["-u", "old:", `${at}/x`],
    ];
    for (const [i, visit] of visits.entries()) {
      const { body } = await curl(...visit);
      expect(body).to.equal(`answer ${i + 1} to GET /x HTTP/1.1\n`);
    }
    expectNoCrash(program);
  });

  it("is not parked by a wrong code, and the relay says so as it did", async () => {
    const { port } = await startRelayHere();
    const legacy = await connectRaw(port);
    legacy.write("CONNECT uuid:old?response=000000 HTTP/1.1\r\n\r\n");
    const { status, body } = await legacy.answer();
    expect(status).to.equal(401);
    expect(JSON.parse(body)).to.have.deep.property("error", {
      permanent: false,
      diagnostic: "invalid request",
    });
  });
});
