// What agent and dial make of the heartbeat that a relay tells.
import { expect } from "chai";
import { readHeartbeat } from "../../app/protocol.ts";

describe("a heartbeat", () => {
  it("is taken from a fraction of a second up to a day", () => {
    for (const told of ["0.5", "20", "86400"])
      expect(readHeartbeat(told)).to.equal(Number(told));
  });

  it("that no relay can mean is none, or silence would never be noticed", () => {
    for (const told of ["0", "-1", "1e308", "86401", "x", "20, 20", undefined])
      expect(readHeartbeat(told)).to.equal(undefined);
  });
});
