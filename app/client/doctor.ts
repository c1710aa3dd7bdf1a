// Looks at everything that stands between here and a relay: what gets through, and what agent and dial will use.
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { plainly } from "../cures.ts";
import { DIAL_WAYS, WAYS, type Way } from "../protocol.ts";
import { readProblem } from "../wire/refusal.ts";
import {
  canGoPlainly,
  proxyFor,
  securedBy,
  type Address,
} from "../wire/outbound.ts";
import { AskError, ask, type Answer, type Secured } from "./ask.ts";
import type { Finding } from "./finding.ts";
import {
  WHOAMI_PATH,
  measureDownload,
  measureHead,
  measureRoundTrip,
  measureSilence,
  measureUpload,
  openEcho,
  type Route,
} from "./measure.ts";
import {
  DEADLINES,
  refusalWords,
  textOf,
  tryWay,
  type Deadlines,
  type Result,
  type Told,
  type Trial,
} from "./trial.ts";
import {
  clockFinding,
  readWhoami,
  visitorFinding,
  type Whoami,
} from "./whoami.ts";

/** A certificate that ends sooner has not been renewed as it should. */
const CERTIFICATE_DAYS = 14;
const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

export interface DoctorOptions {
  readonly relay: Address;
  /** Parks by one way, with a credential, and lets go at once. Left out, parking is not tested. */
  readonly park?:
    ((way: Way, relay: Address, told: Told) => Promise<void>) | undefined;
  /** How long to keep a silent stream open by each way that works; left out, silence is not tested. */
  readonly idleSeconds?: number | undefined;
  readonly deadlines?: Deadlines | undefined;
}

/** What it comes to. */
export interface Conclusion {
  readonly outcome: "works" | "refused" | "unreachable";
  readonly words: string;
  /** The way that dial will use, and the agent's; undefined where there is none, or it was not tested. */
  readonly dial?: Way | undefined;
  readonly park?: Way | undefined;
}

/** Examines a relay. Findings are told as soon as they are there, in the order in which they are to be read. */
export async function diagnose(
  { relay, park, idleSeconds, deadlines = DEADLINES }: DoctorOptions,
  tell: (finding: Finding) => void,
): Promise<Conclusion> {
  const reached = await reach(relay, deadlines.answer, tell);
  if ("outcome" in reached) return reached;
  const { route, answer } = reached;
  const whoami = readWhoami(answer);
  tell(relayFinding(answer, whoami));

  const dialing = tryAll(deadlines, (way, told) =>
    proveDial(way, route.relay, told),
  );
  const parking =
    park === undefined
      ? undefined
      : tryAll(deadlines, (way, told) => park(way, route.relay, told));
  const measuring =
    whoami === undefined
      ? []
      : [measureDownload(route), measureUpload(route), measureHead(route)];
  const dialed = await tellAll("dial", dialing, tell);
  const parked =
    parking === undefined ? undefined : await tellAll("park", parking, tell);
  if (parked === undefined)
    tell(untried("park", "it takes https://ID:SECRET@relay.example.com"));

  const way = bestOf(DIAL_WAYS, dialed);
  const measured = await Promise.all(measuring);
  tell(
    way === undefined
      ? untried("round trip", "no way works")
      : await measureRoundTrip(way, route.relay),
  );
  for (const finding of measured) tell(finding);
  if (whoami !== undefined) {
    tell(clockFinding(answer, whoami));
    tell(visitorFinding(route.relay.url, whoami));
  }
  if (way === undefined) tell(untried("idle", "no way works"));
  else if (idleSeconds === undefined)
    tell(untried("idle", "--idle 60 tests a minute of silence"));
  else await tellSilences(dialed, route.relay, idleSeconds, tell);
  return conclude(dialed, parked);
}

function untried(check: string, words: string): Finding {
  return { check, mark: "-", words: `not tested: ${words}` };
}

/** The relay, by whatever leads there: name, connection, TLS, a redirect to https. */
async function reach(
  relay: Address,
  milliseconds: number,
  tell: (finding: Finding) => void,
  isRedirected = false,
): Promise<{ route: Route; answer: Answer } | Conclusion> {
  const { url } = relay;
  try {
    const proxy = proxyFor(url);
    if (proxy === "") tell(await resolveName(url, milliseconds));
    else tell(proxyFinding(new URL(proxy)));
    const { answer, plainly } = await askWhoami(relay, milliseconds);
    if (url.protocol === "https:") tell(tlsFinding(answer.secured));
    const secure = securedBy(answer.location, relay);
    if (secure === undefined || isRedirected)
      return { route: { relay, plainly }, answer };
    const words = `to ${secure.url.origin}, where agent and dial follow it`;
    tell({
      check: "redirect",
      mark: "ok",
      words,
      facts: { to: secure.url.origin },
    });
    return await reach(secure, milliseconds, tell, true);
  } catch (error) {
    const stage = error instanceof AskError ? error.stage : "address";
    const words = plainly(
      textOf(error instanceof AskError ? error.cause : error),
    );
    tell({ check: stage, mark: "no", words });
    return {
      outcome: "unreachable",
      words: `nothing is to be reached at ${url.host}: ${words}`,
    };
  }
}

async function resolveName(
  { hostname }: URL,
  milliseconds: number,
): Promise<Finding> {
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const check = "address";
  if (isIP(host) !== 0) return { check, mark: "ok", words: host };
  let giveUp: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    giveUp = setTimeout(() => {
      reject(new Error(`no name server says where ${host} is`));
    }, milliseconds);
  });
  try {
    const found = await Promise.race([lookup(host, { all: true }), late]);
    const addresses = found.map(({ address }) => address);
    return {
      check,
      mark: "ok",
      words: addresses.join(", "),
      facts: { addresses },
    };
  } finally {
    clearTimeout(giveUp);
  }
}

function proxyFinding({ protocol, host }: URL): Finding {
  return {
    check: "proxy",
    mark: "ok",
    words: `${protocol}//${host}, as the environment says`,
    facts: { proxy: `${protocol}//${host}` },
  };
}

/** A proxy that allows no CONNECT to a port may still pass ordinary requests on. */
async function askWhoami(
  relay: Address,
  milliseconds: number,
): Promise<{ answer: Answer; plainly: boolean }> {
  const asking = { path: WHOAMI_PATH, milliseconds };
  const answer = await ask(relay, { ...asking, plainly: false });
  if (!answer.byProxy || !canGoPlainly(relay))
    return { answer, plainly: false };
  return {
    answer: await ask(relay, { ...asking, plainly: true }),
    plainly: true,
  };
}

function tlsFinding(secured: Secured | undefined): Finding {
  const check = "TLS";
  if (secured === undefined)
    return {
      check,
      mark: "no",
      words: "the proxy has answered, not the relay",
    };
  const { protocol, name, until } = secured;
  if (Number.isNaN(until.getTime()))
    return { check, mark: "ok", words: protocol, facts: { protocol } };
  const days = Math.floor((until.getTime() - Date.now()) / DAY_MILLISECONDS);
  const date = until.toISOString().slice(0, 10);
  return {
    check,
    mark: days < CERTIFICATE_DAYS ? "warn" : "ok",
    words: `${protocol}; the certificate of ${name === "" ? "no name" : name} ends on ${date}, in ${String(days)} days`,
    facts: { protocol, certificate: name, until: until.toISOString(), days },
  };
}

function relayFinding(answer: Answer, whoami: Whoami | undefined): Finding {
  const check = "relay";
  if (whoami !== undefined) {
    const { version } = whoami;
    return {
      check,
      mark: "ok",
      words: `rendezvous ${version}`,
      facts: { version },
    };
  }
  const { status, server = null } = answer;
  const problem = readProblem(answer.text);
  const words = refusalWords({ ...answer, ...problem });
  return {
    check,
    mark: "no",
    words:
      problem.code === undefined
        ? `${words}: this is no rendezvous relay, or none gets our request`
        : words,
    facts: { status, server },
  };
}

type Trials = ReadonlyMap<Way, Trial>;

async function proveDial(way: Way, relay: Address, told: Told): Promise<void> {
  const pipe = await openEcho(way, relay, told);
  pipe.reset();
}

function tryAll(
  deadlines: Deadlines,
  go: (way: Way, told: Told) => Promise<void>,
): readonly (readonly [Way, Promise<Trial>])[] {
  return WAYS.map((way) => [way, tryWay((told) => go(way, told), deadlines)]);
}

async function tellAll(
  what: "dial" | "park",
  trials: readonly (readonly [Way, Promise<Trial>])[],
  tell: (finding: Finding) => void,
): Promise<Trials> {
  const done = new Map<Way, Trial>();
  for (const [way, trying] of trials) {
    const trial = await trying;
    done.set(way, trial);
    const isYes = trial.result === "yes";
    tell({
      check: `${what} ${way}`,
      mark: isYes ? "ok" : "no",
      words: shown(trial),
      facts: { ...trial },
    });
  }
  return done;
}

/** What is neither a yes nor a plain no says which it is. */
function shown({ result, words }: Trial): string {
  const named: readonly Result[] = ["half duplex", "hung"];
  return named.includes(result) ? `${result}: ${words}` : words;
}

async function tellSilences(
  trials: Trials,
  relay: Address,
  seconds: number,
  tell: (finding: Finding) => void,
): Promise<void> {
  const working = WAYS.filter((way) => trials.get(way)?.result === "yes");
  const silences = working.map((way) => measureSilence(way, relay, seconds));
  for (const finding of await Promise.all(silences)) tell(finding);
}

/** The first that works; who parks and who dials rank the ways differently. */
function bestOf(ranked: readonly Way[], trials: Trials): Way | undefined {
  return ranked.find((way) => trials.get(way)?.result === "yes");
}

/** What agent and dial will do: the same as they do themselves. */
function conclude(dialed: Trials, parked: Trials | undefined): Conclusion {
  const dial = bestOf(DIAL_WAYS, dialed);
  const park = parked === undefined ? undefined : bestOf(WAYS, parked);
  const isFine =
    dial !== undefined && (parked === undefined || park !== undefined);
  const outcome = isFine ? "works" : "refused";
  return { outcome, dial, park, words: wordsFor(dialed, parked) };
}

function wordsFor(dialed: Trials, parked: Trials | undefined): string {
  const dial = bestOf(DIAL_WAYS, dialed);
  const park = parked === undefined ? undefined : bestOf(WAYS, parked);
  const dials = told("dial", DIAL_WAYS, dialed);
  if (dial !== undefined && parked === undefined) {
    return `${dials}; for the agent's way give an id and its secret`;
  }
  const both = dial === undefined && park === undefined;
  if (parked === undefined || (both && !isDenied(parked)))
    return `no way gets through, neither for dial nor for the agent${isStripped(dialed) ? "; let the router in front pass Upgrade and Connection on" : ""}`;
  const parks = isDenied(parked)
    ? "the relay does not take this id and secret"
    : told("the agent", WAYS, parked);
  return `${parks}; ${dials}`;
}

/** The relay has got a request for an upgrade without what it is to be upgraded to. */
function isStripped(trials: Trials): boolean {
  return [...trials.values()].some(({ code }) => code === "upgrade_wanted");
}

/** The relay itself has refused the credential. */
function isDenied(parked: Trials): boolean {
  return [...parked.values()].some(({ code }) => code === "bad_token");
}

function told(who: string, ranked: readonly Way[], trials: Trials): string {
  const way = bestOf(ranked, trials);
  return way === undefined
    ? `no way gets through for ${who}`
    : `${who} will use ${way}${whyNot(ranked, trials, way)}`;
}

/** Why not a better way. */
function whyNot(ranked: readonly Way[], trials: Trials, taken: Way): string {
  const reasons = ranked.slice(0, ranked.indexOf(taken)).flatMap((way) => {
    const trial = trials.get(way);
    return trial === undefined ? [] : [`${way}: ${shown(trial)}`];
  });
  return reasons.length === 0 ? "" : ` (${reasons.join("; ")})`;
}
