// Heads as they are read: what comes out of them, and which ones do not come out at all.
import { expect } from "chai";
import {
  MAX_FIELDS,
  MAX_HEAD_OCTETS,
  Malformed,
  checkPartialHead,
  checkTrailer,
  fieldOf,
  headEnd,
  isHost,
  readAnswerHead,
  readList,
  readRequestHead,
  skipEmptyLines,
  type AnswerHead,
  type RequestHead,
} from "../../app/wire/head.ts";

const octets = (text: string): Buffer => Buffer.from(text, "latin1");

function request(text: string): RequestHead {
  return readRequestHead(octets(text), 0, text.length);
}

function answer(text: string, method = "GET"): AnswerHead {
  return readAnswerHead(octets(text), text.length, method);
}

function malformed(read: () => unknown): Malformed {
  try {
    read();
  } catch (problem) {
    if (problem instanceof Malformed) return problem;
    throw problem;
  }
  throw new Error("it was read");
}

describe("a request's head", () => {
  it("is read from anywhere in the octets, with names, values, order and case as they came", () => {
    const text =
      "POST /a?b HTTP/1.1\r\nHOST: x:1\r\nA:\r\na: \t1 2\t \r\nContent-Length: 5\r\n\r\n";
    const buffer = octets(`xyz${text}hello`);
    const end = headEnd(buffer, 3);
    expect(end).to.equal(3 + text.length);
    expect(readRequestHead(buffer, 3, end)).to.deep.equal({
      method: "POST",
      target: "/a?b",
      minor: 1,
      fields: ["HOST", "x:1", "A", "", "a", "1 2", "Content-Length", "5"],
      host: "x:1",
      framing: 5,
      persistent: true,
      upgrade: undefined,
      hops: [],
    });
  });

  it("may have no Host in HTTP/1.0 and for CONNECT only", () => {
    expect(request("GET / HTTP/1.0\r\n\r\n").host).to.be.undefined;
    expect(
      request("CONNECT uuid:pi?response=1 HTTP/1.1\r\n\r\n").target,
    ).to.equal("uuid:pi?response=1");
    expect(malformed(() => request("GET / HTTP/1.1\r\n\r\n")).status).to.equal(
      400,
    );
  });

  it("says whether the connection goes on", () => {
    const persistent = (line: string, fields = ""): boolean =>
      request(`${line}\r\nHost: x\r\n${fields}\r\n`).persistent;
    expect(persistent("GET / HTTP/1.1")).to.be.true;
    expect(persistent("GET / HTTP/1.1", "Connection: Close\r\n")).to.be.false;
    expect(
      persistent("GET / HTTP/1.1", "Connection: a\r\nConnection: b, close\r\n"),
    ).to.be.false;
    expect(persistent("GET / HTTP/1.0")).to.be.false;
    expect(persistent("GET / HTTP/1.0", "Connection: Keep-Alive\r\n")).to.be
      .true;
    expect(persistent("GET / HTTP/1.0", "Connection: keep-alive, close\r\n")).to
      .be.false;
    expect(persistent("CONNECT x:1 HTTP/1.1")).to.be.false;
  });

  it("has an upgrade only where Connection names it, in HTTP/1.1", () => {
    const upgrade = (version: string, fields: string): string | undefined =>
      request(`GET / HTTP/${version}\r\nHost: x\r\n${fields}\r\n`).upgrade;
    expect(
      upgrade("1.1", "Upgrade: a\r\nConnection: UPGRADE\r\nUpgrade: b/2\r\n"),
    ).to.equal("a, b/2");
    expect(upgrade("1.1", "Upgrade: a\r\n")).to.be.undefined;
    expect(upgrade("1.1", "Connection: upgrade\r\n")).to.be.undefined;
    expect(upgrade("1.0", "Upgrade: a\r\nConnection: upgrade\r\n")).to.be
      .undefined;
  });

  it("has the status for its sender when it cannot be read", () => {
    const status = (text: string): number =>
      malformed(() => request(text)).status;
    expect(status("GET / HTTP/2.0\r\nHost: x\r\n\r\n")).to.equal(505);
    expect(status("GET /\r\n\r\n")).to.equal(400);
    expect(
      status("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n"),
    ).to.equal(501);
    expect(
      status(
        `GET / HTTP/1.1\r\nHost: x\r\n${"a: b\r\n".repeat(MAX_FIELDS)}\r\n`,
      ),
    ).to.equal(431);
    expect(
      status(
        `GET / HTTP/1.1\r\nHost: x\r\na: ${"b".repeat(MAX_HEAD_OCTETS)}\r\n\r\n`,
      ),
    ).to.equal(431);
  });

  it("may be as large as its limits, and no larger", () => {
    const start = "GET / HTTP/1.1\r\nHost: x\r\n";
    expect(
      request(`${start}${"a: b\r\n".repeat(MAX_FIELDS - 1)}\r\n`).fields,
    ).to.have.length(2 * MAX_FIELDS);
    const filler = MAX_HEAD_OCTETS - start.length - "a: \r\n\r\n".length;
    expect(
      request(`${start}a: ${"b".repeat(filler)}\r\n\r\n`).fields[3],
    ).to.have.length(filler);
    expect(
      malformed(() => request(`${start}a: ${"b".repeat(filler + 1)}\r\n\r\n`))
        .status,
    ).to.equal(431);
  });
});

describe("an answer's head", () => {
  it("is read with its reason, or without one", () => {
    expect(answer("HTTP/1.1 404 Not  Found\r\nA: b\r\n\r\n")).to.include({
      status: 404,
      reason: "Not  Found",
      minor: 1,
    });
    expect(answer("HTTP/1.0 200 \r\n\r\n")).to.include({
      status: 200,
      reason: "",
      minor: 0,
    });
    expect(answer("HTTP/1.1 200\r\n\r\n")).to.include({
      status: 200,
      reason: "",
    });
  });

  const framings = [
    ["GET", "200 OK", "", "close"],
    ["GET", "200 OK", "Content-Length: 0\r\n", 0],
    ["GET", "200 OK", "Content-Length: 007\r\n", 7],
    ["GET", "200 OK", "Transfer-Encoding: Chunked\r\n", "chunked"],
    ["HEAD", "200 OK", "Content-Length: 7\r\n", 0],
    ["HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", 0],
    ["HEAD", "200 OK", "", 0],
    ["GET", "304 Not Modified", "Content-Length: 7\r\n", 0],
    ["GET", "204 No Content", "", 0],
    ["GET", "204 No Content", "Content-Length: 0\r\n", 0],
    ["GET", "100 Continue", "", 0],
    ["POST", "205 Reset Content", "Content-Length: 0\r\n", 0],
  ] as const;
  for (const [method, status, fields, framing] of framings) {
    it(`to ${method} with ${status} and ${fields === "" ? "no framing" : fields.trim()} has a body of ${String(framing)}`, () => {
      expect(
        answer(`HTTP/1.1 ${status}\r\n${fields}\r\n`, method).framing,
      ).to.equal(framing);
    });
  }

  it("of 1xx or 204 that announces a body is refused", () => {
    for (const status of [100, 101, 103, 204]) {
      malformed(() =>
        answer(`HTTP/1.1 ${status} X\r\nContent-Length: 1\r\n\r\n`),
      );
      malformed(() =>
        answer(`HTTP/1.1 ${status} X\r\nTransfer-Encoding: chunked\r\n\r\n`),
      );
    }
  });

  it("goes on in HTTP/1.1 unless it says close, and in HTTP/1.0 only where it says keep-alive", () => {
    expect(answer("HTTP/1.1 200 OK\r\n\r\n").persistent).to.be.true;
    expect(answer("HTTP/1.1 200 OK\r\nConnection: CLOSE\r\n\r\n").persistent).to
      .be.false;
    expect(answer("HTTP/1.0 200 OK\r\n\r\n").persistent).to.be.false;
    expect(
      answer("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").persistent,
    ).to.be.true;
  });
});

describe("a head that has come in part", () => {
  it("is waited for while it may become good", () => {
    const text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (let cut = 0; cut < text.length; cut++) {
      const part = octets(text.slice(0, cut));
      expect(headEnd(part, 0)).to.equal(-1);
      checkPartialHead(part, 0);
    }
  });

  it("is refused at its first bare LF, and when it is too long", () => {
    expect(
      malformed(() => {
        checkPartialHead(octets("GET / HTTP/1.1\n"), 0);
      }).status,
    ).to.equal(400);
    expect(
      malformed(() => {
        checkPartialHead(octets("ab\r\n\nc"), 0);
      }).status,
    ).to.equal(400);
    expect(
      malformed(() => {
        checkPartialHead(Buffer.alloc(MAX_HEAD_OCTETS + 1, "a"), 0);
      }).status,
    ).to.equal(431);
  });

  it("may have empty lines before it, whole ones only", () => {
    expect(skipEmptyLines(octets("\r\n\r\nGET"), 0)).to.equal(4);
    expect(skipEmptyLines(octets("\r\nGET"), 2)).to.equal(2);
    expect(skipEmptyLines(octets("\r"), 0)).to.equal(0);
    expect(skipEmptyLines(octets("\n\r\n"), 0)).to.equal(0);
  });
});

describe("a field", () => {
  it("is found by its name in any case, the first one of them", () => {
    expect(fieldOf(["A", "1", "b", "2", "a", "3"], "a")).to.equal("1");
    expect(fieldOf(["A", "b"], "b")).to.be.undefined;
  });

  it("of a list is split without its empty members", () => {
    expect(readList(" A, ,b,\tC ,")).to.deep.equal(["a", "b", "c"]);
  });

  it("of a list keeps what only some programs take for white space", () => {
    expect(readList("close\xa0, \x85a\x0b")).to.deep.equal([
      "close\xa0",
      "\x85a\x0b",
    ]);
  });

  it("of a trailer must not be one of the head, nor malformed", () => {
    checkTrailer("X-Sum: 1\r\n");
    for (const line of [
      "Host: x\r\n",
      "content-length: 1\r\n",
      "Transfer-Encoding: chunked\r\n",
      " folded\r\n",
      "X : 1\r\n",
      "X\r\n",
      "X: \0\r\n",
      "X: a\rb\r\n",
    ])
      malformed(() => {
        checkTrailer(line);
      });
  });
});

describe("a host", () => {
  it("is a name or an address, with or without a port", () => {
    for (const host of [
      "x",
      "x.example.com",
      "x:80",
      "x:",
      "1.2.3.4:80",
      "[::1]",
      "[::1]:80",
      "a_b",
      "%70i",
    ])
      expect(isHost(host), host).to.be.true;
    for (const host of [
      "x y",
      "x/y",
      "u@x",
      "x:80:80",
      "x:a",
      "[::1",
      "::1",
      "x#y",
      "x?y",
      'x"',
      "x\\y",
      "x:123456",
    ])
      expect(isHost(host), host).to.be.false;
  });
});
