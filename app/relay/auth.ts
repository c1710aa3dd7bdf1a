// Who may park: a token is turned into an id, one time.
import { jwtVerify } from "jose";
import { verifySync } from "otplib";
import type { FailureCode } from "../errors.ts";
import { network } from "./network.ts";
import { Throttle } from "./throttle.ts";
import { MAX_TOKEN_SECONDS, Revocations, deriveKey } from "../protocol.ts";

/** Seconds that the clocks of a hidden server and of the relay may differ by. */
const CLOCK_SKEW_SECONDS = 60;
const TOTP_STEP_SECONDS = 30;
/** Wrong tokens for one id: from one network, and codes from anywhere. */
const MAX_FAILURES = 10;
const FAILURE_MILLISECONDS = 60 * 1000;
/** A longer name of a token would cost memory until it expires. */
const MAX_JTI_LENGTH = 128;

export interface AuthOptions {
  readonly relaySecret: string;
  readonly revoked: readonly string[];
}

/** How long a token that was used is remembered, and whose it is then. */
interface Used {
  readonly until: number;
  readonly address: string | undefined;
}

/** Checks parking tokens. Remembers the used ones, and nothing else. */
export class Auth {
  readonly #relaySecret: string;
  readonly #revocations: Revocations;
  /** Used tokens by their name; sweep() removes them once they have expired anyway. */
  readonly #used = new Map<string, Used>();
  /** Wrong tokens by id and network, and wrong codes by id. */
  readonly #byPlace = new Throttle(MAX_FAILURES, FAILURE_MILLISECONDS);
  readonly #byCode = new Throttle(MAX_FAILURES, FAILURE_MILLISECONDS);

  constructor(options: AuthOptions) {
    this.#relaySecret = options.relaySecret;
    this.#revocations = new Revocations(options.revoked);
  }

  /** Whether `token`, sent from `address`, parks a tunnel for `id` now. Undefined is yes; anything else says why not. */
  async refuse(
    id: string,
    token: string,
    address: string,
  ): Promise<FailureCode | undefined> {
    const generation = this.#revocations.generationOf(id);
    if (generation === undefined) return "revoked";
    const isTotp = /^\d{6,8}$/.test(token);
    const now = performance.now();
    const here = `${id} ${network(address)}`;
    // Codes are short enough to be guessed from many addresses at once; nobody guesses a JWT.
    if (
      this.#byPlace.blocks(here, now) ||
      (isTotp && this.#byCode.blocks(id, now))
    )
      return "too_many_failures";
    const key = deriveKey(this.#relaySecret, id, generation);
    const good = isTotp
      ? this.#takeTotp(id, key, token, address)
      : await this.#takeJwt(id, key, token);
    if (good) return undefined;
    this.#byPlace.fail(here, now);
    if (isTotp) this.#byCode.fail(id, now);
    return "bad_token";
  }

  /** Forgets the tokens that have expired. */
  sweep(): void {
    const now = Date.now();
    this.#byPlace.sweep(performance.now());
    this.#byCode.sweep(performance.now());
    for (const [name, { until }] of this.#used) {
      if (until < now) this.#used.delete(name);
    }
  }

  /** A `jti` is good once, ever. */
  async #takeJwt(id: string, key: Uint8Array, token: string): Promise<boolean> {
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
      return false;
    }
    const { iat, exp, jti } = claims;
    const now = Date.now() / 1000;
    if (iat === undefined || exp === undefined || typeof jti !== "string")
      return false;
    if (jti === "" || jti.length > MAX_JTI_LENGTH) return false;
    if (exp - iat > MAX_TOKEN_SECONDS || iat > now + CLOCK_SKEW_SECONDS)
      return false;
    return this.#use(
      `jwt ${id} ${jti}`,
      (exp + CLOCK_SKEW_SECONDS) * 1000,
      undefined,
    );
  }

  /** A code is good again only from the address that used it first, for a legacy server parks a pool of tunnels with one. */
  #takeTotp(
    id: string,
    key: Uint8Array,
    token: string,
    address: string,
  ): boolean {
    const digits = token.length === 6 ? 6 : token.length === 7 ? 7 : 8;
    const result = verifySync({
      secret: key,
      token,
      digits,
      period: TOTP_STEP_SECONDS,
      epochTolerance: TOTP_STEP_SECONDS,
    });
    if (!result.valid || !("timeStep" in result)) return false;
    return this.#use(
      `totp ${id} ${String(result.timeStep)}`,
      (result.timeStep + 2) * TOTP_STEP_SECONDS * 1000,
      address,
    );
  }

  #use(name: string, until: number, address: string | undefined): boolean {
    const used = this.#used.get(name);
    if (used !== undefined)
      return address !== undefined && used.address === address;
    this.#used.set(name, { until, address });
    return true;
  }
}
