// The library: a relay to run, and a server to park.
export { createRelay, type Relay } from "./relay/relay.ts";
export {
  SettingsError,
  type Certificate,
  type RelayOptions,
  type RelaySettings,
} from "./relay/options.ts";
export { Agent, park } from "./agent/agent.ts";
export type { ParkOptions, Target } from "./agent/options.ts";
export { issue, type Issued } from "./issue.ts";
export { dial, type DialOptions } from "./client/dial.ts";
export { DialError } from "./client/ways.ts";
