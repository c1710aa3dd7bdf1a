// Shares of one hidden server's tunnels: what the visitors of each network hold of them, so that nobody takes all.
import { Tally } from "./tally.ts";

export interface ShareOptions {
  readonly maxWaitingPerServer: number;
  /** Tunnels that the visitors of one network may hold at once, as far as the server opens so many; 0 is no limit, here and below. */
  readonly maxTunnelsPerVisitor: number;
  /** TCP visits and upgraded connections, those that wait included, as far as the server opens so many tunnels. */
  readonly maxStreamsPerServer: number;
}

/** Who claims a tunnel. */
export interface Guest {
  /** Whose share it comes out of. */
  readonly network: string;
  /** It is for a stream, which may last. */
  readonly isStream: boolean;
}

export class Shares {
  readonly #options: ShareOptions;
  /** Tunnels that each network holds, and its waiting visitors. */
  readonly #held = new Tally();
  readonly #queued = new Tally();
  /** Streams that have a tunnel or wait for one, in all and of each network. */
  #streams = 0;
  readonly #streaming = new Tally();
  /** Tunnels that the server opens in all, as the last of them that said so has it; undefined when none has. */
  max: number | undefined;

  constructor(options: ShareOptions) {
    this.#options = options;
  }

  /** There are as many streams as there may be, or his network has its share of them: they may last for ever. */
  refusesStream({ network }: Guest): boolean {
    const { maxStreamsPerServer, maxTunnelsPerVisitor } = this.#options;
    const most = this.#of(maxStreamsPerServer);
    if (this.#streams >= most) return true;
    return (
      maxTunnelsPerVisitor > 0 &&
      this.#streaming.of(network) >= threeQuarters(most)
    );
  }

  /** Tunnels that a network may hold. */
  get most(): number {
    return this.#of(this.#options.maxTunnelsPerVisitor);
  }

  /** Tunnels that his network holds; 0 where nobody asks. */
  heldBy({ network }: Guest): number {
    return this.#options.maxTunnelsPerVisitor === 0
      ? 0
      : this.#held.of(network);
  }

  /** His network takes all the places in which others would wait for what it leaves. */
  crowds({ network }: Guest): boolean {
    const { maxTunnelsPerVisitor, maxWaitingPerServer } = this.#options;
    return (
      maxTunnelsPerVisitor > 0 &&
      this.#queued.of(network) >= Math.ceil(maxWaitingPerServer / 2)
    );
  }

  hold(guest: Guest): void {
    this.#held.add(guest.network);
    this.#begin(guest);
  }

  release(guest: Guest): void {
    this.#held.take(guest.network);
    this.#end(guest);
  }

  queue(guest: Guest): void {
    this.#queued.add(guest.network);
    this.#begin(guest);
  }

  unqueue(guest: Guest): void {
    this.#queued.take(guest.network);
    this.#end(guest);
  }

  #begin({ network, isStream }: Guest): void {
    if (!isStream) return;
    this.#streams++;
    this.#streaming.add(network);
  }

  #end({ network, isStream }: Guest): void {
    if (!isStream) return;
    this.#streams--;
    this.#streaming.take(network);
  }

  /** What a setting allows of the tunnels: never all that the server opens, where it opens more than one. */
  #of(setting: number): number {
    if (setting === 0) return Infinity;
    if (this.max === undefined) return setting;
    return Math.min(setting, threeQuarters(this.max));
  }
}

/** The most that leaves something to others, where there is more than one. */
function threeQuarters(count: number): number {
  return Math.max(1, Math.floor((count * 3) / 4));
}
