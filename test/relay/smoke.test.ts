import { expect } from "chai";
import request from "supertest";
import { parkRaw } from "../support/hidden.ts";
import { connectRaw } from "../support/raw.ts";
import { parkHere, startRelay } from "../support/relay.ts";

describe("a visit over HTTP", () => {
  it("reaches a server in this process by the query", async () => {
    const relay = await startRelay();
    await parkHere(relay, "pi", (asked, answer) => answer.end(asked.url));
    await request(relay.server)
      .get("/a?x=1&rendezvous=pi&y=2")
      .expect(200, "/a?x=1&y=2");
  });
  it("reaches a legacy server, once for each tunnel", async () => {
    const relay = await startRelay();
    const hidden = await parkRaw(relay, "old");
    const visitor = await connectRaw(relay.port);
    visitor.write("GET /?rendezvous=old HTTP/1.1\r\nHost: x\r\n\r\n");
    const head = await hidden.take("\r\n\r\n");
    expect(head).to.match(/^GET \/ HTTP\/1.1\r\nHost: x\r\n/);
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    expect((await visitor.answer()).body).to.equal("hi");
    await hidden.end();
  });
});
