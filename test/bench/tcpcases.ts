// What the TCP benchmark does, and what the relay must reach with it.

/** The port that visitors name. */
export const TARGET_PORT = 9;
/** The first octet of a stream: send for ever, or send back what comes. */
export const POUR = "P";
export const ECHO = "E";
export const PING_OCTETS = 64;

/** How the load gets to the service: straight (through haproxy), or as a visitor of the relay. */
export type Way = "straight" | "connect" | "connect-tcp" | "websocket";
export type Kind = "bulk" | "ping";

export interface Case {
  readonly name: string;
  readonly kind: Kind;
  readonly proxy: "haproxy" | "relay";
  readonly way: Way;
  /** What is parked: plain octets, or capsules to an agent. */
  readonly tunnels: "legacy" | "agent";
}

export const CONNECTIONS = { bulk: 16, ping: 64 } as const;

/** The first of each kind is what the others are compared with. */
export const CASES: readonly Case[] = [
  {
    name: "haproxy",
    kind: "bulk",
    proxy: "haproxy",
    way: "straight",
    tunnels: "legacy",
  },
  {
    name: "CONNECT",
    kind: "bulk",
    proxy: "relay",
    way: "connect",
    tunnels: "legacy",
  },
  {
    name: "CONNECT, agent",
    kind: "bulk",
    proxy: "relay",
    way: "connect",
    tunnels: "agent",
  },
  {
    name: "connect-tcp",
    kind: "bulk",
    proxy: "relay",
    way: "connect-tcp",
    tunnels: "legacy",
  },
  {
    name: "WebSocket",
    kind: "bulk",
    proxy: "relay",
    way: "websocket",
    tunnels: "legacy",
  },
  {
    name: "haproxy",
    kind: "ping",
    proxy: "haproxy",
    way: "straight",
    tunnels: "legacy",
  },
  {
    name: "CONNECT",
    kind: "ping",
    proxy: "relay",
    way: "connect",
    tunnels: "legacy",
  },
  {
    name: "CONNECT, agent",
    kind: "ping",
    proxy: "relay",
    way: "connect",
    tunnels: "agent",
  },
];

/** The relay's least share of haproxy's, for CONNECT to a tunnel of plain octets. */
export const BARS = { bulk: 0.9, ping: 0.5 } as const;
/** So many spliced pairs at once, and the most memory that the relay may have then. */
export const PAIRS = 1000;
export const MAX_MEGABYTES = 200;
