// Grants as visitors show them: taken out of a request before anything else looks at it, checked where the server is private, and counted.
//   ?grant=GRANT    Authorization: Bearer GRANT    Proxy-Authorization: Bearer or Basic    Cookie: rendezvous-grant-ID=...
import type { FailureCode } from "../errors.ts";
import {
  GRANT,
  GRANT_COOKIE,
  GRANT_PARAMETER,
  UNKNOWN,
  grantTypeOf,
  readGrant,
  signCookie,
  whyNot,
  type Grant,
  type Wanted,
} from "../grant.ts";
import type { RequestHead } from "../wire/head.ts";
import { copyOf } from "./copy.ts";
import { decode } from "./naming.ts";

/** In one kind of place; whoever shows more is trying. */
const MAX_SHOWN = 8;
/** Grants whose uses are counted. One owner must not take the places of all others. */
const MAX_COUNTED = 100_000;
const MAX_COUNTED_PER_SERVER = 1000;
/** Counts live for hours: forgetting them is not urgent. */
const SWEEP_MILLISECONDS = 10 * 1000;

/** Fields that some servers take for the path or the method, or for a second path (RFC 4918 10.3); they would lead past a grant. */
export const OVERRIDES = new Set([
  "destination",
  "x-original-url",
  "x-rewrite-url",
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
]);

/** Where a grant stood. */
type Place = "query" | "field" | "cookie";

interface Shown {
  readonly place: Place;
  readonly token: string;
  /** The server that a cookie's name is for: those of others say nothing here. */
  readonly id?: string;
}

/** Why a visitor may not come in. */
export interface Denial {
  readonly code: FailureCode;
  readonly detail?: string;
}

/** How often a grant was used, and when it ends: milliseconds since 1970. */
interface Count {
  used: number;
  readonly until: number;
}

/** Reads grants for one relay. It remembers how often those were used that may be used so often only. */
export class Grants {
  readonly #keyOf: (id: string) => Uint8Array | undefined;
  readonly #prefix: string;
  /** By id, then by `jti`. sweep() removes what has expired. */
  readonly #counts = new Map<string, Map<string, Count>>();
  #counted = 0;
  #sweptAt = performance.now();

  /** `keyOf` gives the secret of an id as long as the id has one; `parameter` is what the relay's cookies begin with. */
  constructor(
    keyOf: (id: string) => Uint8Array | undefined,
    parameter: string,
  ) {
    this.#keyOf = keyOf;
    this.#prefix = cookiePrefix(parameter);
  }

  /** A request without the grants in it, and what they allow its sender. */
  take(request: RequestHead): { request: RequestHead; visa: Visa } {
    const shown: Shown[] = [];
    const plain = withoutGrants(request, this.#prefix, shown);
    return {
      request: plain,
      visa: new Visa(
        this,
        shown,
        shown.length > 0 && hasOverride(request.fields),
      ),
    };
  }

  /** The grant that a token is, if this relay vouches for it now. */
  read({ place, token }: Shown): Grant | undefined {
    return readGrant(
      place === "cookie" ? GRANT_COOKIE : GRANT,
      token,
      this.#keyOf,
    );
  }

  /** Why a grant may not be used once more; undefined when it may. */
  usedUp({ sub, jti, uses }: Grant): string | undefined {
    if (uses === undefined) return undefined;
    const used = this.#counts.get(sub)?.get(jti)?.used;
    if (used !== undefined)
      return used < uses ? undefined : "it has been used as often as it may";
    const own = this.#counts.get(sub)?.size ?? 0;
    return own < MAX_COUNTED_PER_SERVER && this.#counted < MAX_COUNTED
      ? undefined
      : "too many grants are counted here; try again later, or with one that is not counted";
  }

  /** Counts one use more. */
  use({ sub, jti, uses, exp }: Grant): void {
    if (uses === undefined) return;
    const counts = this.#counts.get(sub) ?? new Map<string, Count>();
    this.#counts.set(sub, counts);
    const count = counts.get(jti) ?? { used: 0, until: exp * 1000 };
    if (count.used++ === 0) this.#counted++;
    counts.set(jti, count);
  }

  /** The Set-Cookie that stands for a grant in one browser: it allows the same, as long, and is nothing outside a cookie. */
  cookieFor(grant: Grant, secure: boolean): string | undefined {
    const key = this.#keyOf(grant.sub);
    if (key === undefined) return undefined;
    const name = `${this.#prefix}${grant.sub}`;
    const token = signCookie(grant, key);
    const seconds = Math.max(0, grant.exp - Math.floor(Date.now() / 1000));
    return `${name}=${token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${String(seconds)}${secure ? "; Secure" : ""}`;
  }

  /** Forgets the counts of grants that have expired. `now` is of the monotonic clock. */
  sweep(now: number): void {
    if (now - this.#sweptAt < SWEEP_MILLISECONDS) return;
    this.#sweptAt = now;
    for (const [id, counts] of this.#counts) {
      for (const [jti, { until }] of counts) {
        if (until > Date.now()) continue;
        counts.delete(jti);
        this.#counted--;
      }
      if (counts.size === 0) this.#counts.delete(id);
    }
  }
}

/** What one request shows. Each question is answered anew, for time passes and secrets end while a visitor waits. */
export class Visa {
  readonly #grants: Grants;
  readonly #shown: readonly Shown[];
  /** A field of the request names another path or method. */
  readonly #strays: boolean;
  /** What has let the request in, so that it is not counted again for a second tunnel. */
  #entered: Shown | undefined;
  #until: number | undefined;

  constructor(
    grants: Grants,
    shown: readonly Shown[],
    strays: boolean,
    entered?: Shown,
  ) {
    this.#grants = grants;
    this.#shown = shown;
    this.#strays = strays;
    this.#entered = entered;
  }

  /** What has let the request in and nothing else, for whoever remembers it longer than the request. */
  get kept(): Visa {
    const entered = this.#entered;
    if (entered === undefined) return new Visa(this.#grants, [], false);
    const copy = { ...entered, token: copyOf(entered.token) };
    return new Visa(this.#grants, [copy], this.#strays, copy);
  }

  /** When the grant ends that has let the request in: milliseconds since 1970. */
  get until(): number | undefined {
    return this.#until;
  }

  /** A grant stood in the query, so that the address is a secret. */
  get inQuery(): boolean {
    return this.#shown.some(({ place }) => place === "query");
  }

  /** Why the request may not go to a private server; undefined when it may. */
  refuses(wanted: Wanted): Denial | undefined {
    return this.#find(wanted).denial;
  }

  /** The same for a request that goes now: it counts as a use. */
  enter(wanted: Wanted): Denial | undefined {
    const { denial, found, grant } = this.#find(wanted);
    if (grant !== undefined && found !== this.#entered) {
      this.#grants.use(grant);
      this.#entered = found;
    }
    if (grant !== undefined) this.#until = grant.exp * 1000;
    return denial;
  }

  /**
   * For a browser that opens a link: what takes the place of the grant in its address.
   * Nothing where no grant in the query is good; no `cookie` where the browser has it already.
   */
  open(
    wanted: Wanted,
    secure: boolean,
  ): { readonly cookie: string | undefined } | undefined {
    const good = this.#for(wanted.id).flatMap((shown) => {
      const grant = this.#grants.read(shown);
      return grant === undefined || this.#whyNot(grant, wanted) !== undefined
        ? []
        : [{ place: shown.place, grant }];
    });
    const cookies = good.filter(({ place }) => place === "cookie");
    for (const { place, grant } of good) {
      if (place !== "query") continue;
      if (cookies.some((cookie) => cookie.grant.jti === grant.jti))
        return { cookie: undefined };
      if (this.#grants.usedUp(grant) !== undefined) continue;
      this.#grants.use(grant);
      return { cookie: this.#grants.cookieFor(grant, secure) };
    }
    return undefined;
  }

  /** What may be meant for a server. Cookies first: they cost no use. */
  #for(id: string): Shown[] {
    const at = (place: Place): Shown[] =>
      this.#shown
        .filter((shown) => shown.place === place && (shown.id ?? id) === id)
        .slice(0, MAX_SHOWN);
    return [...at("cookie"), ...at("query"), ...at("field")];
  }

  /** The first grant that is good, or why the first of them is not. */
  #find(wanted: Wanted): { denial?: Denial; found?: Shown; grant?: Grant } {
    let reason: string | undefined;
    for (const found of this.#for(wanted.id)) {
      const grant = this.#grants.read(found);
      const why =
        grant === undefined
          ? UNKNOWN
          : (this.#whyNot(grant, wanted) ??
            (found === this.#entered ? undefined : this.#grants.usedUp(grant)));
      if (why === undefined && grant !== undefined) return { found, grant };
      // One that is known has more to say than one that is not.
      if (reason === undefined || reason === UNKNOWN) reason = why;
    }
    return reason === undefined
      ? { denial: { code: "grant_wanted" } }
      : { denial: { code: "grant_refused", detail: reason } };
  }

  #whyNot(grant: Grant, wanted: Wanted): string | undefined {
    const isLimited = grant.path !== undefined || grant.methods !== undefined;
    if (isLimited && "target" in wanted && this.#strays)
      return "a field of the request names another path or method";
    return whyNot(grant, wanted);
  }
}

/** What the names of the relay's cookies for grants begin with. */
export function cookiePrefix(parameter: string): string {
  return `${parameter}-grant-`;
}

/** A request without the grants in it, which are added to `shown`; the same one where there are none. */
function withoutGrants(
  request: RequestHead,
  prefix: string,
  shown: Shown[],
): RequestHead {
  const target = withoutParameter(request.target, (token) =>
    shown.push({ place: "query", token }),
  );
  let fields: string[] | undefined;
  for (let i = 0; i < request.fields.length; i += 2) {
    const name = request.fields[i] ?? "";
    const value = request.fields[i + 1] ?? "";
    const kept = isAsLong(name)
      ? withoutField(name.toLowerCase(), value, prefix, shown)
      : value;
    if (kept !== value) fields ??= request.fields.slice(0, i);
    if (kept !== undefined) fields?.push(name, kept);
  }
  if (fields === undefined && target === request.target) return request;
  return { ...request, target, fields: fields ?? request.fields };
}

/** As one of the fields below: most others are told apart by less than their names. */
function isAsLong({ length }: string): boolean {
  return length === 6 || length === 7 || length === 13 || length === 19;
}

/** The value of a field without the grants in it; undefined when nothing is left. */
function withoutField(
  name: string,
  value: string,
  prefix: string,
  shown: Shown[],
): string | undefined {
  switch (name) {
    case "authorization":
    case "proxy-authorization": {
      const tokens =
        bearersOf(value) ?? (name === "authorization" ? [] : passwordOf(value));
      const ours = tokens.filter((token) => grantTypeOf(token) !== undefined);
      for (const token of ours) shown.push({ place: "field", token });
      return ours.length > 0 ? undefined : value;
    }
    case "cookie":
      return withoutCookies(value, prefix, shown);
    case "referer":
      // Where he comes from says nothing about what he may do here.
      return withoutParameter(value, () => undefined);
    default:
      return value;
  }
}

/** The token of a Bearer login (RFC 6750); several, where somebody has joined several fields. */
function bearersOf(value: string): string[] | undefined {
  return /^bearer[ \t]/i.test(value)
    ? value.split(/[ \t,]+/).slice(1)
    : undefined;
}

/** The password of a Basic login (RFC 7617). */
function passwordOf(value: string): string[] {
  const credentials = /^basic +(\S+)$/i.exec(value)?.[1];
  if (credentials === undefined) return [];
  const login = Buffer.from(credentials, "base64").toString();
  return [login.slice(login.indexOf(":") + 1)];
}

/** A target or a URL without its grants; every other octet stays. */
function withoutParameter(
  target: string,
  taken: (token: string) => void,
): string {
  const mark = target.indexOf("?");
  if (mark < 0 || !/grant=|%/.test(target)) return target;
  const parts = target.slice(mark + 1).split("&");
  const kept = parts.filter((part) => {
    const equals = part.indexOf("=");
    if (equals < 0 || decode(part.slice(0, equals)) !== GRANT_PARAMETER)
      return true;
    const token = decode(part.slice(equals + 1));
    if (grantTypeOf(token) === undefined) return true;
    taken(token);
    return false;
  });
  if (kept.length === parts.length) return target;
  const path = target.slice(0, mark);
  return kept.length === 0 ? path : `${path}?${kept.join("&")}`;
}

function withoutCookies(
  value: string,
  prefix: string,
  shown: Shown[],
): string | undefined {
  if (!value.includes(prefix)) return value;
  const kept: string[] = [];
  for (const pair of value.split(";").map((text) => text.trim())) {
    const [name = "", token = ""] = pair.split("=", 2);
    if (!name.startsWith(prefix)) kept.push(pair);
    else
      shown.push({
        place: "cookie",
        token,
        id: name.slice(prefix.length).trimEnd(),
      });
  }
  return kept.length === 0 ? undefined : kept.join("; ");
}

/** CGI and WSGI take `_` and `-` for the same. */
function hasOverride(fields: readonly string[]): boolean {
  return fields.some(
    (name, i) =>
      i % 2 === 0 && OVERRIDES.has(name.toLowerCase().replaceAll("_", "-")),
  );
}
