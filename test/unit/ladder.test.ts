// Several ways at once: which one is taken, when, and what becomes of the others.
import { expect } from "chai";
import { LadderError, climb, type Climb } from "../../app/wire/ladder.ts";

const WAYS = ["best", "middle", "last"] as const;
type Way = (typeof WAYS)[number];

/** A climb whose ways are proved and refused by hand. */
function scene(options: Partial<Climb<Way, string>> = {}) {
  const began = new Map<
    Way,
    {
      prove: () => void;
      fail: (error: unknown) => void;
      signal: AbortSignal;
    }
  >();
  const discarded: string[] = [];
  const climbed = climb<Way, string>({
    ways: WAYS,
    attempt: (way, signal) =>
      new Promise((resolve, reject) => {
        const prove = (): void => {
          resolve(`the ${way} one`);
        };
        began.set(way, { prove, fail: reject, signal });
      }),
    discard: (proved) => discarded.push(proved),
    isFinal: (error) => error instanceof RangeError,
    // Longer than any test.
    milliseconds: 60 * 1000,
    ...options,
  });
  const on = (way: Way) => {
    const one = began.get(way);
    if (one === undefined) throw new Error(`${way} was not tried`);
    return one;
  };
  const calledOff = (): Way[] => WAYS.filter((way) => on(way).signal.aborted);
  return { climbed, on, discarded, calledOff };
}

/** Lets what has been proved be looked at. */
const turn = (): Promise<void> =>
  new Promise((resolve) => setImmediate(resolve));

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it was not rejected");
    },
    (reason: unknown) => reason,
  );
}

describe("a climb", () => {
  it("takes the best way though others are proved first", async () => {
    const { climbed, on, discarded, calledOff } = scene();
    on("last").prove();
    on("middle").prove();
    await turn();
    on("best").prove();
    const { way, proved } = await climbed;
    expect([way, proved]).to.deep.equal(["best", "the best one"]);
    expect(discarded).to.have.members(["the middle one", "the last one"]);
    expect(calledOff()).to.deep.equal(["middle", "last"]);
  });

  it("waits for no lesser way once the best is proved", async () => {
    const { climbed, on, calledOff } = scene();
    on("best").prove();
    const { way, tried } = await climbed;
    expect(way).to.equal("best");
    expect([...tried]).to.deep.equal([]);
    expect(calledOff()).to.deep.equal(["middle", "last"]);
  });

  it("takes a lesser way at once when all better ones have failed", async () => {
    const { climbed, on } = scene();
    on("middle").prove();
    await turn();
    on("best").fail(new Error("refused"));
    const { way, tried } = await climbed;
    expect(way).to.equal("middle");
    expect(
      [...tried].map(([one, { message }]) => [one, message]),
    ).to.deep.equal([["best", "refused"]]);
  });

  it("takes a lesser way when a better one is not proved in time, and throws the better one away when it is", async () => {
    const { climbed, on, discarded, calledOff } = scene({ milliseconds: 20 });
    on("last").prove();
    const { way, tried } = await climbed;
    expect(way).to.equal("last");
    expect([...tried.values()].map(String)).to.deep.equal([
      "Error: nothing came back in 0.02 s",
      "Error: nothing came back in 0.02 s",
    ]);
    expect(calledOff()).to.deep.equal(["best", "middle"]);
    on("best").prove();
    await turn();
    expect(discarded).to.deep.equal(["the best one"]);
  });

  it("takes whatever is proved first when nothing was in time", async () => {
    const { climbed, on } = scene({ milliseconds: 5 });
    await new Promise((resolve) => setTimeout(resolve, 10));
    on("middle").prove();
    expect((await climbed).way).to.equal("middle");
  });

  it("fails when all have failed, and tells each reason, the best way first", async () => {
    const { climbed, on } = scene();
    on("last").fail(new Error("no"));
    on("middle").fail(new Error("501"));
    on("best").fail("hung");
    const error = await rejection(climbed);
    expect(error).to.be.instanceOf(LadderError);
    expect(String(error)).to.include("best: hung; middle: 501; last: no");
  });

  it("tells a reason once that all have in common", async () => {
    const { climbed, on } = scene();
    for (const way of WAYS) on(way).fail(new Error("nobody is there"));
    const { message } = (await rejection(climbed)) as Error;
    expect(message).to.equal("nobody is there");
  });

  it("ends at once with an error after which no other way does better", async () => {
    const { climbed, on, discarded, calledOff } = scene();
    on("last").prove();
    await turn();
    const final = new RangeError("the relay says no");
    on("middle").fail(final);
    expect(await rejection(climbed)).to.equal(final);
    expect(discarded).to.deep.equal(["the last one"]);
    expect(calledOff()).to.deep.equal([...WAYS]);
    on("best").prove();
    await turn();
    expect(discarded).to.deep.equal(["the last one", "the best one"]);
  });

  it("is called off with all its ways", async () => {
    const controller = new AbortController();
    const { climbed, on, discarded, calledOff } = scene({
      signal: controller.signal,
    });
    on("last").prove();
    await turn();
    const reason = new Error("no time");
    controller.abort(reason);
    expect(await rejection(climbed)).to.equal(reason);
    expect(discarded).to.deep.equal(["the last one"]);
    expect(calledOff()).to.deep.equal([...WAYS]);
  });

  it("that was called off before tries nothing", async () => {
    const signal = AbortSignal.abort(new Error("too late"));
    const { climbed, on } = scene({ signal });
    expect(await rejection(climbed)).to.equal(signal.reason);
    expect(() => on("best")).to.throw("was not tried");
  });

  it("leaves what was taken alone when it is called off later", async () => {
    const controller = new AbortController();
    const { climbed, on, discarded } = scene({ signal: controller.signal });
    on("best").prove();
    await climbed;
    controller.abort();
    expect(on("best").signal.aborted).to.equal(false);
    expect(discarded).to.deep.equal([]);
  });
});
