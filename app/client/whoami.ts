// What a relay says of itself and of whoever asks, and what is to be thought of it.
import type { Answer } from "./ask.ts";
import type { Finding } from "./finding.ts";

/** What the clocks may differ by where a code, or a JWT, is to be taken. */
const TOTP_SECONDS = 30;
const JWT_SECONDS = 60;

/** The page `/-/whoami` (PROTOCOL.md, section 7). */
export interface Whoami {
  readonly version: string;
  readonly address: string;
  readonly proto: string;
  readonly host: string;
  /** Entries of X-Forwarded-For that came, and how many of them TRUST_PROXY counts. */
  readonly forwarded: number;
  readonly trusted: number;
  /** Milliseconds of the relay's clock. */
  readonly now: number;
}

/** The page, or undefined where the answer is anything else. */
export function readWhoami({ status, text }: Answer): Whoami | undefined {
  if (status !== 200) return undefined;
  try {
    const { relay, ...page } = JSON.parse(text) as Readonly<
      Record<keyof Whoami | "relay", unknown>
    >;
    const { version, address, proto, host, forwarded, trusted, now } = page;
    return relay === "rendezvous" &&
      typeof version === "string" &&
      typeof address === "string" &&
      typeof proto === "string" &&
      typeof host === "string" &&
      typeof forwarded === "number" &&
      typeof trusted === "number" &&
      typeof now === "number"
      ? { version, address, proto, host, forwarded, trusted, now }
      : undefined;
  } catch {
    return undefined;
  }
}

/** How far the relay's clock is from this one. */
export function clockFinding(
  { leftAt, cameAt }: Answer,
  { now }: Whoami,
): Finding {
  const seconds = Number(((now - (leftAt + cameAt) / 2) / 1000).toFixed(1));
  const apart = Math.abs(seconds);
  // Nobody knows which way took how long.
  const unsure = 1 + (cameAt - leftAt) / 2000;
  const which = seconds > 0 ? "ahead of" : "behind";
  const words =
    apart < unsure
      ? "the same as here"
      : `the relay's is ${String(apart)} s ${which} this one`;
  const harm =
    apart > JWT_SECONDS
      ? "agents are refused; set the clocks"
      : apart > TOTP_SECONDS
        ? "codes (TOTP) are refused; set the clocks"
        : `a code (TOTP) bears ${String(TOTP_SECONDS)} s, an agent ${String(JWT_SECONDS)} s`;
  return {
    check: "clock",
    mark: apart > TOTP_SECONDS ? "warn" : "ok",
    words: `${words}; ${harm}`,
    facts: { secondsAhead: seconds },
  };
}

/** Whom the relay takes us for, and what TRUST_PROXY has to do with it. */
export function visitorFinding(url: URL, whoami: Whoami): Finding {
  const { address, proto, host, forwarded, trusted } = whoami;
  const facts = { address, proto, host, forwarded, trusted };
  const seen = `${address} by ${proto}`;
  const problem = problemOf(url, whoami);
  return {
    check: "visitor",
    mark: problem === undefined ? "ok" : "warn",
    words: `the relay sees ${seen}${problem ?? ""}`,
    facts,
  };
}

/** What is wrong, and what helps; undefined where all is well. */
function problemOf(
  url: URL,
  { proto, host, forwarded, trusted }: Whoami,
): string | undefined {
  const came = `${String(forwarded)} X-Forwarded-For ${forwarded === 1 ? "entry" : "entries"} came, and TRUST_PROXY is ${String(trusted)}`;
  if (trusted > forwarded)
    return `: ${came}, so that anybody may choose his address; let the router write X-Forwarded-For, or set TRUST_PROXY to ${String(forwarded)}`;
  if (`${proto}:` !== url.protocol)
    return `, but the URL is ${url.protocol.slice(0, -1)}: ${
      trusted === 0
        ? `${came}; set TRUST_PROXY to the number of routers in front, or PUBLIC_URL to what visitors use`
        : "the router does not say it in X-Forwarded-Proto"
    }`;
  if (trusted === 0 && forwarded > 0)
    return `: ${came}, so that this is the router's address; set it to the number of routers in front`;
  if (host.toLowerCase() !== url.host)
    return `, but Host came as ${host}: let the router pass it on, or set PUBLIC_URL`;
  return undefined;
}
