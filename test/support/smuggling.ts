// Messages that two readers could read in two ways: each attempt, on both legs.

/** What an attacker would like the hidden server to take for a request of its own. */
export const SMUGGLED =
  "GET /smuggled?rendezvous=pi HTTP/1.1\r\nHost: x\r\nX: smuggled\r\n\r\n";
export const GOOD = "GET /good?rendezvous=pi HTTP/1.1\r\nHost: x\r\n\r\n";
export const HOST = "Host: x\r\n";
export const CHUNKED = "Transfer-Encoding: chunked\r\n";

export const get = (fields: string): string =>
  `GET /a?rendezvous=pi HTTP/1.1\r\n${fields}\r\n`;
export const post = (fields: string, body = ""): string =>
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
export const REFUSED_HEADS: readonly Refused[] = [
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
export const READ_WELL = new Set([
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
export const REFUSED_BODIES: readonly (readonly [
  title: string,
  body: string,
])[] = [
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
export const FORWARDED: readonly (readonly [
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

export type Answer = readonly [title: string, answer: string];

/** Answers of which the visitor gets nothing but a 502. */
export const REFUSED_ANSWERS: readonly Answer[] = [
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
