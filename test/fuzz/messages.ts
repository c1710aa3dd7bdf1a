// Requests and answers: by the grammar, from the table of known attempts, and changed.
import fc from "fast-check";
import {
  FORWARDED,
  REFUSED_ANSWERS,
  REFUSED_BODIES,
  REFUSED_HEADS,
  post,
} from "../support/smuggling.ts";
import { nearly } from "./octets.ts";

/** The table's longest would leave no time for others. */
const MAX_SAMPLE_OCTETS = 2000;

const short = (texts: readonly string[]): string[] =>
  texts.filter(({ length }) => length <= MAX_SAMPLE_OCTETS);

export const KNOWN_REQUESTS: readonly string[] = short([
  ...REFUSED_HEADS.map(([, sent]) => sent),
  ...REFUSED_BODIES.map(([, body]) =>
    post("Transfer-Encoding: chunked\r\n", body),
  ),
  ...FORWARDED.map(([, sent]) => sent),
]);
export const KNOWN_ANSWERS: readonly string[] = short(
  REFUSED_ANSWERS.map(([, answer]) => answer),
);

const token = fc.constantFrom("X", "a", "X-Y", "Accept", "ETag", "x_y", "!#$");
const value = fc.constantFrom(
  "",
  "y",
  "a b",
  "a, b",
  '"q"',
  "\xe9\xff",
  "\t",
  "close",
  "chunked",
  "9".repeat(20),
);
const space = fc.constantFrom("", " ", " ", " ", "\t", "  ");
const end = fc.constantFrom(...new Array<string>(60).fill("\r\n"), "\n", "\r");

/** Fields that decide something. */
const KNOWN_FIELDS = [
  "Connection: close",
  "Connection: keep-alive",
  "Connection: Keep-Alive, Close",
  "Connection: X-Y, upgrade",
  "Connection: close, X-Y",
  "Connection: ,,",
  "Connection: closed",
  "Connection: te",
  "Keep-Alive: timeout=5",
  "Proxy-Connection: keep-alive",
  "Upgrade: websocket",
  "Upgrade: h2c",
  "Upgrade: x/1, y",
  "TE: trailers",
  "Trailer: X",
  "Expect: 100-continue",
  "Date: Mon, 23 Nov 2026 13:09:47 GMT",
  "Set-Cookie: rendezvous=other",
  "Set-Cookie: a=b; Path=/",
  "Cookie: rendezvous=other; a=b",
  "Via: 1.1 router",
  "X-Forwarded-For: 1.2.3.4",
  "X_Forwarded_For: 1.2.3.4",
  "Forwarded: for=1.2.3.4",
  "Rendezvous-Dial: 22",
  "Rendezvous-Ping: 1",
  "Authorization: Bearer x",
  "Proxy-Authorization: Basic eDp5",
] as const;

const field = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...KNOWN_FIELDS) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(token, space, value, space)
      .map(
        ([name, before, text, behind]) => `${name}:${before}${text}${behind}`,
      ),
  },
);
const fields = fc
  .array(fc.tuple(field, end), { maxLength: 4 })
  .map((lines) => lines.map((line) => line.join("")).join(""));

const data = fc.constantFrom(
  "a",
  "abcde",
  "\r\n",
  "0\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
  "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
  "\0\xff",
  "z".repeat(300),
);
const extension = fc.constantFrom(
  "",
  "",
  "",
  ";a",
  ";a=b",
  ';a="b c"',
  ";a=b;c",
  '; a = "b"',
  ";",
  ";a=",
);
const chunk = fc
  .tuple(data, extension, fc.constantFrom("", "", "0", "000"), fc.boolean())
  .map(([text, more, zeros, isUpper]) => {
    const size = text.length.toString(16);
    return `${zeros}${isUpper ? size.toUpperCase() : size}${more}\r\n${text}\r\n`;
  });
const trailer = fc.constantFrom(
  "",
  "",
  "",
  "X: y\r\n",
  "X: y\r\nZ:\r\n",
  "Set-Cookie: rendezvous=x\r\nX: y\r\nVia: z\r\n",
  "Content-Length: 1\r\n",
  "X: y\r\n z\r\n",
);
const chunks = fc
  .tuple(
    fc.array(chunk, { maxLength: 3 }),
    fc.constantFrom("0", "0", "0", "00", "0;x", '0;x="y"'),
    trailer,
  )
  .map(([all, last, more]) => `${all.join("")}${last}\r\n${more}\r\n`);

/** How a message says where it ends, and what comes then. */
const framed = fc.oneof(
  { weight: 2, arbitrary: fc.constant(["", ""] as const) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(data, fc.constantFrom("", "", "0", "00"))
      .map(
        ([text, zeros]) =>
          [`Content-Length: ${zeros}${text.length}\r\n`, text] as const,
      ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom("chunked", "chunked", "Chunked", "chunked "),
        chunks,
      )
      .map(
        ([coding, text]) => [`Transfer-Encoding: ${coding}\r\n`, text] as const,
      ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ["Content-Length: 0\r\n", ""] as const,
      ["Content-Length: 5\r\n", "abc"] as const,
      ["Content-Length: 2\r\nContent-Length: 2\r\n", "ab"] as const,
      ["Content-Length: 3, 3\r\n", "abc"] as const,
      ["Content-Length: +3\r\n", "abc"] as const,
      ["Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"] as const,
      [
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "0\r\n\r\n",
      ] as const,
    ),
  },
);

const statusLine = fc
  .tuple(
    fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"),
    fc.constantFrom(
      " 200 OK",
      " 200 OK",
      " 200",
      " 200 ",
      " 204 No Content",
      " 304 Not Modified",
      " 404 Not  Found",
      " 205 Reset Content",
      " 599 \xe9\t",
      " 101 Switching Protocols",
      " 999 X",
      " 426 Upgrade Required",
    ),
  )
  .map((parts) => `${parts.join("")}\r\n`);

const interim = fc.constantFrom(
  "",
  "",
  "",
  "HTTP/1.1 100 Continue\r\n\r\n",
  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
);

const after = fc.constantFrom(
  "",
  "",
  "",
  "",
  "x",
  "\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
);

/** One final answer by the grammar, or nearly. */
export const wellMeantAnswer: fc.Arbitrary<string> = fc
  .tuple(statusLine, fields, framed, fields)
  .map(
    ([line, some, [framing, body], more]) =>
      `${line}${some}${framing}${more}\r\n${body}`,
  );

/** Answers: by the grammar with something before and behind, and known attempts; most of them changed. */
export const answers: fc.Arbitrary<string> = nearly(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc
        .tuple(interim, wellMeantAnswer, after)
        .map((parts) => parts.join("")),
    },
    { weight: 1, arbitrary: fc.constantFrom(...KNOWN_ANSWERS) },
  ),
  3,
);

export const METHODS = [
  "GET",
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "OPTIONS",
  "PATCH",
] as const;

/** Targets of requests, most of them for the id `pi`. */
export const TARGETS = [
  "/a?rendezvous=pi",
  "/?x&rendezvous=pi&y=1",
  "/%2f?%72endezvous=PI",
  "http://pi/a",
  "http://pi.rendezvous.internal:80/",
  "/",
  "/-/health",
  "/a?rendezvous=T",
  "/?rendezvous=pi&rendezvous=other",
  "*",
  "/.well-known/masque/tcp/pi/22/",
  "/-/park/pi?response=123456",
  "/?uuid=pi",
] as const;

const requestLine = fc
  .tuple(
    fc.constantFrom(...METHODS, "X-Y"),
    fc.constantFrom(...TARGETS),
    fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"),
  )
  .map((parts) => `${parts.join(" ")}\r\n`);

const hostField = fc.constantFrom(
  "Host: x\r\n",
  "Host: x\r\n",
  "Host: x\r\n",
  "host: pi.example.com:80\r\n",
  "Host: [::1]:80\r\n",
  "Host:\r\n",
  "",
);

/** One request by the grammar, or nearly. */
export const wellMeantRequest: fc.Arbitrary<string> = fc
  .tuple(requestLine, hostField, fields, framed, fields)
  .map(
    ([line, host, some, [framing, body], more]) =>
      `${line}${host}${some}${framing}${more}\r\n${body}`,
  );

/** Requests: one, or some in a row, by the grammar, and known attempts; most of them changed. */
export const requests: fc.Arbitrary<string> = nearly(
  fc.oneof(
    { weight: 4, arbitrary: wellMeantRequest },
    {
      weight: 1,
      arbitrary: fc
        .array(wellMeantRequest, { minLength: 2, maxLength: 3 })
        .map((some) => some.join("")),
    },
    { weight: 1, arbitrary: fc.constantFrom(...KNOWN_REQUESTS) },
  ),
  3,
);

/** Requests that are read well enough to look at what becomes of them. */
export const someRequests: fc.Arbitrary<string> = fc.oneof(
  { weight: 2, arbitrary: wellMeantRequest },
  { weight: 1, arbitrary: requests },
);
