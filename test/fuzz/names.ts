// Who is meant, and who asks: naming, what is forwarded of a head, and whom the routers in front have seen.
import { expect } from "chai";
import fc from "fast-check";
import { isIP } from "node:net";
import { isId } from "../../app/protocol.ts";
import { clientOf } from "../../app/relay/client.ts";
import { answerHead, forwarded, requestHead } from "../../app/relay/heads.ts";
import {
  nameServer,
  type Named,
  type NamedServer,
  type NamingOptions,
} from "../../app/relay/naming.ts";
import {
  MAX_FIELDS,
  Malformed,
  headEnd,
  readAnswerHead,
  readRequestHead,
  type AnswerHead,
  type RequestHead,
} from "../../app/wire/head.ts";
import { End } from "./end.ts";
import { Llhttp } from "./llhttp.ts";
import { answers, someRequests } from "./messages.ts";
import { mutated, nearly } from "./octets.ts";
import { target } from "./target.ts";

const NAMING: NamingOptions = {
  parameter: "rendezvous",
  baseDomain: "example.com",
  cookieNaming: true,
  ownHosts: ["relay.example.net"],
};
const OPTIONS = { pseudonym: "rendezvous-fuzz", parameter: "rendezvous" };

/** The head at the beginning of a text, if it is one. */
function headOf<H>(
  text: string,
  read: (octets: Buffer, end: number) => H,
): H | undefined {
  const octets = Buffer.from(text, "latin1");
  const end = headEnd(octets, 0);
  if (end < 0) return undefined;
  try {
    return read(octets, end);
  } catch (problem) {
    if (!(problem instanceof Malformed)) throw problem;
    return undefined;
  }
}

const requestOf = (text: string): RequestHead | undefined =>
  headOf(text, (octets, end) => readRequestHead(octets, 0, end));

/** The id that is named, and how, in a word. */
const nameOf = (named: Named): string =>
  named.to === "server"
    ? `${named.id} by ${named.by}`
    : named.to === "nobody"
      ? named.code
      : named.to;

const ids = fc.constantFrom("pi", "other", "a", "x-1", "b".repeat(63));

/** A text with some of its octets percent-encoded, and its letters in any case. */
function spelled(
  text: string,
  rolls: readonly number[],
  keepsCase = false,
): string {
  return Array.from(text)
    .map((letter, i) => {
      const roll = (rolls[i % rolls.length] ?? 0) % 4;
      const code = letter.charCodeAt(0).toString(16);
      if (roll === 0) return `%${code}`;
      if (roll === 1) return `%${code.toUpperCase()}`;
      return roll === 2 && !keepsCase ? letter.toUpperCase() : letter;
    })
    .join("");
}

const rolls = fc.array(fc.nat(11), { minLength: 1, maxLength: 8 });
const more = fc.constantFrom("", "x", "y=1", "=", "%", "%zz", "a=%26", "&");
const path = fc.constantFrom("/", "/a", "//b", "/%2f..", "/-/health", "/a?");

const queries = nearly(
  fc
    .tuple(
      fc.array(
        fc.oneof(
          more,
          ids.map((id) => `rendezvous=${id}`),
        ),
      ),
      path,
    )
    .map(([parts, at]) => `${at.replace("?", "")}?${parts.join("&")}`),
  3,
);

const request = (line: string, fields: readonly string[]): string =>
  `${[`${line} HTTP/1.1`, ...fields].join("\r\n")}\r\n\r\n`;

/** Fields that mean one connection, and for requests those that are the relay's alone. */
const HOPS = ["connection", "keep-alive", "proxy-connection", "te", "upgrade"];
const REQUEST_HOPS = [
  ...HOPS,
  "proxy-authorization",
  "rendezvous-dial",
  "rendezvous-ping",
];

/** What the relay adds makes it more than our own framing reads. */
const isFull = ({ fields }: RequestHead | AnswerHead): boolean =>
  fields.length > 2 * (MAX_FIELDS - 16);

/** The names of a target's parameters. */
function keysOf(path: string): URLSearchParams {
  const query = path.split(/\?(.*)/s)[1] ?? "";
  // A "?" at its beginning would be taken for a mark.
  return new URLSearchParams(`&${query}`);
}

/** The fields of a head that the relay has written, as our framing and llhttp both read it. */
function writtenFields(head: string, kind: "request" | "answer"): string[] {
  const octets = Buffer.from(head, "latin1");
  expect(headEnd(octets, 0), "one head").to.equal(octets.length);
  const read =
    kind === "request"
      ? readRequestHead(octets, 0, octets.length)
      : readAnswerHead(octets, octets.length, "GET");
  const other = new Llhttp(kind);
  other.feed(octets);
  other.close();
  // It knows few methods, and no octets above ASCII in a target.
  if (
    other.error === undefined ||
    !/method|Invalid char in url/.test(other.error)
  ) {
    expect(other.error).to.equal(undefined);
    expect(other.head?.fields).to.deep.equal(read.fields);
  }
  return [...read.fields];
}

const namesIn = (fields: readonly string[]): string[] =>
  fields.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());

function valuesOf(fields: readonly string[], name: string): string[] {
  return fields.filter(
    (_, i) => i % 2 === 1 && fields[i - 1]?.toLowerCase() === name,
  );
}

/** The fields that are to be passed on as they are: all but those that mean this connection, or are the relay's to say. */
function meant(
  head: RequestHead | AnswerHead,
  drops: (name: string, value: string) => boolean,
): string[] {
  const hops = "method" in head ? REQUEST_HOPS : HOPS;
  const kept: string[] = [];
  for (let i = 0; i < head.fields.length; i += 2) {
    const [name = "", value = ""] = head.fields.slice(i, i + 2);
    const lower = name.toLowerCase();
    if (head.hops.includes(lower) || hops.includes(lower)) continue;
    if (lower === "transfer-encoding" || drops(lower, value)) continue;
    kept.push(name, value);
  }
  return kept;
}

/** What a cache reads first in a value, quotes and all, and whether a quote is open at its end. */
function asCached(value: string): { members: string[]; open: boolean } {
  const members = [""];
  let open = false;
  for (let i = 0; i < value.length; i++) {
    const octet = value.charAt(i);
    if (octet === "," && !open) {
      members.push("");
      continue;
    }
    members.push(`${members.pop() ?? ""}${octet}`);
    if (octet === '"') open = !open;
    else if (octet === "\\" && open)
      members.push(`${members.pop() ?? ""}${value.charAt(++i)}`);
  }
  return { members: members.map((member) => member.trim()), open };
}

const toCaches = mutated(
  fc
    .array(
      fc.constantFrom(
        ...["public", "private", "max-age=600", "S-Maxage=60", "no-store"],
        ...['private="x"', 'x="a, b"', 'x="', '"', 'x="\\"', "x=\\", '\\"'],
        ...["*", "Cookie", "Accept", "", "a b"],
      ),
      { maxLength: 4 },
    )
    .map((members) => members.join(", ")),
  2,
).map((value) => value.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, "").trim());

const IPS = [
  "1.2.3.4",
  "5.6.7.8:90",
  "2001:db8::1",
  "[2001:db8::2]:80",
  "::ffff:9.9.9.9",
  "unknown",
  "",
  "fe80::1%eth0",
  '"6.6.6.6"',
  "1.2.3.4\xa0",
  "256.1.1.1",
  "01.2.3.4",
  "1.2.3.4;host=evil",
] as const;
const chains = nearly(
  fc
    .array(fc.constantFrom(...IPS), { maxLength: 5 })
    .map((all) => all.join(", ")),
);
/** A value as a head can have it. */
const valued = chains.map((text) =>
  text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, ""),
);

const FORWARDED_LINES =
  /^Forwarded: for=(?:[\d.]*|"\[[0-9A-Za-z:.%-]+\]")(?:;host="[^"\\\s]+")?;proto=https?\r\nX-Forwarded-For: [0-9A-Za-z:.%-]*\r\nX-Forwarded-Proto: https?\r\n(?:X-Forwarded-Host: [^"\\\s]+\r\n)?$/;

export const names = [
  target(
    "an id is the same however it is spelled, and its parameter goes no further",
    fc.tuple(ids, rolls, rolls, fc.array(more, { maxLength: 3 }), path),
    ([id, key, value, others, at]) => {
      const parameter = `${spelled("rendezvous", key, true)}=${spelled(id, value)}`;
      const query = [...others, parameter, ...others].join("&");
      const line = `${at.replace("?", "")}?${query}`;
      const byQuery = requestOf(request(`GET ${line}`, ["Host: x"]));
      const upper = id.toUpperCase();
      for (const [head, by] of [
        [byQuery, "query"],
        [requestOf(request(`GET http://${id}${line}`, ["Host: x"])), "query"],
        [
          requestOf(request(`GET http://${upper}:80/`, ["Host: x"])),
          "absolute",
        ],
        [
          requestOf(
            request(`GET http://${id}.rendezvous.internal/`, ["Host: x"]),
          ),
          "absolute",
        ],
        [requestOf(request("GET /", [`Host: ${upper}.example.com:1`])), "host"],
      ] as const) {
        if (head === undefined) throw new Error("it cannot be read");
        const named = nameServer(head, NAMING);
        expect(nameOf(named)).to.equal(`${id} by ${by}`);
        const rest = "target" in named ? named.target : "";
        const left = keysOf(rest);
        expect([...left.keys()]).not.to.include("rendezvous");
      }
    },
  ),
  target(
    "a request names one server, nobody, or the relay; two names name nobody, and what is forwarded names nobody again",
    fc.oneof(
      { weight: 2, arbitrary: someRequests },
      {
        weight: 2,
        arbitrary: fc
          .tuple(
            queries,
            fc.constantFrom("", "http://pi", "HTTP://x.EXAMPLE.com:1"),
            fc.constantFrom("x", "pi.example.com", "other.example.com"),
          )
          .map(([rest, origin, host]) =>
            request(`GET ${origin}${rest}`, [
              `Host: ${host}`,
              "Cookie: rendezvous=other",
            ]),
          ),
      },
    ),
    (text) => {
      const head = requestOf(text);
      if (head === undefined) return;
      const named = nameServer(head, NAMING);
      expect(named.to).to.be.oneOf(["server", "relay", "challenge", "nobody"]);
      if (named.to !== "server" && named.to !== "relay") return;
      expect(named.target).to.match(/^(?:\/[^ \r\n\t]*|\*)$/);
      expect([...keysOf(named.target).keys()]).not.to.include("rendezvous");
      if (named.to === "relay") return;
      expect(isId(named.id), named.id).to.be.true;
      const asked = keysOf(head.target);
      const wanted = asked.getAll("rendezvous").map((id) => id.toLowerCase());
      if (named.by === "query")
        expect([...new Set(wanted)]).to.deep.equal([named.id]);
      else
        expect(
          wanted.every((id) => id === "t"),
          wanted.join(),
        ).to.be.true;
      // The same request without its name has lost nothing but that.
      const again = nameServer({ ...head, target: named.target }, NAMING);
      if (again.to === "server" || again.to === "relay")
        expect(again.target).to.equal(named.target);
      if (named.by !== "query") return;
      expect(again.to === "server" && again.by === "query").to.be.false;
    },
    2,
  ),
  target(
    "a request's head is forwarded with the fields that were meant, no hop-by-hop field among them, and both readers agree on it",
    fc.tuple(someRequests, fc.boolean()),
    ([text, lastOne]) => {
      const head = requestOf(text);
      if (head === undefined || isFull(head)) return;
      const named = nameServer(head, NAMING);
      if (named.to !== "server") return;
      const client = { address: "1.2.3.4", proto: "http", host: "x" } as const;
      const written = requestHead(head, named, client, lastOne, OPTIONS);
      const fields = writtenFields(written, "request");
      const names = namesIn(fields);
      for (const one of [
        "host",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
      ])
        expect(valuesOf(fields, one), one).to.have.length(1);
      expect(
        names.filter((name) =>
          name.replaceAll("_", "-").startsWith("x-forwarded-"),
        ),
      ).to.have.length.at.most(3);
      for (const name of [
        "rendezvous-dial",
        "rendezvous-ping",
        "proxy-authorization",
        "keep-alive",
        "proxy-connection",
      ])
        expect(names).not.to.include(name);
      for (const value of valuesOf(fields, "cookie"))
        expect(value).not.to.match(/(?:^|; )rendezvous=/);
      const isOurs = (name: string): boolean =>
        name === "forwarded" ||
        name === "host" ||
        name.replaceAll("_", "-").startsWith("x-forwarded-") ||
        name === "cookie" ||
        (name === "authorization" && named.by === "authorization") ||
        (name === "expect" && head.minor === 0);
      const kept = meant(head, isOurs);
      const came = [...fields];
      for (let i = 0; i < kept.length; i += 2) {
        const at = came.findIndex(
          (name, j) =>
            j % 2 === 0 && name === kept[i] && came[j + 1] === kept[i + 1],
        );
        expect(at, `${kept[i] ?? ""} is missing`).to.be.at.least(0);
        came.splice(at, 2);
      }
      expect(namesIn(came).sort()).to.deep.equal(
        addedTo(head, named, lastOne, came),
      );
    },
    2,
  ),
  target(
    "an answer's head is passed on with the fields that were meant, and both readers agree on it",
    fc.tuple(answers, fc.boolean(), fc.constantFrom<0 | 1>(0, 1)),
    ([text, persistent, minor]) => {
      const head = headOf(text, (octets, end) =>
        readAnswerHead(octets, end, "GET"),
      );
      if (head === undefined || head.status === 101 || isFull(head)) return;
      const written = answerHead(head, { minor, persistent }, OPTIONS);
      const fields = writtenFields(written, "answer");
      const dropped = (name: string, value: string): boolean =>
        name === "proxy-authenticate" ||
        (name === "set-cookie" &&
          /^[\s=]*rendezvous(?:\s*(?:[=;]|$)|-grant-)/.test(value));
      const kept = meant(head, dropped);
      expect(fields.slice(0, kept.length)).to.deep.equal(kept);
      const added = namesIn(fields.slice(kept.length));
      for (const name of added)
        expect(name).to.be.oneOf([
          "via",
          "transfer-encoding",
          "connection",
          "upgrade",
        ]);
      expect(new Set(added).size).to.equal(added.length);
    },
  ),
  target(
    "shared caches are told that an answer is private and what it depends on, whatever a hidden server tells them, in whatever quotes",
    fc.array(
      fc.tuple(
        fc.constantFrom("Vary", "vary", "Cache-Control", "cache-control"),
        toCaches,
      ),
      { maxLength: 4 },
    ),
    (lines) => {
      const text = lines.map((line) => `${line.join(": ")}\r\n`).join("");
      const head = headOf(
        `HTTP/1.1 200 OK\r\n${text}Content-Length: 0\r\n\r\n`,
        (octets, end) => readAnswerHead(octets, end, "GET"),
      );
      if (head === undefined) throw new Error("it cannot be read");
      const varies = ["Authorization", "Cookie"];
      const written = answerHead(
        head,
        { minor: 1, persistent: true, varies, unshared: true },
        OPTIONS,
      );
      const fields = writtenFields(written, "answer");
      const [vary = "", ...otherVary] = valuesOf(fields, "vary");
      const [caching = "", ...others] = valuesOf(fields, "cache-control");
      expect([...otherVary, ...others]).to.deep.equal([]);
      expect(vary).to.not.match(/[^\w!#$%&'*+.^`|~, -]/);
      if (vary !== "*")
        expect(vary.split(", ").slice(0, 2)).to.deep.equal(varies);
      const { members, open } = asCached(caching);
      expect(open).to.equal(false);
      const [first, ...directives] = members;
      expect(first).to.equal("private");
      for (const directive of directives)
        expect(directive).to.not.match(/^(?:private|public|s-maxage)(?:=|$)/i);
      const own = asCached(valuesOf(head.fields, "cache-control").join(", "));
      if (own.members.some((member) => /^no-store$/i.test(member)))
        expect(directives.join().toLowerCase()).to.include("no-store");
      if (own.open) expect(directives).to.deep.equal(["no-store"]);
    },
  ),
  target(
    "the visitor's address is what the outermost trusted router has seen, and nothing can be put into what is forwarded of it",
    fc.record({
      lines: fc.array(valued, { maxLength: 3 }),
      host: fc.oneof(
        valued,
        mutated(fc.constantFrom("pi.example.com", 'x";y'), 2),
      ),
      trustProxy: fc.nat(3),
      proto: fc.constantFrom("https", "HTTP", "ftp", "http, https", "https\r"),
    }),
    ({ lines, host, trustProxy, proto }) => {
      const clean = host.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, "");
      const head = requestOf(
        request("GET /", [
          "Host: x",
          ...lines.map((line) => `X-Forwarded-For: ${line}`),
          `X-Forwarded-Proto: ${proto.trim()}`,
          `X-Forwarded-Host: ${clean}`,
        ]),
      );
      if (head === undefined) throw new Error("it cannot be read");
      const end = new End();
      const client = clientOf(head, end.link, {
        trustProxy,
        publicUrl: "https://relay.example.com",
        baseDomain: "example.com",
      });
      end.destroy();
      const entries = lines.join(",").split(",");
      const told =
        trustProxy === 0 || lines.length === 0
          ? ""
          : (entries[Math.max(0, entries.length - trustProxy)] ?? "");
      // What is in front of its brackets or behind its port is not looked for anywhere else.
      if (client.address !== "") {
        expect(isIP(client.address)).to.be.above(0);
        expect(told).to.include(client.address);
      }
      if (trustProxy === 0) expect(client.address).to.equal("");
      expect(client.host).to.satisfy(
        (name: string) => name === "x" || /^[\w.:%!$&'()*+,;=~-]+$/.test(name),
      );
      expect(forwarded(client, client.host)).to.match(FORWARDED_LINES);
    },
  ),
];

/** The names of the fields that the relay adds, sorted. */
function addedTo(
  head: RequestHead,
  named: NamedServer,
  lastOne: boolean,
  came: readonly string[],
): string[] {
  const added = [
    "via",
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
  ];
  const host = named.by === "absolute" ? named.host : "x";
  if (host !== undefined && host !== "") added.push("x-forwarded-host");
  if (head.framing === "chunked") added.push("transfer-encoding");
  const isUpgrade = head.upgrade !== undefined;
  const hasTrailers = valuesOf(head.fields, "te").some((value) =>
    /(?:^|,)\s*trailers\s*(?:,|$)/i.test(value),
  );
  const says = isUpgrade || (hasTrailers && head.minor === 1) || lastOne;
  if (says) added.push("connection");
  if (isUpgrade) added.push("upgrade");
  else if (hasTrailers && head.minor === 1) added.push("te");
  // A cookie is passed on without the relay's own.
  for (const name of namesIn(came)) if (name === "cookie") added.push(name);
  return added.sort();
}
