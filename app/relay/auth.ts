// Who may park: a token is turned into an id, one time.
import { jwtVerify } from "jose";
import { verifySync } from "otplib";
import type { FailureCode } from "../errors.ts";
import { network } from "./network.ts";
import { Throttle } from "./throttle.ts";
import { Used, type Verdict } from "./used.ts";
import { MAX_TOKEN_SECONDS, Revocations, deriveKey } from "../protocol.ts";

/** Seconds that the clocks of a hidden server and of the relay may differ by. */
const CLOCK_SKEW_SECONDS = 60;
const TOTP_STEP_SECONDS = 30;
/** Wrong tokens for one id: from one network, and codes from anywhere. */
const MAX_FAILURES = 10;
/** Wrong tokens from one network for whatever ids: more, for many hidden servers may share an address. */
const MAX_NETWORK_FAILURES = 100;
const FAILURE_MILLISECONDS = 60 * 1000;
/** Where wrong codes of all ids are counted. 5000 a second, each for another id, keep one place in fifty full. */
const CODE_PLACES = 2 ** 16;
/** A longer name of a token would cost memory until it expires. */
const MAX_JTI_LENGTH = 128;

export interface AuthOptions {
  readonly relaySecret: string;
  readonly revoked: readonly string[];
}

/** Checks parking tokens. Remembers the used ones, and nothing else. */
export class Auth {
  readonly #relaySecret: string;
  #revocations: Revocations;
  readonly #used: Used;
  /** Wrong tokens by id and network, and by network; wrong codes by id. */
  readonly #byPlace = new Throttle(MAX_FAILURES, FAILURE_MILLISECONDS);
  readonly #byNetwork = new Throttle(
    MAX_NETWORK_FAILURES,
    FAILURE_MILLISECONDS,
  );
  readonly #byCode = new Throttle(
    MAX_FAILURES,
    FAILURE_MILLISECONDS,
    CODE_PLACES,
  );

  constructor(options: AuthOptions, used = new Used()) {
    this.#used = used;
    this.#relaySecret = options.relaySecret;
    this.#revocations = new Revocations(options.revoked);
  }

  /** The generation of an id whose tokens are good now; undefined when the id is revoked. */
  generationOf(id: string): number | undefined {
    return this.#revocations.generationOf(id);
  }

  /** Puts another list of revocations in the place of the former one. */
  setRevoked(revoked: readonly string[]): void {
    this.#revocations = new Revocations(revoked);
  }

  /** The secret of an id that holds now; undefined for one that is revoked. */
  keyOf(id: string): Buffer | undefined {
    const generation = this.generationOf(id);
    return generation === undefined
      ? undefined
      : deriveKey(this.#relaySecret, id, generation);
  }

  /** Whether `token`, sent from `address`, parks a tunnel for `id` now. Undefined is yes; anything else says why not. */
  async refuse(
    id: string,
    token: string,
    address: string,
  ): Promise<FailureCode | undefined> {
    const generation = this.generationOf(id);
    const key = this.keyOf(id);
    if (generation === undefined || key === undefined) return "revoked";
    const isTotp = /^\d{6,8}$/.test(token);
    const now = performance.now();
    const there = network(address);
    const here = `${id} ${there}`;
    const isTroubled = this.#byNetwork.blocks(there, now);
    // Codes are short enough to be guessed, from many addresses and for many ids at once; nobody guesses a JWT.
    if (
      this.#byPlace.blocks(here, now) ||
      (isTotp && (isTroubled || this.#byCode.blocks(id, now)))
    )
      return "too_many_failures";
    const verdict = isTotp
      ? this.#takeTotp(id, key, token, address)
      : await this.#takeJwt(id, key, token);
    if (verdict === "good") return this.#outdated(id, generation);
    if (verdict === "full") return "too_many_requests";
    this.#byNetwork.fail(there, now);
    // An agent that shares the address with whoever guesses parks all the same: only wrong tokens come here.
    if (isTroubled) return "too_many_failures";
    this.#byPlace.fail(here, now);
    if (isTotp) this.#byCode.fail(id, now);
    return "bad_token";
  }

  /** Forgets the tokens that have expired. */
  sweep(): void {
    for (const throttle of [this.#byPlace, this.#byNetwork, this.#byCode])
      throttle.sweep(performance.now());
    this.#used.sweep(Date.now());
  }

  /** What a good token is worth by now: the list may have changed while it was looked at. */
  #outdated(id: string, generation: number): FailureCode | undefined {
    const valid = this.generationOf(id);
    if (valid === generation) return undefined;
    return valid === undefined ? "revoked" : "bad_token";
  }

  /** A `jti` is good once, ever. */
  async #takeJwt(id: string, key: Uint8Array, token: string): Promise<Verdict> {
    let claims;
    try {
      ({ payload: claims } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        subject: id,
        requiredClaims: ["iat", "exp", "jti"],
        clockTolerance: CLOCK_SKEW_SECONDS,
      }));
    } catch {
      // Why a token is bad is nobody's business but its maker's.
      return "bad";
    }
    const { iat, exp, jti } = claims;
    const now = Date.now() / 1000;
    if (iat === undefined || exp === undefined || typeof jti !== "string")
      return "bad";
    if (jti === "" || jti.length > MAX_JTI_LENGTH) return "bad";
    if (exp - iat > MAX_TOKEN_SECONDS || iat > now + CLOCK_SKEW_SECONDS)
      return "bad";
    return this.#used.use(id, `jwt ${jti}`, exp + CLOCK_SKEW_SECONDS);
  }

  /** A code is good again only from the address that used it first, for a legacy server parks a pool of tunnels with one. */
  #takeTotp(
    id: string,
    key: Uint8Array,
    token: string,
    address: string,
  ): Verdict {
    const digits = token.length === 6 ? 6 : token.length === 7 ? 7 : 8;
    const result = verifySync({
      secret: key,
      token,
      digits,
      period: TOTP_STEP_SECONDS,
      epochTolerance: TOTP_STEP_SECONDS,
    });
    if (!result.valid || !("timeStep" in result)) return "bad";
    const name = `totp ${String(result.timeStep)}`;
    const until = (result.timeStep + 2) * TOTP_STEP_SECONDS;
    const verdict = this.#used.use(id, name, until);
    const there = `${name} ${address}`;
    if (verdict === "good") this.#used.use(id, there, until);
    return verdict === "bad" && this.#used.has(id, there) ? "good" : verdict;
  }
}
