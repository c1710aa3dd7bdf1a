// A router as platforms have them: one program in front of the relay, on a port of 127.0.0.1.

export interface Router {
  readonly name: string;
  readonly port: number;
}

export interface RouterKind {
  readonly name: string;
  /** What must be installed. */
  readonly programs: readonly string[];
  /** Starts it before a relay, for this test only. It cuts what has been silent for `cutSeconds`. */
  start(relayPort: number, cutSeconds: number): Promise<Router>;
}
