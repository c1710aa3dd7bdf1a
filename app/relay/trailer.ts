// What goes on of a trailer section: nothing that is written, removed or judged in a head, for some readers put trailers among the fields of the head (RFC 9110 6.5.1).
import { OVERRIDES } from "./grants.ts";
import { isForSharedCaches } from "./heads.ts";

/** Routing, logins, controls and what says how to read the body. Those that frame are refused, and not here. */
const HEAD_ONLY = new Set([
  ...["connection", "keep-alive", "proxy-connection"],
  ...["te", "trailer", "upgrade"],
  ...["forwarded", "via"],
  ...["authorization", "www-authenticate", "cookie", "set-cookie"],
  ...["proxy-authorization", "proxy-authenticate", "referer"],
  ...["expect", "max-forwards", "range", "if-range"],
  ...["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
  ...["age", "cache-control", "expires", "pragma", "vary", "warning"],
  ...["location", "retry-after", "referrer-policy"],
  ...["content-encoding", "content-range", "content-type"],
  ...["x-accel-redirect", "x-sendfile", "x-lighttpd-send-file"],
  "x-reproxy-url",
]);

/** Whether a field goes on as a trailer, in a message whose Connection names `hops`. */
export function goesOnIn(hops: readonly string[]): (name: string) => boolean {
  return function goesOn(name) {
    const lower = name.toLowerCase();
    // CGI and WSGI take `_` and `-` for the same.
    const plain = lower.replaceAll("_", "-");
    return !(
      hops.includes(lower) ||
      HEAD_ONLY.has(plain) ||
      OVERRIDES.has(plain) ||
      isForSharedCaches(plain) ||
      plain.startsWith("x-forwarded-") ||
      plain.startsWith("rendezvous-")
    );
  };
}
