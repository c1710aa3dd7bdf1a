// Who the visitor is, as the hidden server is told.
import { expect } from "chai";
import { startRelay } from "../support/relay.ts";
import { get, plain, seenBy } from "../support/visits.ts";

const PUBLIC = "https://relay.example.com";

describe("who the visitor is", () => {
  const CLAIMS =
    "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nVia: 1.1 router\r\n";
  const cases = [
    { trustProxy: 0, address: "127.0.0.1", proto: "http" },
    { trustProxy: 1, address: "2.2.2.2", proto: "https" },
    { trustProxy: 2, address: "1.1.1.1", proto: "https" },
  ] as const;
  for (const { trustProxy, address, proto } of cases) {
    it(`is told to the hidden server as far as ${trustProxy} routers in front can know it`, async () => {
      const relay = await startRelay({ trustProxy });
      const { head } = await seenBy(relay, get("/?rendezvous=pi", CLAIMS));
      expect(plain(head)).to.equal(
        `GET / HTTP/1.1\r\nHost: x\r\nVia: 1.1 router\r\nVia: 1.1 RELAY\r\nForwarded: for=${address};host="x";proto=${proto}\r\nX-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${proto}\r\nX-Forwarded-Host: x\r\n\r\n`,
      );
    });
  }

  for (const [host, settings, told] of [
    ["relay.example.com", {}, "x"],
    ["relay.example.com", { publicUrl: PUBLIC }, "relay.example.com"],
    ["RELAY.example.com:444", { publicUrl: PUBLIC }, "RELAY.example.com:444"],
    ["evil.com", { publicUrl: PUBLIC }, "x"],
    ["relay.example.com", { publicUrl: PUBLIC, trustProxy: 0 }, "x"],
    ["pi.example.com", { baseDomain: "example.com" }, "pi.example.com"],
    ["piexample.com", { baseDomain: "example.com" }, "x"],
    ['relay.example.com"; x', { publicUrl: PUBLIC }, "x"],
  ] as const) {
    it(`who names ${host} to a router that names another is told so where that is the relay: ${JSON.stringify(settings)}`, async () => {
      const relay = await startRelay({ trustProxy: 1, ...settings });
      const { field } = await seenBy(
        relay,
        get("/?rendezvous=pi", `X-Forwarded-Host: ${host}\r\n`),
      );
      expect(field("X-Forwarded-Host")).to.equal(told);
      expect(field("Host")).to.equal("x");
    });
  }

  it("comes by https where PUBLIC_URL says so and no router says anything", async () => {
    const relay = await startRelay({ publicUrl: PUBLIC });
    const { field } = await seenBy(relay, get("/?rendezvous=pi"));
    expect(field("X-Forwarded-Proto")).to.equal("https");
  });

  it("is told in brackets where the address is one of IPv6", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const { field } = await seenBy(
      relay,
      get("/?rendezvous=pi", "X-Forwarded-For: 2001:db8::1\r\n"),
    );
    expect(field("Forwarded")).to.equal(
      'for="[2001:db8::1]";host="x";proto=http',
    );
    expect(field("X-Forwarded-For")).to.equal("2001:db8::1");
  });

  it("is told as one of IPv4 where a router has mapped it into IPv6", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    for (const told of ["::ffff:192.0.2.1", "[::FFFF:192.0.2.1]:443"]) {
      const { field } = await seenBy(
        relay,
        get("/?rendezvous=pi", `X-Forwarded-For: ${told}\r\n`),
      );
      expect(field("X-Forwarded-For")).to.equal("192.0.2.1");
    }
  });

  it("is the router's neighbour when the router's word is no address", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const { field } = await seenBy(
      relay,
      get(
        "/?rendezvous=pi",
        'X-Forwarded-For: unknown";x="y\r\nX-Forwarded-Proto: gopher\r\n',
      ),
    );
    expect(field("X-Forwarded-For")).to.equal("127.0.0.1");
    expect(field("X-Forwarded-Proto")).to.equal("http");
  });
});
