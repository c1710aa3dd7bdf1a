// A TCP stream in capsules on a link: half-close survives every router, and a stream that was cut does not look like one that ended.
import {
  CapsuleReader,
  DATA,
  MalformedCapsule,
  capsuleHeader,
  finalCapsule,
  heartbeat,
} from "./capsule.ts";
import type { Link, Receiver } from "./link.ts";
import type { BeatingPipe } from "./pipe.ts";

export class CapsulePipe implements BeatingPipe {
  receiver: Receiver;
  received = 0;
  sent = 0;
  heardAt = performance.now();
  sentAt = performance.now();
  over = false;
  readonly #link: Link;
  readonly #reader: CapsuleReader;
  /** The other side has sent an empty DATA capsule, or is known to. */
  #beats: boolean;
  paused = false;
  #ended = false;
  #endTold = false;

  /** From now on the link's octets are capsules; `receiver` takes what is in them. */
  constructor(link: Link, receiver: Receiver, beats: boolean) {
    this.#link = link;
    this.receiver = receiver;
    this.#beats = beats;
    this.#reader = new CapsuleReader((octets) => {
      this.received += octets.length;
      this.receiver.data(octets);
    });
    link.receiver = {
      data: (octets) => {
        this.#read(octets);
      },
      end: () => {
        // Without FINAL_DATA before it this is no end but a cut.
        if (!this.#endTold) link.reset();
      },
      drain: () => {
        this.receiver.drain();
      },
      gone: (clean) => {
        this.over = true;
        this.receiver.gone(clean && this.#ended && this.#endTold);
      },
    };
    if (link.over) link.receiver.gone(false);
  }

  /** Whoever has ended cannot beat any more, and who is not read cannot be heard. */
  get expectsBeats(): boolean {
    return this.#beats && !this.#endTold && !this.paused;
  }

  write(octets: Buffer): boolean {
    if (this.#ended || octets.length === 0) return true;
    this.sent += octets.length;
    this.sentAt = performance.now();
    return this.#link.writeJoined(
      capsuleHeader(DATA, octets.length).toString("latin1"),
      octets,
    );
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#link.write(finalCapsule());
    if (this.#endTold) this.#link.end();
  }

  reset(): void {
    this.#link.reset();
  }

  pause(): void {
    this.paused = true;
    this.#link.pause();
  }

  resume(): void {
    if (this.paused) this.heardAt = performance.now();
    this.paused = false;
    this.#link.resume();
  }

  beat(): void {
    if (this.#ended) return;
    this.sentAt = performance.now();
    this.#link.write(heartbeat());
  }

  #read(octets: Buffer): void {
    this.heardAt = performance.now();
    try {
      this.#reader.read(octets);
    } catch (problem) {
      if (!(problem instanceof MalformedCapsule)) throw problem;
      this.#link.reset();
      return;
    }
    this.#beats ||= this.#reader.beaten;
    if (!this.#reader.ended || this.#endTold) return;
    this.#endTold = true;
    this.receiver.end();
    if (this.#ended) this.#link.end();
  }
}
