// Parking tokens that are shown twice: by any two of the ways to park, at any two of the places where a token may stand.
import { expect } from "chai";
import { generateSync } from "otplib";
import { decodeSecret, makeToken } from "../../app/protocol.ts";
import { connectRaw, type Raw } from "../support/raw.ts";
import { startRelay, type TestRelay } from "../support/relay.ts";

const PATH_OF = {
  connect: "uuid:",
  upgrade: "/-/park/",
  websocket: "/-/park/",
};
const FIELDS_OF = {
  connect: "",
  upgrade: "Connection: Upgrade\r\nUpgrade: ptth\r\n",
  websocket:
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ptth\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
};
type Form = keyof typeof PATH_OF;
const FORMS = ["connect", "upgrade", "websocket"] as const;

const login = (id: string, token: string): string =>
  Buffer.from(`${id}:${token}`).toString("base64");

/** Where a token stands: its part of the query, and its field. */
const PLACES: readonly ((
  id: string,
  token: string,
) => readonly [query: string, field: string])[] = [
  (_id, token) => [`?response=${token}`, ""],
  (_id, token) => ["", `Authorization: Bearer ${token}\r\n`],
  (id, token) => ["", `Authorization: Basic ${login(id, token)}\r\n`],
  (_id, token) => ["", `Proxy-Authorization: Bearer ${token}\r\n`],
  (id, token) => ["", `Proxy-Authorization: Basic ${login(id, token)}\r\n`],
];
type Place = (typeof PLACES)[number];

interface Shown {
  readonly form: Form;
  readonly place: Place;
  readonly id: string;
  readonly token: string;
  /** As the router in front tells it. */
  readonly address: string;
}

async function show(relay: TestRelay, shown: Shown): Promise<Raw> {
  const { form, place, id, token, address } = shown;
  const [query, field] = place(id, token);
  const method = form === "connect" ? "CONNECT" : "GET";
  const raw = await connectRaw(relay.port);
  return raw.write(
    `${method} ${PATH_OF[form]}${id}${query} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${address}\r\n${field}${FIELDS_OF[form]}\r\n`,
  );
}

async function statusOf(raw: Raw): Promise<number> {
  const head = await raw.take("\r\n\r\n");
  return Number(head.split(" ")[1]);
}

const GOOD = { connect: 200, upgrade: 101, websocket: 101 };

const KINDS: readonly (readonly [
  kind: string,
  make: (relay: TestRelay, id: string) => Promise<string>,
  again: (address: string) => string,
])[] = [
  [
    "JWT",
    (relay, id) => makeToken(id, decodeSecret(relay.issue(id).secret)),
    (address) => address,
  ],
  [
    "code",
    (relay, id) =>
      Promise.resolve(generateSync({ secret: relay.issue(id).secret })),
    // A legacy server parks several tunnels with one, from one address.
    (address) => address.replace("192.0.2.", "198.51.100."),
  ],
];

for (const [kind, make, again] of KINDS) {
  describe(`a ${kind} that was used`, () => {
    for (const first of FORMS) {
      for (const second of FORMS) {
        it(`by ${first} is refused by ${second}, wherever it stood and stands`, async () => {
          const relay = await startRelay({ trustProxy: 1 });
          const pairs = PLACES.flatMap((one) =>
            PLACES.map((other) => [one, other] as const),
          );
          await Promise.all(
            pairs.map(async ([one, other], i) => {
              const [id, address] = [`id-${i}`, `192.0.2.${i}`];
              const token = await make(relay, id);
              const shown = { id, token, address };
              const used = { ...shown, form: first, place: one };
              expect(await statusOf(await show(relay, used))).to.equal(
                GOOD[first],
              );
              const replayed = await show(relay, {
                ...shown,
                form: second,
                place: other,
                address: again(address),
              });
              expect(await statusOf(replayed)).to.equal(401);
            }),
          );
          expect(relay.counts().tunnels).to.equal(pairs.length);
        });
      }
    }

    it("is one tunnel's when all ways and places show it at the same moment", async () => {
      const relay = await startRelay({ trustProxy: 1 });
      const token = await make(relay, "pi");
      const showing = FORMS.flatMap((form) =>
        PLACES.map((place) => ({ form, place })),
      ).map((how, i) =>
        show(relay, { ...how, id: "pi", token, address: `192.0.2.${i}` }),
      );
      const statuses = await Promise.all(
        (await Promise.all(showing)).map(statusOf),
      );
      // The last ones may have come after too many failures.
      const taken = statuses.filter((status) => ![401, 429].includes(status));
      expect(taken, statuses.join()).to.have.length(1);
      expect(relay.counts().tunnels).to.equal(1);
    });

    it("does not register either, and one that has registered does not park", async () => {
      const relay = await startRelay({ trustProxy: 1 });
      const register = async (
        id: string,
        token: string,
        address: string,
      ): Promise<number> => {
        const raw = await connectRaw(relay.port);
        raw.write(
          `PUT /?uuid=${id}&response=${token} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ${address}\r\n\r\n`,
        );
        return statusOf(raw);
      };
      for (const form of FORMS) {
        for (const [i, place] of PLACES.entries()) {
          const id = `${form}-${i}`;
          const address = `192.0.2.${i}`;
          const token = await make(relay, id);
          const shown = { form, place, id, token };
          expect(
            await statusOf(await show(relay, { ...shown, address })),
          ).to.equal(GOOD[form]);
          expect(await register(id, token, again(address))).to.equal(401);
          const other = `${id}-too`;
          const next = await make(relay, other);
          expect(await register(other, next, address)).to.equal(200);
          const late = { ...shown, id: other, token: next };
          expect(
            await statusOf(
              await show(relay, { ...late, address: again(address) }),
            ),
          ).to.equal(401);
        }
      }
    });
  });
}

describe("whoever guesses", () => {
  it("by any way is answered 429 with Retry-After after ten, and the agent at another address is not", async () => {
    const relay = await startRelay({ trustProxy: 1 });
    const [place = PLACES[0]] = PLACES;
    if (place === undefined) throw new Error("there is no place");
    const guess = async (i: number): Promise<Raw> =>
      show(relay, {
        form: FORMS[i % FORMS.length] ?? "connect",
        place: PLACES[i % PLACES.length] ?? place,
        id: "pi",
        token: "no.to.ken",
        address: "192.0.2.1",
      });
    for (let i = 0; i < 10; i++)
      expect(await statusOf(await guess(i))).to.equal(401);
    for (let i = 0; i < 3; i++) {
      const { status, fields } = await (await guess(i)).answer();
      expect(status).to.equal(429);
      expect(fields).to.include({ "retry-after": "60" });
    }
    for (const [address, status] of [
      ["192.0.2.1", 429],
      ["192.0.2.2", 200],
    ] as const) {
      const token = await makeToken(
        "pi",
        decodeSecret(relay.issue("pi").secret),
      );
      const shown = {
        form: "connect",
        place,
        id: "pi",
        token,
        address,
      } as const;
      expect(await statusOf(await show(relay, shown))).to.equal(status);
    }
  });
});
