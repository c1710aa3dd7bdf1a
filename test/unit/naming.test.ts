// Which hidden server a request names: each way, their order, and what the hidden server gets to see.
import { expect } from "chai";
import {
  nameServer,
  withoutCookie,
  type Named,
  type NamingOptions,
} from "../../app/relay/naming.ts";
import { readRequestHead } from "../../app/wire/head.ts";

const OPTIONS: NamingOptions = {
  parameter: "rendezvous",
  baseDomain: undefined,
  cookieNaming: true,
  ownHosts: [],
};
const DIGEST =
  'Authorization: Digest username="pi", realm="rendezvous", nonce="1", uri="/", response="2"';

function named(
  line: string,
  fields: readonly string[] = [],
  options: Partial<NamingOptions> = {},
): Named {
  const host = fields.some((field) => /^host:/i.test(field))
    ? []
    : ["Host: relay.example.net"];
  const octets = Buffer.from(
    `${[`${line} HTTP/1.1`, ...host, ...fields].join("\r\n")}\r\n\r\n`,
    "latin1",
  );
  return nameServer(readRequestHead(octets, 0, octets.length), {
    ...OPTIONS,
    ...options,
  });
}

/** The id, the way and the target, in a word each. */
function summary(what: Named): string {
  switch (what.to) {
    case "server":
      return `${what.id} by ${what.by}: ${what.target}`;
    case "relay":
      return `relay: ${what.target}`;
    case "challenge":
      return "challenge";
    case "nobody":
      return what.code;
  }
}

const login = (text: string): string =>
  `Authorization: Basic ${Buffer.from(text).toString("base64")}`;

type Case = readonly [
  title: string,
  line: string,
  fields: readonly string[],
  gives: string,
  options?: Partial<NamingOptions>,
];

function table(cases: readonly Case[]): void {
  for (const [title, line, fields, gives, options] of cases) {
    it(`${title}: ${gives}`, () => {
      expect(summary(named(line, fields, options))).to.equal(gives);
    });
  }
}

describe("naming by the query", () => {
  table([
    ["the parameter alone", "GET /?rendezvous=pi", [], "pi by query: /"],
    ["any path", "GET /-/health?rendezvous=pi", [], "pi by query: /-/health"],
    [
      "first of several",
      "GET /a?rendezvous=pi&b=1&c",
      [],
      "pi by query: /a?b=1&c",
    ],
    [
      "in the middle",
      "GET /a?b=1&rendezvous=pi&c=2",
      [],
      "pi by query: /a?b=1&c=2",
    ],
    ["last of several", "GET /a?b=1&rendezvous=pi", [], "pi by query: /a?b=1"],
    [
      "every other octet stays",
      "GET /a%2F?&&b=%7e+%2B&rendezvous=pi&=&?x=/;'\xe9&",
      [],
      "pi by query: /a%2F?&&b=%7e+%2B&=&?x=/;'\xe9&",
    ],
    [
      "an empty query that was there stays",
      "GET /a?&rendezvous=pi",
      [],
      "pi by query: /a?",
    ],
    ["capitals", "GET /?rendezvous=PI", [], "pi by query: /"],
    [
      "a percent-encoded value",
      "GET /?rendezvous=%70%69",
      [],
      "pi by query: /",
    ],
    [
      "a percent-encoded name",
      "GET /?a&%72endezvou%73=pi",
      [],
      "pi by query: /?a",
    ],
    [
      "the same name twice",
      "GET /?rendezvous=pi&a&rendezvous=PI",
      [],
      "pi by query: /?a",
    ],
    [
      "a UUID",
      "GET /?rendezvous=1b4e28ba-2fa1-11d2-883f-0016d3cca427",
      [],
      "1b4e28ba-2fa1-11d2-883f-0016d3cca427 by query: /",
    ],
    ["two names", "GET /?rendezvous=pi&rendezvous=other", [], "ambiguous_name"],
    [
      "two names, one encoded",
      "GET /?rendezvous=pi&%72endezvous=other",
      [],
      "ambiguous_name",
    ],
    ["an empty name", "GET /?rendezvous=", [], "bad_request"],
    ["no value", "GET /?rendezvous", [], "bad_request"],
    ["what is no id", "GET /?rendezvous=a.b", [], "bad_request"],
    ["an encoded NUL", "GET /?rendezvous=pi%00", [], "bad_request"],
    [
      "an encoding that is broken",
      "GET /?rendezvous=%E0%A4%A",
      [],
      "bad_request",
    ],
    [
      "another parameter that is broken stays",
      "GET /?a=%zz&rendezvous=pi",
      [],
      "pi by query: /?a=%zz",
    ],
    [
      "the parameter's name in capitals is another one",
      "GET /?Rendezvous=pi",
      [],
      "relay: /?Rendezvous=pi",
    ],
    [
      "a longer parameter is another one",
      "GET /?xrendezvous=pi",
      [],
      "relay: /?xrendezvous=pi",
    ],
    [
      "the path is not the query",
      "GET /rendezvous=pi",
      [],
      "relay: /rendezvous=pi",
    ],
    [
      "the name of the parameter is a setting",
      "GET /?to=pi&rendezvous=x",
      [],
      "pi by query: /?rendezvous=x",
      { parameter: "to" },
    ],
  ]);
});

describe("naming by the absolute form", () => {
  table([
    ["the id alone", "GET http://pi/a?b", [], "pi by absolute: /a?b"],
    ["with a port", "GET http://pi:8080/a", [], "pi by absolute: /a"],
    ["in capitals", "GET HTTP://PI/a", [], "pi by absolute: /a"],
    [
      "below rendezvous.internal",
      "GET http://pi.rendezvous.internal/a",
      [],
      "pi by absolute: /a",
    ],
    ["without a path", "GET http://pi", [], "pi by absolute: /"],
    [
      "without a path, with a query",
      "GET http://pi?a",
      [],
      "pi by absolute: /?a",
    ],
    ["OPTIONS without a path", "OPTIONS http://pi", [], "pi by absolute: *"],
    [
      "below the base domain",
      "GET http://pi.example.com/",
      [],
      "pi by absolute: /",
      { baseDomain: "example.com" },
    ],
    [
      "together with the same name in the query",
      "GET http://pi/a?rendezvous=pi",
      [],
      "pi by query: /a",
    ],
    [
      "whatever Host says",
      "GET http://pi/",
      ["Host: other"],
      "pi by absolute: /",
    ],
    [
      "example.com names nobody, whoever has the id example",
      "GET http://example.com/",
      [],
      "unknown_server",
    ],
    [
      "example.com with a base domain names nobody either",
      "GET http://example.com/",
      [],
      "unknown_server",
      { baseDomain: "example.org" },
    ],
    [
      "two labels below the base domain",
      "GET http://a.pi.example.com/",
      [],
      "unknown_server",
      { baseDomain: "example.com" },
    ],
    [
      "two labels below rendezvous.internal",
      "GET http://a.pi.rendezvous.internal/",
      [],
      "unknown_server",
    ],
    ["an address", "GET http://127.0.0.1/", [], "unknown_server"],
    ["an address of IPv6", "GET http://[::1]:80/", [], "unknown_server"],
    [
      "example.com with a name in the query",
      "GET http://example.com/?rendezvous=pi",
      [],
      "pi by query: /",
    ],
    [
      "another name in the query",
      "GET http://pi/?rendezvous=other",
      [],
      "ambiguous_name",
    ],
    [
      "the base domain itself is the relay",
      "GET http://example.com/",
      [],
      "relay: /",
      { baseDomain: "example.com" },
    ],
    [
      "the relay's own host is the relay",
      "GET http://relay.example.org:1/a",
      [],
      "relay: /a",
      { ownHosts: ["relay.example.org"] },
    ],
    ["a user", "GET http://user:x@pi/", [], "bad_request"],
    ["no host", "GET http:///a", [], "bad_request"],
    ["another scheme", "GET ftp://pi/", [], "bad_request"],
    ["no path and no URL", "GET pi", [], "bad_request"],
  ]);

  it("makes the absolute form's host the one that the hidden server sees", () => {
    expect(named("GET http://pi:81/a", ["Host: other"])).to.include({
      host: "pi:81",
    });
    expect(
      named("GET http://example.com/?rendezvous=pi", ["Host: other"]),
    ).to.include({ host: "example.com" });
    expect(named("GET /?rendezvous=pi", ["Host: other:1"])).to.include({
      host: "other:1",
    });
  });
});

describe("naming by Host", () => {
  const domain = { baseDomain: "example.com" };
  table([
    [
      "below the base domain",
      "GET /a?b",
      ["Host: pi.example.com"],
      "pi by host: /a?b",
      domain,
    ],
    [
      "with a port, in capitals",
      "GET /",
      ["Host: PI.Example.COM:8080"],
      "pi by host: /",
      domain,
    ],
    [
      "under the relay's own paths too",
      "GET /-/health",
      ["Host: pi.example.com"],
      "pi by host: /-/health",
      domain,
    ],
    [
      "together with the same name in the query",
      "GET /?rendezvous=pi",
      ["Host: pi.example.com"],
      "pi by query: /",
      domain,
    ],
    [
      "another name in the query",
      "GET /?rendezvous=other",
      ["Host: pi.example.com"],
      "ambiguous_name",
      domain,
    ],
    [
      "another name in the absolute form",
      "GET http://other/",
      ["Host: pi.example.com"],
      "ambiguous_name",
      domain,
    ],
    [
      "the base domain itself",
      "GET /",
      ["Host: example.com"],
      "relay: /",
      domain,
    ],
    ["two labels", "GET /", ["Host: a.pi.example.com"], "relay: /", domain],
    [
      "another domain that ends alike",
      "GET /",
      ["Host: pi.anexample.com"],
      "relay: /",
      domain,
    ],
    ["the id alone is no such host", "GET /", ["Host: pi"], "relay: /", domain],
    [
      "rendezvous.internal is for the absolute form",
      "GET /",
      ["Host: pi.rendezvous.internal"],
      "relay: /",
      domain,
    ],
    ["without a base domain", "GET /", ["Host: pi.example.com"], "relay: /"],
  ]);
});

describe("naming by a login", () => {
  table([
    ["T asks for it", "GET /a?rendezvous=T", [], "challenge"],
    [
      "T with Digest",
      "GET /a?rendezvous=T&b",
      [DIGEST],
      "pi by authorization: /a?b",
    ],
    [
      "T with Basic",
      "GET /?rendezvous=T",
      [login("PI:x:y")],
      "pi by authorization: /",
    ],
    ["Digest without T", "GET /a", [DIGEST], "pi by authorization: /a"],
    ["Basic without T", "GET /a", [login("pi:")], "pi by authorization: /a"],
    [
      "a user with escapes",
      "GET /",
      ['Authorization: Digest realm="rendezvous", username="p\\i"'],
      "pi by authorization: /",
    ],
    [
      "T with a name in the absolute form",
      "GET http://pi/?rendezvous=T",
      [],
      "pi by absolute: /",
    ],
    ["t in lower case is an id", "GET /?rendezvous=t", [], "t by query: /"],
    [
      "a name in the query goes first",
      "GET /?rendezvous=other",
      [DIGEST],
      "other by query: /",
    ],
    ["a user who is no id", "GET /", [login("p.i:x")], "unknown_server"],
    ["Basic without a colon", "GET /", [login("pi")], "bad_authorization"],
    [
      "Digest without a user",
      "GET /",
      ['Authorization: Digest realm="rendezvous"'],
      "bad_authorization",
    ],
    ["Bearer", "GET /", ["Authorization: Bearer x"], "bad_authorization"],
    [
      "the relay's own paths stay the relay's",
      "GET /-/health",
      [DIGEST],
      "relay: /-/health",
    ],
    [
      "Digest goes before the cookie",
      "GET /",
      [DIGEST, "Cookie: rendezvous=other"],
      "pi by authorization: /",
    ],
    [
      "a page's own Basic login does not lead away from where the cookie leads",
      "GET /",
      [login("admin:x"), "Cookie: rendezvous=pi"],
      "pi by cookie: /",
    ],
    [
      "a page's own Digest login does not either",
      "GET /",
      [
        'Authorization: Digest username="admin", realm="router"',
        "Cookie: rendezvous=pi",
      ],
      "pi by cookie: /",
    ],
    ["nothing at all", "GET /", [], "relay: /"],
  ]);
});

describe("naming by the cookie", () => {
  table([
    [
      "alone",
      "GET /style.css?a",
      ["Cookie: rendezvous=pi"],
      "pi by cookie: /style.css?a",
    ],
    [
      "among others",
      "GET /",
      ["Cookie: a=b; rendezvous=pi; c"],
      "pi by cookie: /",
    ],
    [
      "in a second field",
      "GET /",
      ["Cookie: a=b", "Cookie: rendezvous=pi"],
      "pi by cookie: /",
    ],
    [
      "twice the same",
      "GET /",
      ["Cookie: rendezvous=pi; rendezvous=pi"],
      "pi by cookie: /",
    ],
    [
      "two names",
      "GET /",
      ["Cookie: rendezvous=pi; rendezvous=other"],
      "ambiguous_name",
    ],
    [
      "the query goes first",
      "GET /?rendezvous=other",
      ["Cookie: rendezvous=pi"],
      "other by query: /",
    ],
    [
      "Host goes first",
      "GET /",
      ["Host: other.example.com", "Cookie: rendezvous=pi"],
      "other by host: /",
      { baseDomain: "example.com" },
    ],
    [
      "T goes first",
      "GET /?rendezvous=T",
      ["Cookie: rendezvous=pi"],
      "challenge",
    ],
    ["what is no id", "GET /", ["Cookie: rendezvous=../x"], "relay: /"],
    [
      "another cookie that ends alike",
      "GET /",
      ["Cookie: xrendezvous=pi"],
      "relay: /",
    ],
    [
      "the relay's own paths stay the relay's",
      "GET /-/leave",
      ["Cookie: rendezvous=pi"],
      "relay: /-/leave",
    ],
    [
      "turned off",
      "GET /",
      ["Cookie: rendezvous=pi"],
      "relay: /",
      { cookieNaming: false },
    ],
  ]);

  it("is taken out of Cookie, and nothing else is", () => {
    expect(withoutCookie("rendezvous=pi", "rendezvous")).to.be.undefined;
    expect(withoutCookie("rendezvous=pi; rendezvous=x", "rendezvous")).to.be
      .undefined;
    expect(
      withoutCookie("a=1; rendezvous=pi; b=rendezvous=2", "rendezvous"),
    ).to.equal("a=1; b=rendezvous=2");
    expect(withoutCookie("a=1;b=2", "rendezvous")).to.equal("a=1;b=2");
    expect(withoutCookie("xrendezvous=1;b=2", "rendezvous")).to.be.oneOf([
      "xrendezvous=1;b=2",
      "xrendezvous=1; b=2",
    ]);
  });
});
