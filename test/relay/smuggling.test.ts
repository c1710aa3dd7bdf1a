// Messages that two readers could read in two ways: refused, or passed on so that only one way is left. A test for each attempt, on both legs.
import { expect } from "chai";
import { parkRaw, parkRawAgent } from "../support/hidden.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";

/** What an attacker would like the hidden server to take for a request of its own. */
const SMUGGLED =
  "GET /smuggled?rendezvous=pi HTTP/1.1\r\nHost: x\r\nX: smuggled\r\n\r\n";
const GOOD = "GET /good?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n";
const HOST = "Host: x\r\n";
const CHUNKED = "Transfer-Encoding: chunked\r\n";

const get = (fields: string): string =>
  `GET /a?rendezvous=pi HTTP/1.1\r\n${fields}\r\n`;
const post = (fields: string, body = ""): string =>
  `POST /a?rendezvous=pi HTTP/1.1\r\n${HOST}${fields}\r\n${body}`;
const line = (requestLine: string): string => `${requestLine}\r\n${HOST}\r\n`;
const many = (count: number, field: string): string => field.repeat(count);

type Refused = readonly [
  title: string,
  sent: string,
  status: number,
  code: string,
];

/** Heads that are refused before anything is sent to a hidden server. */
const REFUSED_HEADS: readonly Refused[] = [
  // Two framings.
  [
    "Transfer-Encoding with Content-Length",
    post(`${CHUNKED}Content-Length: 4\r\n`, "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  [
    "Content-Length with Transfer-Encoding",
    post(`Content-Length: 4\r\n${CHUNKED}`, "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  [
    "two differing Content-Lengths",
    post("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde"),
    400,
    "bad_request",
  ],
  [
    "two equal Content-Lengths",
    post("Content-Length: 4\r\nContent-Length: 4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a list of Content-Lengths",
    post("Content-Length: 4, 4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  // One length that can be read in two ways.
  [
    "a Content-Length with a plus",
    post("Content-Length: +4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Content-Length with a minus",
    post("Content-Length: -4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Content-Length with a space inside",
    post("Content-Length: 4 4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Content-Length in hexadecimal",
    post("Content-Length: 0x4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Content-Length with a fraction",
    post("Content-Length: 4.0\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "an empty Content-Length",
    post("Content-Length:\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Content-Length beyond what numbers can hold",
    post("Content-Length: 18446744073709551620\r\n", "abcd"),
    400,
    "bad_request",
  ],
  // Line ends.
  [
    "lines that end with a bare LF",
    "GET /a?rendezvous=pi HTTP/1.1\nHost: x\n\n",
    400,
    "bad_request",
  ],
  [
    "one field line that ends with a bare LF",
    get("Host: x\nX: y\r\n"),
    400,
    "bad_request",
  ],
  [
    "a head that ends with a bare LF",
    "GET /a?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\n",
    400,
    "bad_request",
  ],
  ["a bare CR in a value", get(`${HOST}X: y\rZ: z\r\n`), 400, "bad_request"],
  [
    "a bare CR in the request line",
    line("GET /a?rendezvous=pi\r HTTP/1.1"),
    400,
    "bad_request",
  ],
  ["two CRs before an LF", get("Host: x\r\r\n"), 400, "bad_request"],
  [
    "a field that is folded with a space",
    get(`${HOST}X: y\r\n z\r\n`),
    400,
    "bad_request",
  ],
  [
    "a field that is folded with a tab",
    get(`${HOST}X: y\r\n\tz\r\n`),
    400,
    "bad_request",
  ],
  [
    "a first field line that begins with a space",
    get(` X: y\r\n${HOST}`),
    400,
    "bad_request",
  ],
  [
    "a Transfer-Encoding folded onto a line of its own",
    post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  // Transfer codings.
  [
    "the coding xchunked",
    post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "the codings gzip, chunked",
    post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "the codings chunked, gzip",
    post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "the codings chunked, chunked",
    post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "the coding identity",
    post("Transfer-Encoding: identity\r\n"),
    501,
    "not_implemented",
  ],
  [
    "the codings chunked, identity",
    post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "an empty Transfer-Encoding",
    post("Transfer-Encoding:\r\n"),
    501,
    "not_implemented",
  ],
  [
    "a coding in quotes",
    post('Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "a coding with a parameter",
    post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
    501,
    "not_implemented",
  ],
  [
    "two Transfer-Encodings",
    post(CHUNKED + CHUNKED, "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  [
    "a second Transfer-Encoding that is unknown",
    post(`${CHUNKED}Transfer-Encoding: x\r\n`, "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  [
    "a vertical tab before the coding",
    post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  [
    "a Transfer-Encoding of HTTP/1.0",
    `POST /a?rendezvous=pi HTTP/1.0\r\n${HOST}${CHUNKED}\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  // Field names and values.
  [
    "a space before the colon",
    post("Content-Length : 4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a tab before the colon",
    post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
    400,
    "bad_request",
  ],
  ["a space inside a name", get(`${HOST}X Y: z\r\n`), 400, "bad_request"],
  ["an empty name", get(`${HOST}: z\r\n`), 400, "bad_request"],
  ["a line without a colon", get(`${HOST}X\r\n`), 400, "bad_request"],
  ["a NUL in a name", get(`${HOST}X\0: z\r\n`), 400, "bad_request"],
  ["a NUL in a value", get(`${HOST}X: y\0z\r\n`), 400, "bad_request"],
  ["a DEL in a value", get(`${HOST}X: y\x7fz\r\n`), 400, "bad_request"],
  [
    "an octet above ASCII in a name",
    get(`${HOST}X\xe9: y\r\n`),
    400,
    "bad_request",
  ],
  // Host.
  ["two Hosts", get("Host: x\r\nHost: y\r\n"), 400, "bad_request"],
  ["two equal Hosts", get(HOST + HOST), 400, "bad_request"],
  ["no Host", get("X: y\r\n"), 400, "bad_request"],
  ["a Host with a user", get("Host: user@x\r\n"), 400, "bad_request"],
  ["a Host with a path", get("Host: x/y\r\n"), 400, "bad_request"],
  ["a Host with a space", get("Host: x y\r\n"), 400, "bad_request"],
  ["a Host with a quote", get('Host: x"y\r\n'), 400, "bad_request"],
  ["a Host with two ports", get("Host: x:1:2\r\n"), 400, "bad_request"],
  [
    "a Host with a port that is no number",
    get("Host: x:80a\r\n"),
    400,
    "bad_request",
  ],
  ["a Host with an open bracket", get("Host: [::1\r\n"), 400, "bad_request"],
  ["a list of Hosts", get("Host: x, y\r\n"), 400, "bad_request"],
  // Request targets.
  [
    "an absolute form with a user",
    line("GET http://user@x/a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "an absolute form without a host",
    line("GET http:///a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "an absolute form with a quote in its host",
    line('GET http://x"y/a?rendezvous=pi HTTP/1.1'),
    400,
    "bad_request",
  ],
  [
    "an absolute form of another scheme",
    line("GET ftp://x/a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a target that is no path",
    line("GET a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a target with a fragment",
    line("GET /a?rendezvous=pi#b HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "names of two hidden servers in query and absolute form",
    line("GET http://other/a?rendezvous=pi HTTP/1.1"),
    400,
    "ambiguous_name",
  ],
  [
    "names of two hidden servers in one query",
    line("GET /a?rendezvous=pi&rendezvous=other HTTP/1.1"),
    400,
    "ambiguous_name",
  ],
  [
    "names of two hidden servers, one percent-encoded",
    line("GET /a?rendezvous=pi&%72endezvous=other HTTP/1.1"),
    400,
    "ambiguous_name",
  ],
  // Request lines.
  ["HTTP/2.0", line("GET /a?rendezvous=pi HTTP/2.0"), 505, "http_version"],
  ["HTTP/1.2", line("GET /a?rendezvous=pi HTTP/1.2"), 505, "http_version"],
  ["HTTP/1.10", line("GET /a?rendezvous=pi HTTP/1.10"), 400, "bad_request"],
  ["HTTP/01.1", line("GET /a?rendezvous=pi HTTP/01.1"), 400, "bad_request"],
  [
    "http/1.1 in lower case",
    line("GET /a?rendezvous=pi http/1.1"),
    400,
    "bad_request",
  ],
  [
    "a request line of HTTP/0.9",
    "GET /a?rendezvous=pi\r\n\r\n",
    400,
    "bad_request",
  ],
  [
    "tabs in the request line",
    line("GET\t/a?rendezvous=pi\tHTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "two spaces in the request line",
    line("GET  /a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a space after the version",
    line("GET /a?rendezvous=pi HTTP/1.1 "),
    400,
    "bad_request",
  ],
  [
    "a space in the target",
    line("GET /a b?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a space before the method",
    line(" GET /a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a method that is no token",
    line("G@T /a?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  [
    "a NUL in the target",
    line("GET /a\0?rendezvous=pi HTTP/1.1"),
    400,
    "bad_request",
  ],
  ["bare LFs before the request", `\n\n${GOOD}`, 400, "bad_request"],
  // Connection names what is not its own.
  [
    "a Connection that names Content-Length",
    post("Connection: Content-Length\r\nContent-Length: 4\r\n", "abcd"),
    400,
    "bad_request",
  ],
  [
    "a Connection that names Host",
    get(`${HOST}Connection: keep-alive, host\r\n`),
    400,
    "bad_request",
  ],
  // Too much.
  [
    "a head of more than 64 KB",
    get(`${HOST}X: ${"y".repeat(65 * 1024)}\r\n`),
    431,
    "head_too_large",
  ],
  [
    "a head of more than 64 KB that does not end",
    `GET /a?rendezvous=pi HTTP/1.1\r\nX: ${"y".repeat(65 * 1024)}`,
    431,
    "head_too_large",
  ],
  [
    "more than 256 fields",
    get(HOST + many(256, "X: y\r\n")),
    431,
    "head_too_large",
  ],
];

/** Refused for what they name and not for how they are written, so that the connection goes on. */
const READ_WELL = new Set([
  "an absolute form with a user",
  "an absolute form without a host",
  "an absolute form with a quote in its host",
  "an absolute form of another scheme",
  "a target that is no path",
  "names of two hidden servers in query and absolute form",
  "names of two hidden servers in one query",
  "names of two hidden servers, one percent-encoded",
]);

/** Bodies that are refused where they can no longer be read: the request's head may be out by then, but its end never is. */
const REFUSED_BODIES: readonly (readonly [title: string, body: string])[] = [
  ["a chunk's size with a plus", "+4\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with a minus", "-4\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with 0x", "0x4\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with a space before", " 4\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with a space behind", "4 \r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with a tab behind", "4\t\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size with an underscore", "0_4\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size that overflows", "10000000000000004\r\nabcd\r\n0\r\n\r\n"],
  ["an empty chunk's size", "\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size that ends with a bare LF", "4\nabcd\r\n0\r\n\r\n"],
  ["a chunk's size that ends with a bare CR", "4\rabcd\r\n0\r\n\r\n"],
  ["a chunk without CR LF behind it", "4\r\nabcd0\r\n\r\n"],
  ["a chunk with a bare LF behind it", "4\r\nabcd\n0\r\n\r\n"],
  ["a chunk that is longer than its size", "4\r\nabcdef\r\n0\r\n\r\n"],
  ["a chunk that is shorter than its size", "6\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk extension with a bare LF", "4;x=y\nabcd\r\n0\r\n\r\n"],
  ["a chunk extension with a bare CR", "4;x=\ry\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk extension with a NUL", "4;x=\0\r\nabcd\r\n0\r\n\r\n"],
  ["a chunk extension without end", `4;x=${"y".repeat(5000)}`],
  ["a trailer that smuggles Content-Length", "0\r\nContent-Length: 4\r\n\r\n"],
  ["a trailer that smuggles Transfer-Encoding", `0\r\n${CHUNKED}\r\n`],
  ["a trailer that smuggles Host", "0\r\nHost: y\r\n\r\n"],
  ["a trailer that is folded", "0\r\nX: y\r\n z\r\n\r\n"],
  ["a trailer with a bare LF", "0\r\nX: y\n\r\n\r\n"],
  ["a trailer with a NUL", "0\r\nX: \0\r\n\r\n"],
  ["a trailer with a space before the colon", "0\r\nX : y\r\n\r\n"],
  [
    "a trailer of more than 16 KB",
    `0\r\n${`X: ${"y".repeat(1000)}\r\n`.repeat(20)}\r\n`,
  ],
];

/** What the relay writes behind the fields that it passes on, for a legacy hidden server. */
const added = (host = "x", minor = 1): string =>
  `Via: 1.${minor} RELAY\r\nForwarded: for=127.0.0.1;host="${host}";proto=http\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: ${host}\r\n`;
const LAST = "Connection: close\r\n\r\n";

/** Requests that are passed on so that only one reading is left, and exactly what the hidden server sees. */
const FORWARDED: readonly (readonly [
  title: string,
  sent: string,
  seen: string,
])[] = [
  [
    "an absolute form that contradicts Host: the absolute form wins everywhere",
    "GET http://pi/a HTTP/1.1\r\nHost: other\r\n\r\n",
    `GET /a HTTP/1.1\r\nHost: pi\r\n${added("pi")}${LAST}`,
  ],
  [
    "an absolute form with a port and a query of its own",
    "GET http://pi:8080?b HTTP/1.1\r\nHost: x\r\n\r\n",
    `GET /?b HTTP/1.1\r\nHost: pi:8080\r\n${added("pi:8080")}${LAST}`,
  ],
  [
    "a request hidden in a body with a length",
    post(`Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED),
    `POST /a HTTP/1.1\r\n${HOST}Content-Length: ${SMUGGLED.length}\r\n${added()}${LAST}${SMUGGLED}`,
  ],
  [
    "a request hidden in a chunk",
    post(
      CHUNKED,
      `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
  ],
  [
    "a request hidden in the body of a GET",
    get(`${HOST}Content-Length: ${SMUGGLED.length}\r\n`) + SMUGGLED,
    `GET /a HTTP/1.1\r\n${HOST}Content-Length: ${SMUGGLED.length}\r\n${added()}${LAST}${SMUGGLED}`,
  ],
  [
    "a tab before the coding",
    post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}0\r\n\r\n`,
  ],
  [
    "white space behind the coding",
    post("Transfer-Encoding: chunked \t\r\n", "0\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}0\r\n\r\n`,
  ],
  [
    "the coding in capitals",
    post("TRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}0\r\n\r\n`,
  ],
  [
    "a Connection that names Transfer-Encoding",
    post(`Connection: Transfer-Encoding\r\n${CHUNKED}`, "0\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}0\r\n\r\n`,
  ],
  [
    "Transfer_Encoding, which is another field",
    post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}Transfer_Encoding: chunked\r\nContent-Length: 5\r\n${added()}${LAST}0\r\n\r\n`,
  ],
  [
    "X-Content-Length, which is another field",
    post("X-Content-Length: 9\r\nContent-Length: 1\r\n", "a"),
    `POST /a HTTP/1.1\r\n${HOST}X-Content-Length: 9\r\nContent-Length: 1\r\n${added()}${LAST}a`,
  ],
  [
    "fields that Connection names, login and cookie among them: all dropped",
    get(
      `${HOST}Connection: X-Mine, Authorization,cookie , Expect\r\nX-Mine: 1\r\nAuthorization: Bearer t\r\nCookie: a=b\r\nExpect: 100-continue\r\nX-Yours: 2\r\n`,
    ),
    `GET /a HTTP/1.1\r\n${HOST}X-Yours: 2\r\n${added()}${LAST}`,
  ],
  [
    "fields named by a second Connection: dropped too",
    get(`${HOST}Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\nconnection: x-b\r\n`),
    `GET /a HTTP/1.1\r\n${HOST}${added()}${LAST}`,
  ],
  [
    "a Connection that names X-Forwarded-For: the relay's own stays",
    get(
      `${HOST}Connection: X-Forwarded-For, Via\r\nX-Forwarded-For: 1.2.3.4\r\n`,
    ),
    `GET /a HTTP/1.1\r\n${HOST}${added()}${LAST}`,
  ],
  [
    "an Upgrade that Connection does not name: dropped",
    get(`${HOST}Upgrade: websocket\r\n`),
    `GET /a HTTP/1.1\r\n${HOST}${added()}${LAST}`,
  ],
  [
    "empty lines before the request: dropped",
    `\r\n\r\n${get(HOST)}`,
    `GET /a HTTP/1.1\r\n${HOST}${added()}${LAST}`,
  ],
  [
    "a chunk extension: passed as it is",
    post(CHUNKED, '4;a;b=c;d="e f"\r\nabcd\r\n0\r\n\r\n'),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}4;a;b=c;d="e f"\r\nabcd\r\n0\r\n\r\n`,
  ],
  [
    "a chunk's size with zeros before: passed as it is",
    post(CHUNKED, "0004\r\nabcd\r\n000\r\n\r\n"),
    `POST /a HTTP/1.1\r\n${HOST}${CHUNKED}${added()}${LAST}0004\r\nabcd\r\n000\r\n\r\n`,
  ],
  [
    "octets above ASCII in a value: passed as they are",
    get(`${HOST}X: \xe9\xff\r\n`),
    `GET /a HTTP/1.1\r\n${HOST}X: \xe9\xff\r\n${added()}${LAST}`,
  ],
  [
    "HTTP/1.0 without Host: it gets one",
    "GET /a?rendezvous=pi HTTP/1.0\r\n\r\n",
    `GET /a HTTP/1.1\r\nHost: pi\r\nVia: 1.0 RELAY\r\nForwarded: for=127.0.0.1;proto=http\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n${LAST}`,
  ],
  [
    "a ping of a visitor's own: it is not one any more",
    `OPTIONS * HTTP/1.1\r\nHost: pi.example.com\r\nRendezvous-Ping: 1\r\n\r\n`,
    `OPTIONS * HTTP/1.1\r\nHost: pi.example.com\r\n${added("pi.example.com")}${LAST}`,
  ],
];

type Answer = readonly [title: string, answer: string];

/** Answers of which the visitor gets nothing but a 502. */
const REFUSED_ANSWERS: readonly Answer[] = [
  [
    "both framings",
    `HTTP/1.1 200 OK\r\n${CHUNKED}Content-Length: 5\r\n\r\n0\r\n\r\n`,
  ],
  [
    "two differing Content-Lengths",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
  ],
  [
    "two equal Content-Lengths",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
  ],
  [
    "a list of Content-Lengths",
    "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
  ],
  [
    "a Content-Length with a plus",
    "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
  ],
  [
    "a Content-Length in hexadecimal",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na",
  ],
  [
    "a Content-Length beyond what numbers can hold",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na",
  ],
  ["lines that end with a bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"],
  [
    "a bare CR in a value",
    "HTTP/1.1 200 OK\r\nX: y\rZ: z\r\nContent-Length: 0\r\n\r\n",
  ],
  [
    "a field that is folded",
    "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n",
  ],
  ["a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"],
  ["an empty name", "HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 0\r\n\r\n"],
  ["a NUL in a value", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n"],
  [
    "the coding xchunked",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
  ],
  [
    "the codings gzip, chunked",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  ],
  [
    "the codings chunked, chunked",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
  ],
  [
    "the coding identity",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
  ],
  [
    "two Transfer-Encodings",
    `HTTP/1.1 200 OK\r\n${CHUNKED}${CHUNKED}\r\n0\r\n\r\n`,
  ],
  [
    "a vertical tab before the coding",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
  ],
  [
    "a Transfer-Encoding of HTTP/1.0",
    `HTTP/1.0 200 OK\r\n${CHUNKED}\r\n0\r\n\r\n`,
  ],
  [
    "a 204 that announces a body",
    "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab",
  ],
  ["a 204 with chunks", `HTTP/1.1 204 No Content\r\n${CHUNKED}\r\n0\r\n\r\n`],
  ["a 204 with octets behind it", "HTTP/1.1 204 No Content\r\n\r\nab"],
  [
    "a 304 with octets behind it",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab",
  ],
  [
    "a 100 that announces a body",
    "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nab",
  ],
  [
    "a 101 nobody asked for",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  ],
  [
    "a whole second answer in the same packet",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
  ],
  [
    "an octet behind the last chunk",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n0\r\n\r\nx`,
  ],
  [
    "a chunk's size with 0x",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n0x2\r\nok\r\n0\r\n\r\n`,
  ],
  [
    "a chunk's size that overflows",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n10000000000000002\r\nok\r\n0\r\n\r\n`,
  ],
  [
    "a chunk that is longer than its size",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n2\r\nokay\r\n0\r\n\r\n`,
  ],
  [
    "a chunk extension with a bare LF",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n2;x\nok\r\n0\r\n\r\n`,
  ],
  [
    "a trailer that smuggles Content-Length",
    `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n0\r\nContent-Length: 2\r\n\r\n`,
  ],
  [
    "a Connection that names Content-Length",
    "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
  ],
  ["HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"],
  ["http/1.1 in lower case", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
  ["HTTP/1.10", "HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n"],
  ["ICY instead of HTTP/1.1", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n"],
  ["a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"],
  ["a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"],
  [
    "a status that begins with 0",
    "HTTP/1.1 020 OK\r\nContent-Length: 0\r\n\r\n",
  ],
  [
    "two spaces before the status",
    "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
  ],
  ["a tab before the status", "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n"],
  [
    "an empty line before the status line",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  ],
  [
    "a flood of interim answers",
    "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(101),
  ],
  [
    "a head of more than 64 KB",
    `HTTP/1.1 200 OK\r\nX: ${"y".repeat(65 * 1024)}`,
  ],
  ["more than 256 fields", `HTTP/1.1 200 OK\r\n${many(257, "X: y\r\n")}\r\n`],
];

interface Scene {
  readonly relay: TestRelay;
  readonly hidden: Raw;
  readonly visitor: Raw;
}

async function scene(): Promise<Scene> {
  const relay = await startRelay({
    holdSeconds: 0.001,
    baseDomain: "example.com",
  });
  const hidden = await parkRaw(relay, "pi");
  return { relay, hidden, visitor: await connectRaw(relay.port) };
}

async function expectProblem(
  visitor: Raw,
  status: number,
  code: string,
): Promise<void> {
  const answer = await visitor.answer();
  expect(answer.body).to.include(`"code":"${code}"`);
  expect(answer.status).to.equal(status);
}

/** The hidden server's first octets ever are those of an honest request: it has seen nothing before. */
async function expectUntouched({ relay, hidden }: Scene): Promise<void> {
  expect(relay.counts().idle).to.equal(1);
  const honest = await connectRaw(relay.port);
  honest.write(GOOD);
  expect(await hidden.take("\r\n\r\n")).to.match(/^GET \/good HTTP\/1\.1\r\n/);
}

describe("a request that could be read in two ways", () => {
  for (const [title, sent, status, code] of REFUSED_HEADS) {
    it(`is refused with ${status} for ${title}`, async () => {
      const now = await scene();
      const follows = !READ_WELL.has(title) && status !== 431;
      now.visitor.write(sent + (follows ? SMUGGLED : ""));
      await expectProblem(now.visitor, status, code);
      if (!READ_WELL.has(title)) await now.visitor.end();
      expect(now.visitor.received).to.equal("");
      await expectUntouched(now);
    });
  }

  for (const [title, body] of REFUSED_BODIES) {
    it(`is refused with 400 and never completed for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(post(CHUNKED));
      await hidden.take("\r\n\r\n");
      visitor.write(body + SMUGGLED);
      await expectProblem(visitor, 400, "bad_request");
      await visitor.end();
      expect(visitor.received).to.equal("");
      expect(await hidden.close()).to.equal("reset");
      expect(hidden.received).to.not.match(/smuggled|0\r\n\r\n/);
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  for (const [title, sent, seen] of FORWARDED) {
    it(`is passed on in one way for ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(sent);
      const octets = await hidden.takeOctets(
        seen.length + "rendezvous-12345678".length - "RELAY".length,
      );
      expect(octets.replace(/rendezvous-[0-9a-f]{8}/, "RELAY")).to.equal(seen);
      hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      expect((await visitor.answer()).body).to.equal("ok");
      await hidden.end();
      expect(hidden.received).to.equal("");
    });
  }

  it("is not read out of what follows a refused CONNECT", async () => {
    const now = await scene();
    now.visitor.write(
      `CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n${SMUGGLED}`,
    );
    await expectProblem(now.visitor, 404, "unknown_server");
    await now.visitor.end();
    expect(now.visitor.received).to.equal("");
    await expectUntouched(now);
  });

  it("is not read out of what follows a refused Upgrade by a hidden server: it is a request of its own", async () => {
    const { relay, hidden, visitor } = await scene();
    const second = await parkRaw(relay, "pi");
    visitor.write(
      get(`${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n`) + SMUGGLED,
    );
    // The tunnel that was parked last is claimed first.
    const head = await second.take("\r\n\r\n");
    expect(head).to.match(/Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n$/);
    second.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    expect((await visitor.answer()).status).to.equal(400);
    await second.end();
    expect(second.received).to.equal("");
    const separate = await hidden.take("\r\n\r\n");
    expect(separate).to.match(
      /^GET \/smuggled HTTP\/1\.1\r\n.*X: smuggled\r\nVia: /s,
    );
  });
});

describe("an answer that could be read in two ways", () => {
  for (const [title, sent] of REFUSED_ANSWERS) {
    it(`gives the visitor a 502 and ends the tunnel for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(sent);
      let answer = await visitor.answer();
      while (answer.status === 103) answer = await visitor.answer();
      expect(answer.status).to.equal(502);
      expect(answer.body)
        .to.include('"code":"bad_answer"')
        .and.not.include("forged");
      expect(await hidden.close()).to.equal("reset");
      await relay.until(() => relay.counts().tunnels === 0);
      expect(visitor.received).to.equal("");
    });
  }

  const truncated: readonly Answer[] = [
    ["inside the status line", "HTTP/1.1 20"],
    ["inside the head", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"],
    ["after an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n"],
  ];
  for (const [title, sent] of truncated) {
    it(`gives the visitor a 502 when it stops ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(sent).socket.end();
      let answer = await visitor.answer();
      if (answer.status === 103) answer = await visitor.answer();
      expect(answer.status).to.equal(502);
      expect(answer.body).to.include('"code":"bad_answer"');
    });
  }

  const cut: readonly (readonly [title: string, head: string, part: string])[] =
    [
      ["inside a body with a length", "Content-Length: 4\r\n", "ab"],
      ["before a body with a length", "Content-Length: 4\r\n", ""],
      ["inside a chunk", CHUNKED, "4\r\nab"],
      ["between two chunks", CHUNKED, "2\r\nab\r\n"],
      ["before the end of the trailer", CHUNKED, "0\r\nX: y\r\n"],
    ];
  for (const [title, head, part] of cut) {
    it(`is cut for the visitor when it stops ${title}`, async () => {
      const { hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(`HTTP/1.1 200 OK\r\n${head}\r\n${part}`);
      await visitor.take("\r\n\r\n");
      await visitor.takeOctets(part.length);
      hidden.socket.end();
      expect(await visitor.close()).to.equal("reset");
      expect(visitor.received).to.equal("");
    });
  }

  it("is cut for the visitor when it is reset before the end of the stream that ends it", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\n\r\nab");
    await visitor.take("\r\n\r\nab");
    hidden.socket.resetAndDestroy();
    expect(await visitor.close()).to.equal("reset");
  });

  const broken: readonly (readonly [
    title: string,
    head: string,
    first: string,
    then: string,
  ])[] = [
    [
      "a second answer behind a body with a length",
      "Content-Length: 4\r\n",
      "ab",
      "cdHTTP/1.1 200 OK\r\n\r\nforged",
    ],
    [
      "a second answer behind the last chunk",
      CHUNKED,
      "2\r\nab\r\n",
      "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nforged",
    ],
    [
      "a chunk's size that cannot be read",
      CHUNKED,
      "2\r\nab\r\n",
      "zz\r\nforged\r\n",
    ],
  ];
  for (const [title, head, first, then] of broken) {
    it(`is cut where it breaks, and nothing forged gets through, for ${title}`, async () => {
      const { relay, hidden, visitor } = await scene();
      visitor.write(GOOD);
      await hidden.take("\r\n\r\n");
      hidden.write(`HTTP/1.1 200 OK\r\n${head}\r\n${first}`);
      await visitor.take("\r\n\r\n");
      await visitor.takeOctets(first.length);
      hidden.write(then);
      expect(await visitor.close()).to.equal("reset");
      expect(visitor.received).to.not.include("forged");
      await relay.until(() => relay.counts().tunnels === 0);
    });
  }

  it("never reaches the next visitor when octets come later on the idle tunnel", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect((await visitor.answer()).body).to.equal("ok");
    expect(relay.counts().idle).to.equal(1);
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
    await relay.until(() => relay.counts().tunnels === 0);
    const next = await parkRawAgent(relay, "pi");
    visitor.write(GOOD);
    await next.take("\r\n\r\n");
    next.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
    expect((await visitor.answer()).body).to.equal("next");
  });

  it("never reaches the next visitor when a HEAD is answered with a body", async () => {
    const relay = await startRelay();
    const hidden = await parkRawAgent(relay, "pi");
    const visitor = await connectRaw(relay.port);
    visitor.write("HEAD /?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n");
    await hidden.take("\r\n\r\n");
    hidden.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect((await visitor.answer("HEAD")).status).to.equal(502);
    expect(await hidden.close()).to.equal("reset");
  });

  it("does not pass on a 101 that comes before the request is complete", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(
      post("Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n", "ab"),
    );
    await hidden.take("\r\n\r\nab");
    hidden.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    );
    await expectProblem(visitor, 502, "bad_answer");
    await visitor.end();
  });

  it("loses the fields that its Connection names, cookies among them", async () => {
    const { hidden, visitor } = await scene();
    visitor.write(GOOD);
    await hidden.take("\r\n\r\n");
    hidden.write(
      "HTTP/1.1 200 OK\r\nConnection: X-Hop, Set-Cookie\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
    );
    const { head } = await visitor.answer();
    expect(head.replace(/rendezvous-[0-9a-f]{8}/, "RELAY")).to.equal(
      "HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 0\r\nVia: 1.1 RELAY\r\n\r\n",
    );
  });
});
