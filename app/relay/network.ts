// Who counts as one: what limits and throttles go by instead of an address.
import { isIP } from "node:net";
import { copyOf } from "./copy.ts";

/** The network of an address: who has one IPv6 address has the whole /64. An address of IPv4 stands for itself. */
export function network(address: string): string {
  // A router has told it in a head, perhaps.
  if (isIP(address) !== 6) return copyOf(address);
  const [head = "", tail] = address.split("::", 2);
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros =
    tail === undefined
      ? []
      : new Array<string>(Math.max(0, 8 - left.length - right.length)).fill(
          "0",
        );
  return [...left, ...zeros, ...right]
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, "").toLowerCase())
    .join(":");
}
