// What `rendezvous help`, `--help` and the relay's `--help` print.
import { DEFAULT_PORT } from "../config.ts";

/** The text on a topic; the overview where there is none. */
export function help(topic = ""): string {
  return (Object.hasOwn(HELP, topic) ? HELP[topic] : HELP[""]) ?? "";
}

/** The same for the relay, which has no flags of its own. */
export const RELAY_HELP = `npm start: the relay

    PORT=8080 RELAY_SECRET=... npm start

Settings are environment variables, or lines of a file .env here. .env.example has all of them, with their defaults.
It listens on PORT (${String(DEFAULT_PORT)}). README.md says how to deploy it, to issue ids and to park.`;

const HELP: Readonly<Record<string, string>> = {
  "": `rendezvous: reach a server behind NAT through a relay

    rendezvous issue ID --relay https://relay.example.com        make the secret of an id
    rendezvous park https://ID:SECRET@relay.example.com 8080     serve localhost:8080 through the relay
    rendezvous share https://relay.example.com/?rendezvous=ID    a link that lets into a private server
    rendezvous dial https://relay.example.com ID 22              stdin and stdout to port 22 of ID, for ssh and scripts
    rendezvous doctor https://relay.example.com                  what gets through to the relay

\`npx rendezvous help issue\`, \`help park\`, \`help share\`, \`help dial\` and \`help doctor\` say more.`,

  issue: `rendezvous issue ID [--relay URL] [--json]

    RELAY_SECRET=... rendezvous issue pi --relay https://relay.example.com

Prints the secret of an id, the agent's command line, the visitor's URL, and a URI for an authenticator app.
Needs the relay's secret in RELAY_SECRET or in the file that RELAY_SECRET_FILE names; asks nobody else.
REVOKED and REVOKED_FILE, as the relay has them, tell which generation of the secret is good.

    --relay URL   the relay's URL (default: PUBLIC_URL, or http://localhost:PORT)
    --json        {"id","secret","url","visit","otpauth"} on one line`,

  park: `rendezvous park URL SERVICE [options]

    rendezvous park https://pi:SECRET@relay.example.com 8080
    RENDEZVOUS_URL=https://pi:SECRET@relay.example.com rendezvous park db.lan:8080

Serves a local HTTP service through the relay until it is stopped. SERVICE is a port, host:port or http://host:port.

    --tcp PORT[=HOST:PORT]
                         offer a TCP service too, or instead of SERVICE; may be given several times:
                         --tcp 22, --tcp 5432=db.lan:5432; without SERVICE, --tcp 80 takes HTTP visits
    --private            let in only visitors with a grant, as \`rendezvous share\` makes it
    --secret-file FILE   read the secret here instead of from the URL (or RENDEZVOUS_SECRET_FILE)
    --spare N            idle tunnels to keep parked (4)
    --max N              tunnels in all (64)
    --via WAY            connect, upgrade or websocket (default: the best that gets through)
    --ca FILE            trust the certificates in this PEM file
    --verbose            a line for each request

HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured: a proxy that lets CONNECT through is enough.
\`npx rendezvous doctor\` tells what gets through to a relay.`,

  share: `rendezvous share URL [options]

    rendezvous share 'https://relay.example.com/?rendezvous=pi' --path /photos/ --methods GET,HEAD --expires 2h --secret-file pi.secret
    RENDEZVOUS_URL=https://pi:SECRET@relay.example.com rendezvous share 'https://relay.example.com/?rendezvous=pi' --ports 22

Makes a link that lets whoever has it into a server that parks with --private. Asks nobody: the id's secret is enough.
URL is the visitor's, as \`rendezvous issue\` prints it. The secret comes from where park takes it, or from .env.
Without --path, --methods and --ports the link allows everything; with some of them, nothing else.

    --path PATH          HTTP: this path and what is below it
    --methods LIST       HTTP: these methods, like GET,HEAD
    --ports LIST         TCP: these ports, like 22,5432; 80 is the web server, past --path and --methods
    --expires SPAN       30s, 10m, 2h or 7d, a year at most (24h)
    --uses N             so many openings; a browser that has opened it may go on
    --secret-file FILE   read the secret here (or RENDEZVOUS_SECRET_FILE)
    --qr                 the QR code even if the output is no terminal
    --json               {"link","grant","id","until",...} on one line

A link ends by itself, or with the secret: REVOKED at the relay. Exit codes: 0 made, 2 wrong usage.`,

  dial: `rendezvous dial RELAY ID PORT [options]

    ssh -o ProxyCommand='rendezvous dial https://relay.example.com %h %p' user@pi
    rendezvous dial https://relay.example.com pi 5432 --listen 127.0.0.1:5432

Reaches a TCP port that the agent of ID offers: over stdin and stdout, or on a local port for many connections.

    --listen [HOST:]PORT listen there, and dial for each connection; port 0 is any free one
    --grant GRANT        for a private server: a grant, or the link with it (or RENDEZVOUS_GRANT, or the link instead of RELAY)
    --via WAY            connect, upgrade or websocket (default: the best that gets through)
    --ca FILE            trust the certificates in this PEM file
    --verbose            say by which way, and why by no better one

Exit codes: 0 the stream ended, 1 it was cut or cannot be written to stdout, 2 wrong usage, 3 the relay or the agent refused, 4 the relay cannot be reached.`,

  doctor: `rendezvous doctor [URL] [options]

    rendezvous doctor https://relay.example.com
    rendezvous doctor https://pi:SECRET@relay.example.com --idle 60

Tells what gets through to a relay: the ways to dial, and with an id and its secret the ways to park, round trip, streams,
large heads, clocks, and what agent and dial will use. The first thing to run when something fails. URL is RENDEZVOUS_URL if left out.

    --idle SECONDS       keep a silent stream open for so long by each way that works, and say when it was cut
    --secret-file FILE   read the secret here instead of from the URL (or RENDEZVOUS_SECRET_FILE)
    --ca FILE            trust the certificates in this PEM file
    --json               all of it as one document: {"relay","outcome","use","dial","park","checks":{...}}

HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured. It takes 15 s at most, and the seconds of --idle.
Exit codes: 0 a way works (to dial, and to park where that is tested), 2 wrong usage, 3 refused, or no way works, 4 the relay cannot be reached.`,
};
