import { expect } from "chai";
import { Tally } from "../../app/relay/tally.ts";

describe("a tally", () => {
  it("counts each name by itself, and never below none", () => {
    const tally = new Tally();
    for (const name of ["a", "a", "b"]) tally.add(name);
    for (const name of ["a", "b", "b", "c"]) tally.take(name);
    expect([tally.of("a"), tally.of("b"), tally.of("c")]).to.deep.equal([
      1, 0, 0,
    ]);
    tally.add("b");
    expect(tally.of("b")).to.equal(1);
  });

  it("forgets names that have none, however many there were", () => {
    const tally = new Tally();
    tally.add("stays");
    for (let i = 0; i < 10_000; i++) tally.add(`${i}`);
    for (let i = 0; i < 10_000; i++) tally.take(`${i}`);
    for (let i = 0; i < 10_000; i++) {
      tally.add(`one by one ${i}`);
      tally.take(`one by one ${i}`);
    }
    expect(tally.size).to.be.below(200);
    expect(tally.of("stays")).to.equal(1);
  });
});
