// When an agent asks again after a failure.
import { expect } from "chai";
import {
  Backoff,
  mildest,
  troubleOf,
  type Trouble,
} from "../../app/agent/backoff.ts";

const MINUTE = 60 * 1000;

/** The least and the most seconds of many waits, after so many failures of this kind. */
function waits(
  trouble: Trouble,
  failures: number,
  minutes = 0,
): { least: number; most: number } {
  const seen = Array.from({ length: 2000 }, () => {
    const backoff = new Backoff();
    backoff.failed(trouble, 0);
    for (let n = 1; n < failures; n++) backoff.failed(trouble, 0);
    return backoff.failed(trouble, minutes * MINUTE) / 1000;
  });
  return { least: Math.min(...seen), most: Math.max(...seen) };
}

describe("the back-off of an agent", () => {
  it("lets it come back within 1.5 s for ten minutes while the relay is away, at any moment of them", () => {
    for (const failures of [2, 10, 400]) {
      const { least, most } = waits("away", failures, 9);
      expect(most).to.be.within(1.3, 1.5);
      expect(least).to.be.below(0.1);
    }
  });

  it("stays below the time that visitors are held, however long the relay is away", () => {
    expect(waits("away", 900, 60 * 24).most).to.be.within(7, 8);
  });

  it("is 15 to 30 s after a no", () => {
    const { least, most } = waits("denied", 1);
    expect(least).to.be.within(15, 16);
    expect(most).to.be.within(29, 30);
  });

  it("is what the relay says, and a little more, but never longer than an hour", () => {
    const { least, most } = waits(60, 3);
    expect(least).to.be.within(60, 60.1);
    expect(most).to.be.within(60.9, 61);
    expect(waits(1e9, 1).most).to.be.within(3600, 3601);
  });

  it("doubles to 30 s while something else answers than a relay", () => {
    expect(waits("unfit", 2).most).to.be.within(3.5, 4);
    expect(waits("unfit", 40).most).to.be.within(28, 30);
  });

  it("begins anew after a success", () => {
    const backoff = new Backoff();
    for (let n = 0; n < 20; n++) backoff.failed("unfit", 0);
    backoff.succeeded();
    expect(backoff.failed("unfit", 0)).to.be.below(1000);
    backoff.succeeded();
    backoff.failed("away", 60 * MINUTE);
    expect(backoff.failed("away", 61 * MINUTE)).to.be.below(1500);
  });
});

describe("what an answer means to an agent", () => {
  const means = (status: number, code?: string, seconds?: number): Trouble =>
    troubleOf({ status, code, retrySeconds: seconds });

  it("is that the relay is away, where there is none or one of 5xx", () => {
    expect(troubleOf(undefined)).to.equal("away");
    expect(means(503, "draining", 1)).to.equal("away");
    expect(means(502)).to.equal("away");
  });

  it("is a no for 401 and 403, and a time to come back for 429 and a full lot", () => {
    expect(means(401, "bad_token")).to.equal("denied");
    expect(means(403, "revoked")).to.equal("denied");
    expect(means(429, "too_many_failures", 60)).to.equal(60);
    expect(means(503, "too_many_tunnels", 10)).to.equal(10);
    expect(means(429)).to.equal("denied");
  });

  it("is decided by the way that may be open in a moment, where all were tried", () => {
    expect(means(405)).to.equal("unfit");
    expect(mildest(["unfit", "away", "denied"])).to.equal("away");
    expect(mildest(["unfit", "denied", "unfit"])).to.equal("denied");
    expect(mildest([60, 60, 60])).to.equal(60);
  });
});
