// Who may park: tokens, each good once, and the secrets they are made with.
import { expect } from "chai";
import { createHmac } from "node:crypto";
import { mock } from "node:test";
import { SignJWT } from "jose";
import { Auth } from "../../app/relay/auth.ts";
import {
  Revocations,
  decodeSecret,
  deriveKey,
  encodeSecret,
  isId,
  isRevocation,
  makeToken,
} from "../../app/protocol.ts";
import { afterThisTest } from "../support/cleanup.ts";
import { RELAY_SECRET } from "../support/relay.ts";

const KEY = deriveKey(RELAY_SECRET, "pi", 1);
const HERE = "192.0.2.1";
const THERE = "192.0.2.2";
/** The middle of a step of TOTP. */
const NOON = 1_800_000_015_000;

const makeAuth = (revoked: readonly string[] = []): Auth =>
  new Auth({ relaySecret: RELAY_SECRET, revoked });
const now = (): number => Math.floor(Date.now() / 1000);

function stopClock(at: number): void {
  mock.timers.enable({ apis: ["Date"], now: at });
  afterThisTest(() => {
    mock.timers.reset();
  });
}

/** RFC 4648, written once more. */
function base32(octets: Uint8Array): string {
  const bits = [...octets]
    .map((octet) => octet.toString(2).padStart(8, "0"))
    .join("");
  const groups = bits.match(/.{1,5}/g) ?? [];
  return groups
    .map(
      (group) =>
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[parseInt(group.padEnd(5, "0"), 2)],
    )
    .join("");
}

/** RFC 6238 with SHA-1, written once more. */
function totp(key: Uint8Array, step: number, digits: number): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = (mac.at(-1) ?? 0) & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 10 ** digits).padStart(
    digits,
    "0",
  );
}

const step = (): number => Math.floor(Date.now() / 30_000);

interface Claims {
  readonly alg?: string;
  readonly sub?: string;
  readonly iat?: number;
  readonly exp?: number;
  readonly jti?: string;
  readonly key?: Uint8Array;
}

let count = 0;

async function jwt(claims: Claims = {}): Promise<string> {
  const {
    alg = "HS256",
    sub = "pi",
    iat = now(),
    jti = `jti-${++count}`,
    key = KEY,
  } = claims;
  return new SignJWT({ sub, iat, exp: claims.exp ?? iat + 60, jti })
    .setProtectedHeader({ alg })
    .sign(key);
}

const segment = (value: unknown): string =>
  Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JWT signed by hand, for what a library would not make. */
function crude(header: unknown, payload: unknown, key = KEY): string {
  const text = `${segment(header)}.${segment(payload)}`;
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}

describe("a JWT", () => {
  it("as agents make it parks", async () => {
    expect(await makeAuth().refuse("pi", await makeToken("pi", KEY), HERE)).to
      .be.undefined;
  });

  const good: readonly (readonly [title: string, claims: () => Claims])[] = [
    ["of the longest life", () => ({ exp: now() + 60 })],
    ["from a clock that goes 59 s ahead", () => ({ iat: now() + 59 })],
    [
      "from a clock that goes behind, 59 s after its end",
      () => ({ iat: now() - 119, exp: now() - 59 }),
    ],
    ["with the longest name", () => ({ jti: "j".repeat(128) })],
  ];
  for (const [title, claims] of good) {
    it(`${title} parks`, async () => {
      stopClock(NOON);
      expect(await makeAuth().refuse("pi", await jwt(claims()), HERE)).to.be
        .undefined;
    });
  }

  const bad: readonly (readonly [title: string, claims: () => Claims])[] = [
    ["of another id", () => ({ sub: "other" })],
    [
      "signed with another id's secret",
      () => ({ key: deriveKey(RELAY_SECRET, "other", 1) }),
    ],
    [
      "signed with HS512 and another secret",
      () => ({ alg: "HS512", key: Buffer.concat([KEY, KEY]) }),
    ],
    [
      "signed with HS384 and the right secret",
      () => ({ alg: "HS384", key: Buffer.concat([KEY, Buffer.alloc(16)]) }),
    ],
    [
      "whose life is over for 61 s",
      () => ({ iat: now() - 121, exp: now() - 61 }),
    ],
    ["whose life is longer than 60 s", () => ({ exp: now() + 61 })],
    ["from a clock that goes 61 s ahead", () => ({ iat: now() + 61 })],
    ["with too long a name", () => ({ jti: "j".repeat(129) })],
    ["with an empty name", () => ({ jti: "" })],
  ];
  for (const [title, claims] of bad) {
    it(`${title} does not park`, async () => {
      stopClock(NOON);
      expect(await makeAuth().refuse("pi", await jwt(claims()), HERE)).to.equal(
        "bad_token",
      );
    });
  }

  it("without a signature, or without one of its claims, does not park", async () => {
    const payload = { sub: "pi", iat: now(), exp: now() + 60, jti: "x" };
    const auth = makeAuth();
    const unsigned = `${segment({ alg: "none" })}.${segment(payload)}.`;
    const tokens = [
      unsigned,
      crude({ alg: "none" }, payload),
      crude({ alg: "HS256", crit: ["x"], x: 1 }, payload),
      `${crude({ alg: "HS256" }, payload)}A`,
    ];
    for (const claim of ["sub", "iat", "exp", "jti"])
      tokens.push(crude({ alg: "HS256" }, { ...payload, [claim]: undefined }));
    tokens.push(
      crude({ alg: "HS256" }, { ...payload, jti: 1 }),
      crude({ alg: "HS256" }, { ...payload, exp: "never" }),
      "a.b.c",
      "",
      "x",
    );
    for (const [i, token] of tokens.entries())
      expect(await auth.refuse("pi", token, `192.0.2.${i}`), token).to.equal(
        "bad_token",
      );
    expect(await auth.refuse("pi", crude({ alg: "HS256" }, payload), HERE)).to
      .be.undefined;
  });

  it("parks once, ever: not again from the same address, nor when used tokens are swept", async () => {
    stopClock(NOON);
    const auth = makeAuth();
    const token = await jwt();
    expect(await auth.refuse("pi", token, HERE)).to.be.undefined;
    expect(await auth.refuse("pi", token, HERE)).to.equal("bad_token");
    for (let second = 0; second < 130; second++) {
      mock.timers.setTime(NOON + second * 1000);
      auth.sweep();
      expect(
        await auth.refuse("pi", token, `192.0.2.${second}`),
        `after ${second} s`,
      ).to.equal("bad_token");
    }
  });

  it("parks once also when its end is a part of a second", async () => {
    stopClock(NOON);
    const auth = makeAuth();
    const token = await jwt({ iat: now(), exp: now() + 30.5 });
    expect(await auth.refuse("pi", token, HERE)).to.be.undefined;
    for (let at = 89_000; at < 93_000; at += 100) {
      mock.timers.setTime(NOON + at);
      auth.sweep();
      expect(
        await auth.refuse("pi", token, `192.0.2.${at / 100 - 890}`),
        String(at),
      ).to.equal("bad_token");
    }
  });

  it("parks one of those who show it at the same moment", async () => {
    const auth = makeAuth();
    const token = await jwt();
    const verdicts = await Promise.all(
      Array.from({ length: 9 }, (_, i) =>
        auth.refuse("pi", token, `192.0.2.${i}`),
      ),
    );
    expect(verdicts.filter((verdict) => verdict === undefined)).to.have.length(
      1,
    );
    expect(new Set(verdicts)).to.deep.equal(new Set([undefined, "bad_token"]));
  });

  it("does not use up the token of the same name of another id", async () => {
    const auth = makeAuth();
    expect(await auth.refuse("pi", await jwt({ jti: "same" }), HERE)).to.be
      .undefined;
    const other = await jwt({
      jti: "same",
      sub: "other",
      key: deriveKey(RELAY_SECRET, "other", 1),
    });
    expect(await auth.refuse("other", other, HERE)).to.be.undefined;
  });

  it("that is bad does not use up the name of a good one", async () => {
    const auth = makeAuth();
    expect(
      await auth.refuse(
        "pi",
        await jwt({ jti: "same", exp: now() + 1000 }),
        HERE,
      ),
    ).to.equal("bad_token");
    expect(await auth.refuse("pi", await jwt({ jti: "same" }), HERE)).to.be
      .undefined;
  });
});

describe("a TOTP", () => {
  for (const digits of [6, 7, 8]) {
    it(`of ${digits} digits parks in its step and one step before and after, in no other`, async () => {
      stopClock(NOON);
      for (const [away, verdict] of [
        [-2, "bad_token"],
        [-1, undefined],
        [0, undefined],
        [1, undefined],
        [2, "bad_token"],
      ] as const)
        expect(
          await makeAuth().refuse("pi", totp(KEY, step() + away, digits), HERE),
          `${away} steps away`,
        ).to.equal(verdict);
    });
  }

  it("parks again and again from the address that used it first, for a pool, and from no other", async () => {
    stopClock(NOON);
    const auth = makeAuth();
    const code = totp(KEY, step(), 6);
    expect(await auth.refuse("pi", code, HERE)).to.be.undefined;
    expect(await auth.refuse("pi", code, THERE)).to.equal("bad_token");
    expect(await auth.refuse("pi", code, HERE)).to.be.undefined;
    expect(await auth.refuse("pi", totp(KEY, step(), 8), THERE)).to.equal(
      "bad_token",
    );
    for (const second of [14, 20, 44]) {
      mock.timers.setTime(NOON + second * 1000);
      auth.sweep();
      expect(
        await auth.refuse("pi", code, THERE),
        `after ${second} s`,
      ).to.equal("bad_token");
    }
    expect(await auth.refuse("pi", totp(KEY, step(), 6), THERE)).to.be
      .undefined;
  });

  it("of another id, or of fewer or more digits, does not park", async () => {
    stopClock(NOON);
    const other = deriveKey(RELAY_SECRET, "other", 1);
    for (const token of [
      totp(other, step(), 6),
      totp(KEY, step(), 5),
      totp(KEY, step(), 9),
      ` ${totp(KEY, step(), 6)}`,
    ])
      expect(await makeAuth().refuse("pi", token, HERE)).to.equal("bad_token");
  });
});

describe("revocation", () => {
  it("of an id lets it park no more", async () => {
    expect(await makeAuth(["PI"]).refuse("pi", await jwt(), HERE)).to.equal(
      "revoked",
    );
    expect(
      await makeAuth(["pi", "pi@1"]).refuse("pi", await jwt(), HERE),
    ).to.equal("revoked");
    expect(await makeAuth(["other"]).refuse("pi", await jwt(), HERE)).to.be
      .undefined;
  });

  it("of a generation ends its secret, and the next one is good", async () => {
    const auth = makeAuth(["pi@1", "pi@2"]);
    for (const [generation, verdict] of [
      [1, "bad_token"],
      [2, "bad_token"],
      [3, undefined],
      [4, "bad_token"],
    ] as const)
      expect(
        await auth.refuse(
          "pi",
          await jwt({ key: deriveKey(RELAY_SECRET, "pi", generation) }),
          HERE,
        ),
      ).to.equal(verdict);
  });

  it("holds for a token that is being looked at", async () => {
    for (const [list, verdict] of [
      [["pi"], "revoked"],
      [["pi@1"], "bad_token"],
      [["tau", "pi@2"], undefined],
    ] as const) {
      const auth = makeAuth();
      const looking = auth.refuse("pi", await jwt(), HERE);
      auth.setRevoked(list);
      expect(await looking, list.join()).to.equal(verdict);
    }
  });

  it("leaves the lowest generation that is not revoked", () => {
    expect(new Revocations([]).generationOf("pi")).to.equal(1);
    expect(new Revocations(["pi@2"]).generationOf("pi")).to.equal(1);
    expect(
      new Revocations(["pi@1", "Pi@2", "pi@4"]).generationOf("pi"),
    ).to.equal(3);
    expect(new Revocations(["pi"]).generationOf("pi")).to.be.undefined;
  });

  it("is written as an id, or an id and a generation", () => {
    for (const entry of ["pi", "PI@1", "a-b@12"])
      expect(isRevocation(entry), entry).to.be.true;
    for (const entry of [
      "",
      "pi@",
      "pi@0",
      "pi@x",
      "@1",
      "pi@1@2",
      "p.i",
      "-pi",
    ])
      expect(isRevocation(entry), entry).to.be.false;
  });
});

describe("the secret of an id", () => {
  it("is derived as the protocol says: HMAC-SHA256, then base32", () => {
    for (const [id, generation, text] of [
      ["pi", 1, "rendezvous/v1/pi"],
      ["pi", 2, "rendezvous/v1/pi@2"],
      ["a-b", 10, "rendezvous/v1/a-b@10"],
    ] as const) {
      const octets = createHmac("sha256", RELAY_SECRET).update(text).digest();
      expect(deriveKey(RELAY_SECRET, id, generation).equals(octets)).to.be.true;
      expect(encodeSecret(octets))
        .to.equal(base32(octets))
        .and.match(/^[A-Z2-7]{52}$/);
    }
  });

  it("is read however it was copied", () => {
    const secret = encodeSecret(KEY);
    for (const copy of [
      secret,
      secret.toLowerCase(),
      `${secret}====`,
      ` ${secret.slice(0, 4)} ${secret.slice(4)}\n`,
    ])
      expect(Buffer.from(decodeSecret(copy)).equals(KEY)).to.be.true;
    for (const text of ["", "short", `${secret}1`, secret.replace(/./, "!")])
      expect(() => decodeSecret(text)).to.throw(RangeError, "base32");
  });

  it("that was cut or mistyped is refused in a sentence, and in no other way", () => {
    const secret = encodeSecret(KEY);
    const cuts = Array.from({ length: 36 }, (_, i) => secret.slice(0, 16 + i));
    const slips = Array.from(
      "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
      (last) => `${secret.slice(0, -1)}${last}`,
    );
    let refused = 0;
    for (const text of [...cuts, ...slips]) {
      try {
        decodeSecret(text);
      } catch (error) {
        expect(error, text)
          .to.be.instanceOf(RangeError)
          .with.property("message")
          .that.matches(/^The secret is not base32 text/);
        refused++;
      }
    }
    // Some are whole octets: only the relay knows that they are wrong.
    expect(refused).to.be.above(slips.length / 2);
  });
});

describe("an id", () => {
  it("is one DNS label in lower case", () => {
    for (const id of [
      "a",
      "1",
      "pi",
      "a-b",
      "a--b",
      "a".repeat(63),
      "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
    ])
      expect(isId(id), id).to.be.true;
    for (const id of [
      "",
      "-a",
      "a-",
      "A",
      "a.b",
      "a_b",
      "a".repeat(64),
      "ä",
      "a\n",
      "a b",
    ])
      expect(isId(id), id).to.be.false;
  });
});
