// What a client remembers of the relays that it has dialled through.
import { expect } from "chai";
import { forget, recall, remember } from "../../app/client/search.ts";

describe("a way that is remembered", () => {
  it("trusts the certificates of who dials now, not of who found it", () => {
    const url = new URL("http://relay.example.com");
    const secure = new URL("https://relay.example.com");
    remember({ url }, { way: "upgrade", relay: { url: secure, ca: "old" } });
    expect(recall({ url, ca: "new" })).to.deep.equal({
      way: "upgrade",
      relay: { url: secure, ca: "new" },
    });
    forget({ url });
    expect(recall({ url })).to.equal(undefined);
  });

  it("is the oldest of a thousand that is forgotten first", () => {
    const relay = (n: number): { url: URL } => ({
      url: new URL(`http://relay-${n}.example.com`),
    });
    for (let n = 0; n < 1025; n++)
      remember(relay(n), { way: "connect", relay: relay(n) });
    expect(recall(relay(0))).to.equal(undefined);
    expect(recall(relay(1024))?.way).to.equal("connect");
    for (let n = 0; n < 1025; n++) forget(relay(n));
  });
});
