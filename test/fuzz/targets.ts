// All that is fuzzed.
import { differential } from "./differential.ts";
import { doors } from "./doors.ts";
import { exchange } from "./exchange.ts";
import { framing } from "./framing.ts";
import { names } from "./names.ts";
import { pipes } from "./pipes.ts";
import { relay } from "./relay.ts";
import type { Target } from "./target.ts";

export const TARGETS: readonly Target[] = [
  ...framing,
  ...exchange,
  ...names,
  ...pipes,
  ...doors,
  ...differential,
  ...relay,
];
