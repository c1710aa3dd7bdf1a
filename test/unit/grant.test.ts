// Grants: who vouches for them, what they say, and which paths are below which.
import { expect } from "chai";
import { createHmac } from "node:crypto";
import fc from "fast-check";
import { SignJWT, jwtVerify } from "jose";
import { generateSync } from "otplib";
import { Auth } from "../../app/relay/auth.ts";
import {
  GRANT,
  GRANT_COOKIE,
  grantTypeOf,
  isPlainPath,
  makeGrant,
  readGrant,
  signGrant,
  whyNot,
  type Grant,
} from "../../app/grant.ts";
import {
  deriveGrantKey,
  deriveKey,
  encodeSecret,
  makeToken,
} from "../../app/protocol.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const KEY = deriveKey(RELAY_SECRET, "pi", 1);
const SECRET = encodeSecret(KEY);
const keyOf = (id: string): Uint8Array => deriveKey(RELAY_SECRET, id, 1);
const now = (): number => Math.floor(Date.now() / 1000);
/** Good for as long as any run of the tests takes. */
const DAY_SECONDS = 86_400;
const CLAIMS = {
  sub: "pi",
  iat: now(),
  exp: now() + 2 * DAY_SECONDS,
  jti: "a",
};
const read = (token: string): Grant | undefined =>
  readGrant(GRANT, token, keyOf);

/** What a grant that says so answers to a request. */
const http = (
  says: Partial<Grant>,
  target: string,
  method = "GET",
): string | undefined =>
  whyNot({ ...CLAIMS, ...says }, { id: "pi", method, target });
const tcp = (says: Partial<Grant>, port: number): string | undefined =>
  whyNot({ ...CLAIMS, ...says }, { id: "pi", port });

describe("a grant", () => {
  it("says what its owner has decided", () => {
    const limits = {
      path: "/photos/",
      methods: ["GET", "HEAD"],
      ports: [22],
      uses: 5,
    };
    const { token } = makeGrant("pi", SECRET, { ...limits, seconds: 60 });
    const grant = read(token);
    expect(grant).to.deep.include({ sub: "pi", ...limits });
    expect((grant?.exp ?? 0) - (grant?.iat ?? 0)).to.equal(60);
  });

  it("has another name each time", () => {
    const names = [1, 2].map(
      () => makeGrant("pi", SECRET, { seconds: 60 }).grant.jti,
    );
    expect(new Set(names).size).to.equal(2);
  });

  it("is a JWT to any other program, and may be made by any", async () => {
    const { token } = makeGrant("pi", SECRET, { seconds: 60 });
    const options = { typ: GRANT, subject: "pi", algorithms: ["HS256"] };
    const { payload } = await jwtVerify(token, deriveGrantKey(KEY), options);
    expect(payload).to.include.keys("sub", "iat", "exp", "jti");
    const theirs = await new SignJWT(CLAIMS)
      .setProtectedHeader({ alg: "HS256", typ: GRANT })
      .sign(deriveGrantKey(KEY));
    expect(read(theirs)).to.deep.equal(CLAIMS);
  });

  it("is none when a character of it is another, wherever it stands", () => {
    const token = signGrant(GRANT, CLAIMS, KEY);
    for (let at = 0; at < token.length; at += 7) {
      const other = token[at] === "A" ? "B" : "A";
      const changed = token.slice(0, at) + other + token.slice(at + 1);
      expect(read(changed), String(at)).to.be.undefined;
    }
  });

  const bad: readonly [string, object][] = [
    ["no sub", { sub: undefined }],
    ["a sub that is no id", { sub: "PI" }],
    ["no iat", { iat: undefined }],
    ["an iat in the future", { iat: now() + DAY_SECONDS }],
    ["no exp", { exp: undefined }],
    ["an exp that is a text", { exp: String(CLAIMS.exp) }],
    ["an exp further off than a year", { exp: now() + 400 * DAY_SECONDS }],
    ["no jti", { jti: undefined }],
    ["an empty jti", { jti: "" }],
    ["a jti that is too long", { jti: "x".repeat(129) }],
    ["a path without /", { path: "photos" }],
    ["a path that leads elsewhere", { path: "/photos/../" }],
    ["no methods", { methods: [] }],
    ["methods that are one text", { methods: "GET" }],
    ["a port that is none", { ports: [0] }],
    ["no uses", { uses: 0 }],
    ["half a use", { uses: 1.5 }],
    ["a claim that is not known, for it may be a limit", { hosts: ["x"] }],
    ["a claim of JWTs that is not known here", { nbf: now() + 30 }],
  ];
  for (const [what, says] of bad) {
    it(`is refused with ${what}`, () => {
      expect(read(signGrant(GRANT, { ...CLAIMS, ...says }, KEY))).to.be
        .undefined;
    });
  }

  it("is refused with another header, however it is signed", async () => {
    const headers = [
      { alg: "HS256" },
      { alg: "HS256", typ: "JWT" },
      { alg: "HS512", typ: GRANT },
      { alg: "HS256", typ: GRANT, kid: "1" },
      { alg: "HS256", typ: GRANT_COOKIE },
    ];
    for (const header of headers) {
      const token = await new SignJWT(CLAIMS)
        .setProtectedHeader(header)
        .sign(new Uint8Array(Buffer.concat([deriveGrantKey(KEY)])));
      expect(read(token), JSON.stringify(header)).to.be.undefined;
    }
    const part = (of: object): string =>
      Buffer.from(JSON.stringify(of)).toString("base64url");
    const none = `${part({ alg: "none", typ: GRANT })}.${part(CLAIMS)}.`;
    expect(read(none)).to.be.undefined;
  });

  it("is refused when it is longer than a cookie can be", () => {
    const path = `/${"x".repeat(3000)}`;
    expect(read(signGrant(GRANT, { ...CLAIMS, path }, KEY))).to.be.undefined;
    expect(() => makeGrant("pi", SECRET, { path, seconds: 60 })).to.throw(
      RangeError,
    );
  });

  it("is refused also when only the cookie that is made of it would be too long", () => {
    const cookie = (grant: Grant): string =>
      signGrant(GRANT_COOKIE, { ...grant, uses: undefined }, KEY);
    const sizes = new Set<number>();
    for (let length = 2000; length < 2400; length++) {
      const claims = { ...CLAIMS, path: `/${"x".repeat(length)}` };
      for (const says of [claims, { ...claims, uses: 1_000_000 }]) {
        const grant = read(signGrant(GRANT, says, KEY));
        if (grant === undefined) continue;
        sizes.add(cookie(grant).length);
        expect(
          readGrant(GRANT_COOKIE, cookie(grant), keyOf),
          String(length),
        ).to.deep.equal(claims);
      }
    }
    expect(Math.max(...sizes)).to.be.within(3060, 3072);
    const limits = { seconds: 60, path: `/${"x".repeat(2000)}` };
    for (;;) {
      try {
        const { grant } = makeGrant("pi", SECRET, limits);
        expect(cookie(grant)).to.have.length.at.most(3072);
      } catch (error) {
        expect(error).to.be.instanceOf(RangeError);
        expect(String(error)).to.include("3 KiB");
        break;
      }
      limits.path += "x";
    }
  });

  it("is refused when its cookie is too long because it says shortly what the cookie says at length", () => {
    const part = (text: string | Buffer): string =>
      Buffer.from(text).toString("base64url");
    const shortly = (jti: Buffer, length: number): string => {
      const header = part(JSON.stringify({ typ: GRANT, alg: "HS256" }));
      const { sub, iat, exp } = CLAIMS;
      const payload = part(
        Buffer.concat([
          Buffer.from(`{"sub":"${sub}","iat":${iat},"exp":${exp},"jti":"`),
          jti,
          Buffer.from(
            `","path":"/${"x".repeat(length)}","ports":[${"1e4,".repeat(63)}1e4]}`,
          ),
        ]),
      );
      const mac = createHmac("sha256", deriveGrantKey(KEY));
      return `${header}.${payload}.${part(mac.update(`${header}.${payload}`).digest())}`;
    };
    // Octets that are no UTF-8 are read as one of three octets each.
    const broken = Buffer.alloc(128, 0xff);
    expect(read(shortly(broken, 10))).to.be.an("object");
    expect(shortly(broken, 1500)).to.have.length.below(3072);
    for (let length = 1000; length < 1500; length += 7) {
      const grant = read(shortly(broken, length));
      if (grant === undefined) continue;
      const cookie = signGrant(GRANT_COOKIE, grant, KEY);
      expect(
        readGrant(GRANT_COOKIE, cookie, keyOf),
        String(length),
      ).to.deep.equal(grant);
    }
    expect(read(shortly(broken, 1500))).to.be.undefined;
  });

  it("dies with the generation of the secret that it was made with", () => {
    const token = signGrant(GRANT, CLAIMS, KEY);
    const second = deriveKey(RELAY_SECRET, "pi", 2);
    expect(readGrant(GRANT, token, () => second)).to.be.undefined;
    expect(readGrant(GRANT, token, () => undefined)).to.be.undefined;
  });

  it("parks nothing, and what parks grants nothing", async () => {
    const auth = new Auth({ relaySecret: RELAY_SECRET, revoked: [] });
    const parks = (token: string): Promise<string | undefined> =>
      auth.refuse("pi", token, "127.0.0.1");
    const short = { ...CLAIMS, exp: CLAIMS.iat + 45 };
    expect(await parks(signGrant(GRANT, short, KEY))).to.equal("bad_token");
    const secret = encodeSecret(deriveGrantKey(KEY));
    expect(await parks(generateSync({ secret }))).to.equal("bad_token");
    // The secret itself signs no grant either, whatever the token calls itself.
    expect(read(await makeToken("pi", KEY))).to.be.undefined;
    for (const key of [KEY, deriveGrantKey(deriveGrantKey(KEY))]) {
      const token = await new SignJWT(short)
        .setProtectedHeader({ alg: "HS256", typ: GRANT })
        .sign(new Uint8Array(key));
      expect(read(token)).to.be.undefined;
    }
    // Signed with the key of grants it is none for parking, whatever it calls itself.
    const asToken = await makeToken("pi", new Uint8Array(deriveGrantKey(KEY)));
    expect(await parks(asToken)).to.equal("bad_token");
    // The control: this one parks.
    expect(await parks(await makeToken("pi", KEY))).to.be.undefined;
  });

  it("is told from any other text by its header alone", () => {
    const token = signGrant(GRANT, CLAIMS, KEY);
    expect(grantTypeOf(token)).to.equal(GRANT);
    expect(grantTypeOf(token.slice(0, -60))).to.equal(GRANT);
    expect(grantTypeOf(signGrant(GRANT_COOKIE, CLAIMS, KEY))).to.equal(
      GRANT_COOKIE,
    );
    const loud = Buffer.from('{"alg":"HS256","typ":"GRANT+JWT"}');
    expect(grantTypeOf(`${loud.toString("base64url")}.x.y`)).to.equal(GRANT);
    for (const other of ["", ".", "a.b.c", "full", "e30.e30.x", "bnVsbA.x.y"])
      expect(grantTypeOf(other), other).to.be.undefined;
  });

  it("without limits allows everything at its server, until it ends", () => {
    expect(http({}, "/anything//else/../?x")).to.be.undefined;
    expect(http({}, "*", "OPTIONS")).to.be.undefined;
    expect(tcp({}, 5432)).to.be.undefined;
    const over = { exp: now() };
    expect(http(over, "/")).to.equal("it has expired");
    expect(tcp(over, 22)).to.equal("it has expired");
    const elsewhere = { id: "other", method: "GET", target: "/" };
    expect(whyNot(CLAIMS, elsewhere)).to.include("not made for this server");
  });

  it("for HTTP allows no TCP, and for TCP no HTTP", () => {
    expect(tcp({ path: "/" }, 22)).to.equal("it is for HTTP only");
    expect(tcp({ methods: ["GET"] }, 80)).to.equal("it is for HTTP only");
    expect(http({ ports: [80] }, "/")).to.equal("it is for TCP only");
    expect(tcp({ ports: [22] }, 22)).to.be.undefined;
    expect(tcp({ ports: [22] }, 23)).to.equal("it is for other ports only");
    const both = { ports: [22], path: "/a" };
    expect(tcp(both, 22)).to.be.undefined;
    expect(http(both, "/a")).to.be.undefined;
    expect(http(both, "/b")).to.match(/^it is for another path; /);
  });

  it("for methods allows these, as they are written", () => {
    const says = { methods: ["GET"] };
    expect(http(says, "/")).to.be.undefined;
    for (const method of ["HEAD", "POST", "get", "OPTIONS"])
      expect(http(says, "/", method), method).to.include("other methods");
  });
});

describe("the path of a grant", () => {
  const rows: readonly [string, readonly string[], readonly string[]][] = [
    [
      "/photos/",
      ["/photos/", "/photos/a", "/photos/a/?x=/../", "/photos/a%20b"],
      ["/photos", "/", "/photosecret", "/Photos/", "*", "photos/"],
    ],
    [
      "/photos",
      ["/photos", "/photos?x", "/photos/", "/photos/a/b", "/photos/.hidden"],
      ["/photosecret", "/photos;x", "/photo", "/%70hotos/"],
    ],
    ["/", ["/", "/a", "/a/b?c"], ["*", "/a//b", "/a/.."]],
    ["/%C3%BC/", ["/%C3%BC/a", "/%c3%bc/a"], ["/%C3/", "/\xc3\xbc/a"]],
  ];
  for (const [path, allowed, refused] of rows) {
    it(`${path} allows what is below it`, () => {
      for (const target of allowed)
        expect(http({ path }, target), target).to.be.undefined;
      for (const target of refused)
        expect(http({ path }, target), target).to.be.a("string");
    });
  }

  const twofold = [
    ..."/photos/../secret /photos/./a /photos/.. /photos/. /photos//a //photos/".split(
      " ",
    ),
    ..."/photos/%2e%2e/secret /photos/%2E./a /photos/a%2fb /photos/a%2Fb".split(
      " ",
    ),
    ..."/photos/a%5cb /photos/a\\b /photos/..\\b /photos/%00 /photos/%0d%0a".split(
      " ",
    ),
    ..."/photos/%252e%252e/ /photos/%25 /photos/% /photos/%zz /photos/%u002e".split(
      " ",
    ),
    ..."/photos/%c0%ae%c0%ae/ /photos/%c0%af /photos/..;/secret /photos/..%3b/".split(
      " ",
    ),
    ..."/photos/%20../secret /photos/..%20/ /photos/%EF%BC%8E%EF%BC%8E/a".split(
      " ",
    ),
    ..."/photos/%EF%BC%8Fa /photos/%E2%80%A5/a /photos/.%09./ /photos/\xe4".split(
      " ",
    ),
  ];
  for (const target of twofold) {
    it(`refuses ${JSON.stringify(target)}, which can be read in two ways`, () => {
      expect(http({ path: "/photos/" }, target)).to.be.a("string");
      expect(http({ path: "/" }, target)).to.be.a("string");
      expect(isPlainPath(target)).to.be.false;
    });
  }

  it("never allows what any reader would take for another place", () => {
    const piece = fc.constantFrom(
      ..."a b photos secret . .. / // \\ % %2e %2E %2f %5c %25 %252e %252f ; ? # %20 %00 %c0 %ae ~ é ． ／".split(
        " ",
      ),
      "/",
      "/",
      "..",
    );
    const tails = fc.array(piece, { maxLength: 8 }).map((all) => all.join(""));
    const prefixes = fc.constantFrom("/photos/", "/photos", "/a/b/");
    let allowed = 0;
    fc.assert(
      fc.property(prefixes, tails, fc.boolean(), (path, tail, below) => {
        const target = below ? `${path}${tail}` : `/${tail}`;
        if (http({ path }, target) !== undefined) return;
        allowed++;
        const [plain = ""] = target.split("?", 1);
        const once = decodeURIComponent(plain);
        for (const text of [plain, once, decodeURIComponent(once)])
          for (const reading of readings(text))
            expect(isBelow(reading, path), `${target} as ${reading}`).to.be
              .true;
      }),
      { numRuns: 20_000 },
    );
    expect(allowed).to.be.above(500);
  });
});

/** What a path is to a browser, to a file system, and to one that takes \ for /. */
function readings(text: string): string[] {
  return [
    new URL(text.replaceAll("?", "%3F").replaceAll("#", "%23"), "http://x")
      .pathname,
    new URL(`file://${text.replaceAll("?", "%3F").replaceAll("#", "%23")}`)
      .pathname,
    collapse(text),
    collapse(text.replaceAll("\\", "/").replaceAll(/;[^/]*/g, "")),
  ];
}

function collapse(text: string): string {
  const kept: string[] = [];
  for (const segment of text.split("/").slice(1)) {
    if (segment === "..") kept.pop();
    else if (segment !== ".") kept.push(segment);
  }
  return `/${kept.join("/")}`;
}

function isBelow(path: string, prefix: string): boolean {
  const plain = prefix.replace(/\/$/, "");
  return path === plain || path.startsWith(`${plain}/`);
}
