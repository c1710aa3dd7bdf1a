// Requests that leave this machine: directly or through the proxy that the environment names, plainly or over TLS.
import {
  Agent as HttpAgent,
  request as httpRequest,
  type Agent,
  type ClientRequest,
} from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import {
  checkServerIdentity,
  type ConnectionOptions,
  type PeerCertificate,
} from "node:tls";
import { HttpProxyAgent } from "http-proxy-agent";
import { HttpsProxyAgent } from "https-proxy-agent";
import { getProxyForUrl } from "proxy-from-env";

export interface Address {
  readonly url: URL;
  /** Certificates to trust instead of the well-known ones, in PEM. */
  readonly ca?: string | undefined;
}

export interface Outbound {
  readonly method: string;
  /** The request target, in whatever form. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * What http.request and ws need to reach an address. A proxy is asked by CONNECT even for http:, for it would take
 * our own CONNECTs for itself, and many drop an Upgrade; `plainly` is the other way, the request in absolute form.
 */
export function outboundOptions(
  { url, ca }: Address,
  plainly: boolean,
): { agent: Agent } & ConnectionOptions {
  const proxy = proxyFor(url);
  const secure = url.protocol === "https:";
  const agent = makeAgent(proxy, secure, plainly);
  if (!secure) return { agent };
  const host = hostOf(url);
  return {
    agent,
    // The upgrades of HTTP/1.1 do not exist in HTTP/2.
    ALPNProtocols: ["http/1.1"],
    // An address is no server name (RFC 6066 3), but the certificate must be for it all the same, behind a proxy too.
    ...(isIP(host) === 0 ? { servername: host } : {}),
    checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
      checkServerIdentity(host, certificate),
    ...(ca === undefined ? {} : { ca }),
  };
}

/** Where a redirect leads that may be followed with a secret: from http to https on the same host. */
export function securedBy(
  location: string | undefined,
  { url, ca }: Address,
): Address | undefined {
  if (url.protocol !== "http:" || location === undefined) return undefined;
  if (!URL.canParse(location, url.href)) return undefined;
  const to = new URL(location, url.href);
  return to.protocol === "https:" && to.hostname === url.hostname
    ? { url: new URL(to.origin), ca }
    : undefined;
}

/** Whether there is a proxy that may be asked without CONNECT. */
export function canGoPlainly({ url }: Address): boolean {
  return url.protocol === "http:" && proxyFor(url) !== "";
}

function makeAgent(proxy: string, secure: boolean, plainly: boolean): Agent {
  if (proxy !== "")
    return plainly ? new HttpProxyAgent(proxy) : new HttpsProxyAgent(proxy);
  return secure ? new HttpsAgent() : new HttpAgent();
}

/** The proxy on the way to an address, as people may see it: without a login. */
export function proxyName({ url }: Address): string | undefined {
  const proxy = proxyFor(url);
  return proxy === "" ? undefined : new URL(proxy).origin;
}

/** Begins a request; the caller ends it. */
export function openRequest(
  address: Address,
  outbound: Outbound,
  plainly: boolean,
): ClientRequest {
  const { url } = address;
  const options = {
    ...outbound,
    ...outboundOptions(address, plainly),
    host: hostOf(url),
    port: portOf(url),
    headers: { Host: url.host, ...outbound.headers },
  };
  return url.protocol === "https:"
    ? httpsRequest(options)
    : httpRequest(options);
}

/**
 * The proxy on the way to a URL that the environment names, or an empty text.
 * @throws RangeError for a proxy that cannot be spoken to
 */
export function proxyFor(url: URL): string {
  const proxy = getProxyForUrl(url.href);
  if (proxy === "" || (/^https?:/i.test(proxy) && URL.canParse(proxy)))
    return proxy;
  throw new RangeError(
    "the proxy that the environment names is not a URL of http or https",
  );
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, "$1");
}

function portOf(url: URL): number {
  if (url.port !== "") return Number(url.port);
  return url.protocol === "https:" ? 443 : 80;
}
