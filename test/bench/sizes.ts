// What the benchmark asks for, and what the relay must reach with it.

export interface Size {
  /** As in the path of the request and in --only. */
  readonly name: "1k" | "64k" | "10m";
  readonly octets: number;
  readonly connections: number;
  /** The relay's least share of haproxy's `unit`. */
  readonly bar: number;
  readonly unit: "requests/s" | "MB/s";
}

export const SIZES: readonly Size[] = [
  {
    name: "1k",
    octets: 1024,
    connections: 64,
    bar: 0.4,
    unit: "requests/s",
  },
  {
    name: "64k",
    octets: 64 * 1024,
    connections: 64,
    bar: 0.5,
    unit: "MB/s",
  },
  {
    name: "10m",
    octets: 10 * 1024 * 1024,
    connections: 16,
    bar: 0.5,
    unit: "MB/s",
  },
];

/** The relay's CPU a request is at most so many times haproxy's, at the size where heads are all there is to do. */
export const CPU_BAR = { name: "1k", times: 2.2 } as const;
