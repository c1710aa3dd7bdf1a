// How the agent reaches its relay: directly or through a proxy, plainly or over TLS; and one attempt to park a tunnel there.
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import {
  AGENT_FIELD,
  HEARTBEAT_FIELD,
  PARK_SCHEME,
  VISIT_FIELD,
  makeToken,
} from "../protocol.ts";
import { openRequest, type Address } from "../wire/outbound.ts";

/** How long reaching the relay and its answer may take together. */
const PARK_MILLISECONDS = 15 * 1000;
/** How much of a refusal is read to say why. */
const MAX_REFUSAL_OCTETS = 16 * 1024;

export interface Identity {
  readonly id: string;
  readonly key: Uint8Array;
}

/** A tunnel that the relay has taken. */
export interface ParkedTunnel {
  readonly stream: Duplex;
  /** Octets that came with the answer. */
  readonly early: Buffer;
  readonly heartbeatSeconds: number;
  /** Where visitors come in. */
  readonly visit: URL;
}

/** Parking failed. `status` is the relay's answer, where one came. */
export class ParkError extends Error {
  override readonly name = "ParkError";
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
  }
}

/**
 * Parks one tunnel.
 * @throws ParkError with a sentence that says what stood in the way
 */
export async function parkOnce(
  relay: Address,
  { id, key }: Identity,
  version: string,
  signal: AbortSignal,
): Promise<ParkedTunnel> {
  const token = await makeToken(id, key);
  return new Promise((resolve, reject) => {
    const request = tryTo(() =>
      openRequest(relay, {
        method: "CONNECT",
        path: `${PARK_SCHEME}${id}`,
        headers: { Authorization: `Bearer ${token}`, [AGENT_FIELD]: version },
      }),
    );
    const deadline = setTimeout(() => {
      request.destroy(
        new ParkError(
          `${relay.url.host} did not answer within ${String(PARK_MILLISECONDS / 1000)} s`,
        ),
      );
    }, PARK_MILLISECONDS);
    const abort = (): void => {
      request.destroy(new ParkError("parking was stopped"));
    };
    const settle = (): void => {
      clearTimeout(deadline);
      signal.removeEventListener("abort", abort);
    };
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);

    let refuser = "the relay";
    request.on("proxyConnect", ({ statusCode }: { statusCode: number }) => {
      // What comes is the proxy's own answer then.
      if (statusCode !== 200) refuser = "the proxy on the way to the relay";
    });
    request.on("connect", (answer, stream, early) => {
      settle();
      // The stream has no owner until the caller takes it.
      stream.on("error", () => undefined);
      if (answer.statusCode === 200) {
        // Node would end this side with the other one, and lose what is still to be sent.
        stream.allowHalfOpen = true;
        resolve({ stream, early, ...readWelcome(answer, relay.url, id) });
        return;
      }
      readRefusal(refuser, answer, stream, early).then(reject, reject);
    });
    request.on("response", (answer) => {
      settle();
      answer.resume();
      request.destroy();
      reject(
        new ParkError(
          `${relay.url.host} answered ${String(answer.statusCode)}`,
          answer.statusCode,
        ),
      );
    });
    request.on("error", (error) => {
      settle();
      reject(
        error instanceof ParkError
          ? error
          : new ParkError(
              `${relay.url.host} cannot be reached: ${error.message}`,
            ),
      );
    });
    request.end();
  });
}

function readWelcome(
  answer: IncomingMessage,
  relay: URL,
  id: string,
): { heartbeatSeconds: number; visit: URL } {
  const heartbeat = Number(answer.headers[HEARTBEAT_FIELD.toLowerCase()]);
  const reference = answer.headers[VISIT_FIELD.toLowerCase()];
  const base = new URL(relay);
  base.username = base.password = "";
  return {
    heartbeatSeconds: heartbeat > 0 ? heartbeat : 25,
    visit:
      typeof reference === "string" && URL.canParse(reference, base.href)
        ? new URL(reference, base)
        : new URL(`/?rendezvous=${id}`, base),
  };
}

/** What cannot even be begun has failed like any other attempt. */
function tryTo(begin: () => ClientRequest): ClientRequest {
  try {
    return begin();
  } catch (error) {
    throw new ParkError(error instanceof Error ? error.message : String(error));
  }
}

/** What the relay, or a proxy before it, said, as far as it can be understood. */
async function readRefusal(
  refuser: string,
  answer: IncomingMessage,
  stream: Duplex,
  early: Buffer,
): Promise<ParkError> {
  const status = answer.statusCode ?? 0;
  let text = early.toString();
  const timer = setTimeout(() => stream.destroy(), PARK_MILLISECONDS);
  try {
    for await (const octets of stream) {
      text += String(octets);
      if (text.length > MAX_REFUSAL_OCTETS) break;
    }
  } catch {
    // What has come is enough.
  }
  clearTimeout(timer);
  stream.destroy();
  const detail = detailOf(text);
  return new ParkError(
    `${refuser} refused (${String(status)})${detail === undefined ? "" : `: ${detail}`}`,
    status,
  );
}

function detailOf(text: string): string | undefined {
  try {
    const problem: unknown = JSON.parse(text);
    if (
      typeof problem === "object" &&
      problem !== null &&
      "detail" in problem &&
      typeof problem.detail === "string"
    )
      return problem.detail;
  } catch {
    // Not one of ours.
  }
  return undefined;
}
