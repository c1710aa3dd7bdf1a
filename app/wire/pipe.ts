// What can be spliced: octets both ways, each direction with an end of its own, whatever carries them.
import type { Receiver } from "./link.ts";

/** One end of a TCP stream. A link is one; capsules and WebSocket messages on a link make others. */
export interface Pipe {
  /** Who takes the octets. `gone` is told once, and `clean` only when the other side had ended its direction. */
  receiver: Receiver;
  /** Octets that have come, and that were put in, without what carries them. */
  readonly received: number;
  readonly sent: number;
  /** gone() has been told. */
  readonly over: boolean;
  /** Nothing is taken out of it now: it waits for resume(). */
  readonly paused: boolean;
  /** False means: pause the pipe that the octets came from, and wait for drain(). */
  write(octets: Buffer): boolean;
  /** Ends this side's direction. */
  end(): void;
  /** Breaks both directions so that the other side sees it. */
  reset(): void;
  pause(): void;
  resume(): void;
}

/** A pipe that can say that it is there while it has nothing to say. */
export interface BeatingPipe extends Pipe {
  /** Milliseconds of the monotonic clock when anything last came, and was last sent. */
  readonly heardAt: number;
  readonly sentAt: number;
  /** The other side beats too and could be heard, so that its silence means that it is gone. */
  readonly expectsBeats: boolean;
  beat(): void;
}

/** Beats where it is time, and breaks a pipe that has been silent for two heartbeats. `now` is of the monotonic clock. */
export function tendPipe(
  pipe: BeatingPipe,
  now: number,
  heartbeat: number,
): void {
  if (pipe.over) return;
  if (pipe.expectsBeats && now - pipe.heardAt > 2 * heartbeat) pipe.reset();
  else if (now - pipe.sentAt >= heartbeat) pipe.beat();
}
