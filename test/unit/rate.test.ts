// Rates and paces, on a clock of the test's own.
import { expect } from "chai";
import { network } from "../../app/relay/network.ts";
import { Pace } from "../../app/relay/pace.ts";
import { Rate } from "../../app/relay/rate.ts";

/** How many of so many requests at one moment are taken. */
const taken = (rate: Rate, name: string, count: number, now: number): number =>
  Array.from({ length: count }, () => rate.take(name, now)).filter(Boolean)
    .length;

describe("a rate", () => {
  it("lets two seconds' worth through at once, and then so many a second", () => {
    const rate = new Rate(10);
    expect(taken(rate, "a", 100, 0)).to.equal(20);
    expect(taken(rate, "a", 100, 1000)).to.equal(10);
    expect(taken(rate, "a", 100, 1099)).to.equal(0);
    expect(taken(rate, "a", 100, 1200)).to.equal(2);
    expect(taken(rate, "a", 100, 60_000)).to.equal(20);
  });

  it("is of each name by itself", () => {
    const rate = new Rate(1);
    expect(taken(rate, "a", 9, 0)).to.equal(2);
    expect(taken(rate, "b", 9, 0)).to.equal(2);
  });

  it("of 0 is none", () => {
    const rate = new Rate(0);
    expect(taken(rate, "a", 1000, 0)).to.equal(1000);
    expect(rate.size).to.equal(0);
  });

  it("never gives more for being asked often", () => {
    const rate = new Rate(3);
    let count = 0;
    for (let now = 0; now < 10_000; now++) count += taken(rate, "a", 2, now);
    expect(count).to.equal(6 + 29);
  });

  it("remembers so many names only, and forgets those that are quiet", () => {
    const rate = new Rate(1, 3);
    for (const name of ["a", "b", "c", "d"]) taken(rate, name, 2, 3000);
    expect(rate.size).to.equal(3);
    expect(rate.take("d", 3000)).to.be.false;
    rate.sweep(4999);
    expect(rate.size).to.equal(3);
    rate.sweep(6999);
    expect(rate.size).to.equal(0);
  });
});

describe("a pace", () => {
  const pace = (): Pace => new Pace(10, { minOctetsPerSecond: 100 });

  it("is slow when a whole window has brought too little, and not before", () => {
    const one = pace();
    expect(one.isSlow(true, 0, 0)).to.be.false;
    expect(one.isSlow(true, 0, 9999)).to.be.false;
    expect(one.isSlow(true, 999, 10_000)).to.be.true;
  });

  it("looks at each window by itself: what came before does not help", () => {
    const one = pace();
    one.isSlow(true, 0, 0);
    expect(one.isSlow(true, 1_000_000, 10_000)).to.be.false;
    expect(one.isSlow(true, 1_000_999, 20_000)).to.be.true;
  });

  it("begins again after a moment in which nobody waited", () => {
    const one = pace();
    one.isSlow(true, 0, 0);
    expect(one.isSlow(false, 0, 9999)).to.be.false;
    expect(one.isSlow(true, 0, 10_000)).to.be.false;
    expect(one.isSlow(true, 0, 19_999)).to.be.false;
    expect(one.isSlow(true, 0, 20_000)).to.be.true;
  });

  it("of no octets, or of no time, is never slow", () => {
    for (const one of [
      new Pace(10, { minOctetsPerSecond: 0 }),
      new Pace(0, { minOctetsPerSecond: 100 }),
    ]) {
      one.isSlow(true, 0, 0);
      expect(one.isSlow(true, 0, 1_000_000)).to.be.false;
    }
  });
});

describe("a network", () => {
  for (const [address, same, other] of [
    ["192.0.2.1", "192.0.2.1", "192.0.2.2"],
    ["2001:db8::1", "2001:0DB8:0:0:1:2:3:4", "2001:db8:0:1::1"],
    ["::1", "0:0:0:0:0:0:0:2", "1::1"],
    ["", "", "::"],
  ] as const)
    it(`of ${address} is that of ${same}, and not of ${other}`, () => {
      expect(network(address)).to.equal(network(same));
      expect(network(address)).to.not.equal(network(other));
    });
});
