// `rendezvous share`: a link that lets into a private server. It asks nobody: the id's secret is all that it takes.
import process from "node:process";
import qrcode from "qrcode";
import { GRANT_PARAMETER, makeGrant, type Grant } from "../grant.ts";
import { relayOf } from "../protocol.ts";
import { complain, say, sayJson } from "./print.ts";
import type { ShareCommand } from "../command/share.ts";

export function runShare(command: ShareCommand): void {
  const { visit, id, query, secret, limits, json } = command;
  const { token, grant } = makeGrant(id, secret, limits);
  const mark = visit.search === "" ? "?" : "&";
  const link = `${visit.href}${mark}${GRANT_PARAMETER}=${token}`;
  if (json) {
    const { exp, path, methods, ports, uses } = grant;
    const until = new Date(exp * 1000);
    sayJson({ link, grant: token, id, until, path, methods, ports, uses });
    return;
  }
  say(link);
  console.log();
  say(
    `${sentenceOf(grant)} It cannot be taken back alone: the relay's owner ends all links of ${id}, and its secret, by REVOKED_FILE.`,
  );
  if (query !== undefined)
    say(
      `The host name ${visit.hostname} names ${id}. If that host is the relay itself, add what names the id, ${query}, to the URL.`,
    );
  for (const line of usageOf(link, token, visit, grant)) say(line);
  if (command.qr || process.stdout.isTTY) void showCode(link);
}

/** What a grant allows, and how long. */
function sentenceOf({ sub, exp, path, methods, ports, uses }: Grant): string {
  const isOpen =
    path === undefined && methods === undefined && ports === undefined;
  const hasHttp = path !== undefined || methods !== undefined;
  const allowed = [
    ...(isOpen ? [`everything that ${sub} offers`] : []),
    ...(hasHttp
      ? [`${methods?.join(", ") ?? "HTTP"} of ${path ?? "/"} at ${sub}`]
      : []),
    ...(ports === undefined
      ? []
      : [
          `${ports.length === 1 ? "port" : "ports"} ${ports.join(", ")} of ${sub}`,
        ]),
  ].join(", and ");
  const often =
    uses === undefined
      ? ""
      : `, ${String(uses)} ${uses === 1 ? "time" : "times"} (a preview in a chat counts too, and a relay that restarts begins anew)`;
  return `It allows ${allowed}${often}, until ${new Date(exp * 1000).toUTCString()}.`;
}

function usageOf(
  link: string,
  token: string,
  visit: URL,
  { sub, ports, path, methods }: Grant,
): string[] {
  const hasHttp =
    ports === undefined || path !== undefined || methods !== undefined;
  const [port] = ports ?? [];
  const relay = relayOf(visit, sub).origin;
  return [
    ...(hasHttp ? ["", "Visit with a browser, or:", `    curl '${link}'`] : []),
    ...(port === undefined
      ? []
      : [
          "",
          `Reach port ${String(port)}:`,
          port === 22
            ? `    RENDEZVOUS_GRANT=${token} ssh -o ProxyCommand='npx rendezvous dial ${relay} %h %p' user@${sub}`
            : `    RENDEZVOUS_GRANT=${token} npx rendezvous dial ${relay} ${sub} ${String(port)} --listen ${String(port)}`,
        ]),
  ];
}

/** For phones. A terminal is told its colours, whatever they are; elsewhere there are none. */
async function showCode(link: string): Promise<void> {
  const options = process.stdout.isTTY
    ? ({ type: "terminal", small: true } as const)
    : ({ type: "utf8" } as const);
  try {
    const code = await qrcode.toString(link, {
      ...options,
      errorCorrectionLevel: "L",
    });
    console.log(`\n${code}`);
  } catch {
    complain(
      "The link is too long for a QR code. Fewer methods or ports make it shorter.",
    );
  }
}
