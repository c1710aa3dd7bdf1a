// What the project is made of: where its packages come from, and that installing them runs nobody's code.
import { expect } from "chai";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PROJECT } from "../support/programs.ts";

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

const read = (name: string): string =>
  readFileSync(join(PROJECT, name), "utf8");
const lock = JSON.parse(read("package-lock.json")) as {
  readonly lockfileVersion: number;
  readonly packages: Readonly<Record<string, Entry>>;
};
const manifest = JSON.parse(read("package.json")) as {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
};
const packages = Object.entries(lock.packages).filter(([path]) => path !== "");

describe("the packages that the project is made of", () => {
  it("come from npm's registry, each with the hash of what is expected", () => {
    expect(packages).to.have.length.above(10);
    for (const [path, { resolved, integrity, link, version }] of packages) {
      expect(link, path).to.be.undefined;
      expect(version, path).to.match(/^\d+\.\d+\.\d+/);
      expect(integrity, path).to.match(/^sha512-/);
      // Left out, it is the registry that npm is set to.
      if (resolved !== undefined)
        expect(resolved, path).to.match(/^https:\/\/registry\.npmjs\.org\//);
    }
  });

  it("are asked for by version, not by place", () => {
    const { dependencies, devDependencies } = manifest;
    for (const [name, range] of Object.entries({
      ...dependencies,
      ...devDependencies,
    }))
      expect(range, name).to.match(/^\^?\d+\.\d+\.\d+$/);
  });

  it("run nothing when they are installed, where the relay runs", () => {
    const scripted = packages
      .filter(([, { hasInstallScript, dev }]) => hasInstallScript && !dev)
      .map(([path]) => path);
    expect(scripted).to.deep.equal([]);
    for (const hook of ["preinstall", "install", "postinstall"])
      expect(manifest.scripts).to.not.have.property(hook);
  });

  it("go into the image by npm ci, which takes the lockfile and runs no scripts", () => {
    const steps = [...read("Dockerfile").matchAll(/npm (?!run)[^&\n]+/g)].map(
      ([step]) => step.trim(),
    );
    expect(steps).to.have.length(2);
    for (const step of steps) expect(step).to.include("--ignore-scripts");
    expect(steps[0]).to.match(/^npm ci /);
  });
});
