// Meetings of the generic protocol: who may meet whom, by which cookies and at which places. State only: nobody is spoken to here.
import { randomUUID } from "node:crypto";
import type { Visa } from "./grants.ts";
import { Places } from "./places.ts";
import type { Owner, Tunnel } from "./tunnel.ts";

/** How long a meeting lives that nobody uses. */
const IDLE_MILLISECONDS = 60 * 60 * 1000;
/** Look-ups that one id remembers; the oldest cookie goes first. */
const MAX_INITIATORS = 1024;
/** The same of one network, which pushes only its own out. */
const MAX_INITIATORS_PER_NETWORK = 64;

/** Who has looked an id up. */
export interface Initiator {
  readonly network: string;
  /** The grant that was wanted of him, where the server was private. */
  readonly visa: Visa | undefined;
}

/** What two sides need to meet. Meetings alone changes it. */
export interface Meeting {
  readonly id: string;
  /** That of the id when it was registered or parked; a meeting of another one is over. */
  readonly generation: number;
  /** The `host:port` that was handed out to the responder, for the CONNECT that comes to it, and his network; undefined as `responder`. */
  readonly place: Readonly<{ authority: string; network: string }> | undefined;
  /** The responder's cookie; undefined when the server is parked by CONNECT. */
  readonly responder: string | undefined;
  /** Cookies of those who looked the id up, oldest first. A cookie that was used is taken out. */
  readonly initiators: Map<string, Initiator>;
  /** The responder that waits; its own end takes it out of the lot. */
  waiting: Tunnel | undefined;
  usedAt: number;
}

export class Meetings {
  /** Meetings by id: the last registration wins. sweep() removes what is idle. */
  readonly #meetings = new Map<string, Meeting>();
  /** Where initiators come: who looks up may know the relay by another name than the responder. */
  readonly #places = new Places();

  /** Whether either side may come to this `host:port`; from this network, where one is given. */
  isAt(authority: string, network: string | undefined): boolean {
    const wanted = authority.toLowerCase();
    if (this.#places.has(wanted, network)) return true;
    const meeting = this.#find(
      ({ place }) =>
        place?.authority === wanted &&
        (network === undefined || place.network === network),
    );
    return meeting !== undefined;
  }

  /** The meeting of an id, as it was registered or looked up last. */
  of(id: string): Meeting | undefined {
    return this.#meetings.get(id);
  }

  ofResponder(cookie: string): Meeting | undefined {
    return this.#find(({ responder }) => responder === cookie);
  }

  ofInitiator(cookie: string): Meeting | undefined {
    return this.#find(({ initiators }) => initiators.has(cookie));
  }

  /** Puts a new meeting in the place of the former one, whose cookies die; gives the responder's cookie. */
  register({ id, generation }: Owner, place: Meeting["place"]): string {
    const cookie = randomUUID();
    this.#open(id, generation, place, cookie);
    return cookie;
  }

  /**
   * Gives an initiator's cookie; undefined for an id that nobody has registered, and whose server is not parked by CONNECT either.
   * `parked` is the generation of the one that is.
   */
  lookUp(
    id: string,
    place: string,
    parked: number | undefined,
    initiator: Initiator,
  ): string | undefined {
    const meeting =
      this.of(id) ??
      (parked === undefined
        ? undefined
        : this.#open(id, parked, undefined, undefined));
    if (meeting === undefined) return undefined;
    meeting.usedAt = performance.now();
    this.#places.add(place, initiator.network);
    const cookie = randomUUID();
    meeting.initiators.set(cookie, initiator);
    const own = [...meeting.initiators].filter(
      ([, { network }]) => network === initiator.network,
    );
    const [oldest] = own.length > MAX_INITIATORS_PER_NETWORK ? own : [];
    if (oldest !== undefined) meeting.initiators.delete(oldest[0]);
    forgetOldest(meeting.initiators, MAX_INITIATORS);
    return cookie;
  }

  /** A responder has come to wait. */
  seat(meeting: Meeting, responder: Tunnel): void {
    meeting.usedAt = performance.now();
    meeting.waiting = responder;
  }

  /** An initiator has met his responder: his cookie is used. */
  spend(meeting: Meeting, cookie: string): void {
    meeting.usedAt = performance.now();
    meeting.initiators.delete(cookie);
  }

  /** Ends the meeting of an id: its cookies die. */
  end({ id }: Meeting): void {
    this.#meetings.delete(id);
  }

  /** Every meeting. */
  all(): Meeting[] {
    return [...this.#meetings.values()];
  }

  /** Forgets what nobody uses. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const { id, usedAt } of this.#meetings.values())
      if (now - usedAt > IDLE_MILLISECONDS) this.#meetings.delete(id);
    this.#places.sweep(now);
  }

  #open(
    id: string,
    generation: number,
    place: Meeting["place"],
    responder: string | undefined,
  ): Meeting {
    const meeting: Meeting = {
      id,
      generation,
      place,
      responder,
      initiators: new Map(),
      waiting: undefined,
      usedAt: performance.now(),
    };
    this.#meetings.set(id, meeting);
    return meeting;
  }

  #find(matches: (meeting: Meeting) => boolean): Meeting | undefined {
    for (const meeting of this.#meetings.values())
      if (matches(meeting)) return meeting;
    return undefined;
  }
}

/** Takes out what was put in first, until no more than `max` are left. */
function forgetOldest(kept: Map<string, unknown>, max: number): void {
  for (const oldest of kept.keys()) {
    if (kept.size <= max) break;
    kept.delete(oldest);
  }
}
