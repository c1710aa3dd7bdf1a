// Command lines: what they mean, and everything wrong about them said at once.
import { expect } from "chai";
import { readCommand } from "../../app/command/command.ts";
import { makeGrant } from "../../app/grant.ts";
import { problemsOf } from "../support/problems.ts";
import { scratchFile } from "../support/programs.ts";
import { RELAY_SECRET } from "../support/relay.ts";

describe("the command line", () => {
  const URL_WITH_SECRET = "https://pi:SECRET@relay.example.com";

  it("asks for help, or for the version", () => {
    for (const argv of [[], ["help"], ["--help"], ["-h"]])
      expect(readCommand(argv, {})).to.deep.equal({
        command: "help",
        topic: undefined,
      });
    expect(readCommand(["help", "park"], {})).to.deep.equal({
      command: "help",
      topic: "park",
    });
    expect(readCommand(["issue", "--help"], {})).to.deep.equal({
      command: "help",
      topic: "issue",
    });
    expect(readCommand(["--version"], {})).to.deep.equal({
      command: "version",
    });
  });

  it("issues an id with the relay's secret from the environment", () => {
    const command = readCommand(["issue", "pi", "--json"], {
      RELAY_SECRET,
      PORT: "6000",
    });
    expect(command).to.deep.include({ command: "issue", id: "pi", json: true });
    expect(command)
      .to.have.property("relay")
      .that.deep.equals(new URL("http://localhost:6000"));
    expect(
      readCommand(["issue", "pi", "--relay", "https://x"], { RELAY_SECRET }),
    )
      .to.have.property("relay")
      .that.deep.equals(new URL("https://x"));
    expect(
      readCommand(["issue", "pi"], { RELAY_SECRET, PUBLIC_URL: "https://y" }),
    )
      .to.have.property("relay")
      .that.deep.equals(new URL("https://y"));
  });

  it("says everything that is wrong about an issue at once", () => {
    const problems = problemsOf(() =>
      readCommand(["issue", "--relay", "x"], { PORT: "x", MAX_TUNNELS: "x" }),
    );
    for (const word of [
      "Name one id",
      "RELAY_SECRET must be set",
      "MAX_TUNNELS must be",
      "PORT must be",
      "--relay must be a URL",
    ])
      expect(
        problems.filter((problem) => problem.startsWith(word)),
        word,
      ).to.have.length(1);
  });

  it("issues nothing with a secret that no relay has, and does not tell to leave it out", () => {
    const must =
      "must give the relay's secret, a text of 32 characters or more (`openssl rand -hex 32` makes one).";
    for (const [variable, value] of [
      ["RELAY_SECRET", "short"],
      ["RELAY_SECRET_FILE", scratchFile("short")],
      ["RELAY_SECRET_FILE", scratchFile("")],
    ] as const)
      expect(
        problemsOf(() => readCommand(["issue", "pi"], { [variable]: value })),
      ).to.deep.equal([`${variable} ${must}`]);
  });

  const services = [
    ["8080", "localhost", 8080],
    ["db.lan:81", "db.lan", 81],
    ["http://db.lan:81", "db.lan", 81],
    ["http://db.lan/", "db.lan", 80],
    ["[::1]:81", "::1", 81],
  ] as const;
  for (const [text, host, port] of services) {
    it(`parks the service ${text}`, () => {
      expect(readCommand(["park", URL_WITH_SECRET, text], {})).to.deep.include({
        command: "park",
        id: "pi",
        secret: "SECRET",
        service: { host, port },
        spare: 4,
        max: 64,
        verbose: false,
      });
    });
  }

  it("parks with everything set", () => {
    const ca = scratchFile("PEM\n");
    expect(
      readCommand(
        [
          "park",
          "--spare",
          "2",
          "--max=8",
          "--verbose",
          "--ca",
          ca,
          URL_WITH_SECRET,
          "80",
        ],
        {},
      ),
    ).to.deep.include({ spare: 2, max: 8, verbose: true, ca: "PEM" });
  });

  it("takes URL and secret from the environment or a file", () => {
    expect(
      readCommand(["park", "80"], { RENDEZVOUS_URL: URL_WITH_SECRET }),
    ).to.deep.include({ id: "pi", secret: "SECRET" });
    const secretFile = scratchFile("OTHER\n");
    expect(
      readCommand(
        [
          "park",
          "https://pi@relay.example.com",
          "80",
          "--secret-file",
          secretFile,
        ],
        {},
      ),
    ).to.include({ secret: "OTHER" });
    expect(
      readCommand(["park", "https://pi@relay.example.com", "80"], {
        RENDEZVOUS_SECRET_FILE: secretFile,
      }),
    ).to.include({ secret: "OTHER" });
  });

  it("says that the file of a secret is empty, and what names it", () => {
    const file = scratchFile(" \n");
    const empty =
      "is empty. It must have the secret, as `npx rendezvous issue` prints it.";
    const commands = [
      ["park", "https://pi@x", "80"],
      ["share", "https://x/?rendezvous=pi"],
      ["doctor", "https://pi@x"],
    ];
    for (const argv of commands) {
      expect(
        problemsOf(() => readCommand([...argv, "--secret-file", file], {})),
        argv.join(" "),
      ).to.deep.equal([`${file}, which --secret-file names, ${empty}`]);
      expect(
        problemsOf(() => readCommand(argv, { RENDEZVOUS_SECRET_FILE: file })),
      ).to.deep.equal([
        `${file}, which RENDEZVOUS_SECRET_FILE names, ${empty}`,
      ]);
      expect(
        problemsOf(() =>
          readCommand(argv, { RENDEZVOUS_SECRET_FILE: "/nowhere/s" }),
        ).join(),
      ).to.match(
        /^RENDEZVOUS_SECRET_FILE is \/nowhere\/s, which cannot be read/,
      );
    }
  });

  it("says everything that is wrong about parking at once, and never the secret", () => {
    const problems = problemsOf(() =>
      readCommand(
        [
          "park",
          "ftp://pi:HUNTER2@x",
          "ssh",
          "--spare",
          "0",
          "--max",
          "x",
          "--ca",
          "/nowhere/ca",
        ],
        {},
      ),
    );
    for (const word of [
      "The relay must be a URL",
      "The service must be a port",
      "--spare must be",
      "--max must be",
      "/nowhere/ca cannot be read",
    ])
      expect(
        problems.filter((problem) => problem.startsWith(word)),
        word,
      ).to.have.length(1);
    expect(problems.join()).to.not.include("HUNTER2");
    const mistakes = [
      ["park", "pi:HUNTER2@x", "80"],
      ["park", "80", "https://pi:HUNTER2@x"],
      ["https://pi:HUNTER2@x", "80"],
    ];
    for (const argv of mistakes)
      expect(problemsOf(() => readCommand(argv, {})).join()).to.not.include(
        "HUNTER2",
      );
  });

  it("offers TCP services by their ports", () => {
    const offers = ["22", "5432=db.lan:5433", "80=[::1]:8080", "443=8443"];
    const argv = offers.flatMap((offer) => ["--tcp", offer]);
    expect(readCommand(["park", URL_WITH_SECRET, ...argv], {}))
      .to.have.property("tcp")
      .that.deep.equals(
        new Map([
          [22, { host: "localhost", port: 22 }],
          [5432, { host: "db.lan", port: 5433 }],
          [80, { host: "::1", port: 8080 }],
          [443, { host: "localhost", port: 8443 }],
        ]),
      );
  });

  for (const offer of [
    ...["ssh", "0", "65536", "022", "22=", "22=x", "=22", "22=22=22"],
    ...["22=http://x:1", "http://x:22", "22=x:1/", "22=x:0", "22=x:01"],
  ]) {
    it(`says of --tcp ${offer} only that it is wrong`, () => {
      expect(
        problemsOf(() =>
          readCommand(["park", URL_WITH_SECRET, "--tcp", offer], {}),
        ),
      ).to.deep.equal([
        `--tcp must be a port like 22, or like 5432=db.lan:5432, got "${offer}".`,
      ]);
    });
  }

  it("says that --tcp names a port twice, and shows no secret that stands there by mistake", () => {
    const park = (...offers: string[]): string[] =>
      problemsOf(() =>
        readCommand(
          [
            ...["park", URL_WITH_SECRET],
            ...offers.flatMap((offer) => ["--tcp", offer]),
          ],
          {},
        ),
      );
    expect(park("22", "22=x:1")).to.deep.equal([
      "--tcp names port 22 twice. Name it once.",
    ]);
    expect(park("https://pi:HUNTER2@x").join()).to.not.include("HUNTER2");
  });

  it("listens where it is told", () => {
    const dial = ["dial", "https://x", "pi", "22", "--listen"];
    expect(readCommand([...dial, "5000"], {})).to.deep.include({
      listen: { host: "localhost", port: 5000 },
    });
    expect(readCommand([...dial, "[::1]:5000"], {})).to.deep.include({
      listen: { host: "::1", port: 5000 },
    });
    for (const place of ["0", "127.0.0.1:0"])
      expect(readCommand([...dial, place], {}))
        .to.have.property("listen")
        .that.has.property("port", 0);
    for (const place of ["x", "00", ":0", "http://localhost:5000", "05000"])
      expect(problemsOf(() => readCommand([...dial, place], {}))).to.deep.equal(
        [
          `--listen must be a port or host:port, got "${place}". Port 0 is any free one.`,
        ],
      );
  });

  it("dials to a hidden server by its long name too", () => {
    for (const name of [
      "pi",
      "pi.rendezvous.internal",
      "pi.Rendezvous.Internal",
    ])
      expect(readCommand(["dial", "https://x", name, "22"], {})).to.include({
        id: "pi",
      });
    for (const name of [
      "pi.example.com",
      "rendezvous.internal",
      "a.b.rendezvous.internal",
    ])
      expect(
        problemsOf(() => readCommand(["dial", "https://x", name, "22"], {})),
      ).to.have.length(1);
  });

  const GRANT = makeGrant("pi", "A".repeat(32), { seconds: 60 }).token;

  it("dials with a grant from a flag, from a link, or from the environment", () => {
    const link = `https://x/photos/?rendezvous=pi&grant=${GRANT}`;
    const given: readonly [string[], Record<string, string>][] = [
      [["https://x", "pi", "22", "--grant", GRANT], {}],
      [["https://x", "pi", "22", "--grant", link], {}],
      [["https://x", "pi", "22"], { RENDEZVOUS_GRANT: GRANT }],
      [["https://x", "pi", "22"], { RENDEZVOUS_GRANT: link }],
      [[link, "pi", "22"], {}],
      [[`https://pi.x/?grant=${GRANT}`, "PI", "22"], {}],
    ];
    for (const [argv, environment] of given) {
      const command = readCommand(["dial", ...argv], environment);
      expect(command, argv.join(" ")).to.deep.include({
        relay: new URL("https://x"),
        grant: GRANT,
      });
    }
    expect(readCommand(["dial", "https://x", "pi", "22"], {})).to.include({
      grant: undefined,
    });
    const [problem, ...more] = problemsOf(() =>
      readCommand(["dial", "https://x", "pi", "22", "--grant", "HUNTER2"], {}),
    );
    expect(problem)
      .to.include("The grant must be one that")
      .and.not.include("HUNTER2");
    expect(more).to.deep.equal([]);
  });

  const VISIT = "https://x/?rendezvous=pi";

  it("parks a private server", () => {
    for (const flags of [["--private"], []])
      expect(
        readCommand(["park", URL_WITH_SECRET, "80", ...flags], {}),
      ).to.include({ private: flags.length > 0 });
  });

  it("shares with everything set", () => {
    const argv = ["share", VISIT, "--path", "/my photos/", "--qr", "--json"];
    const more = ["--methods", "get,HEAD", "--ports", "22,5432"];
    const spans = ["--expires", "2h", "--uses", "5"];
    expect(
      readCommand([...argv, ...more, ...spans], {
        RENDEZVOUS_URL: URL_WITH_SECRET,
      }),
    ).to.deep.equal({
      command: "share",
      visit: new URL("https://x/my%20photos/?rendezvous=pi"),
      id: "pi",
      query: undefined,
      secret: "SECRET",
      limits: {
        path: "/my%20photos/",
        methods: ["GET", "HEAD"],
        ports: [22, 5432],
        uses: 5,
        seconds: 2 * 60 * 60,
      },
      qr: true,
      json: true,
    });
  });

  it("shares whatever URL is the visitor's or the agent's, with the secret from where park takes it", () => {
    const file = scratchFile("SECRET\n");
    const variable = { RENDEZVOUS_URL: URL_WITH_SECRET };
    const inFile = { RENDEZVOUS_SECRET_FILE: file };
    const given: readonly [string[], Record<string, string>, string][] = [
      [[VISIT], variable, VISIT],
      [[VISIT, "--secret-file", file], {}, VISIT],
      [["https://pi.x.example/"], inFile, "https://pi.x.example/"],
      [["https://x/a?rendezvous=PI"], inFile, "https://x/a?rendezvous=pi"],
      [["https://pi:SECRET@x"], {}, VISIT],
      [["https://x/?to=pi"], { ...inFile, RENDEZVOUS_PARAMETER: "to" }, ""],
      [[`${VISIT}&grant=${GRANT}`], variable, VISIT],
    ];
    for (const [argv, environment, visit] of given) {
      const command = readCommand(["share", ...argv], environment);
      expect(command, argv.join(" ")).to.deep.include({
        id: "pi",
        secret: "SECRET",
        visit: new URL(visit === "" ? "https://x/?to=pi" : visit),
      });
    }
  });

  it("shares no URL that names two ids, by its query, its login or its host", () => {
    const inFile = { RENDEZVOUS_SECRET_FILE: scratchFile("SECRET\n") };
    const twice = 'The URL names two ids, "priv" and "pi". Name one.';
    const byHost =
      'The URL names two ids, "pi" and by its host "priv". Name one.';
    const given: readonly [string, Record<string, string>, string][] = [
      ["https://x/?rendezvous=priv&rendezvous=pi", {}, twice],
      ["https://pi:HUNTER2@x/?rendezvous=priv", {}, twice],
      [
        "https://priv.x.example/?rendezvous=pi",
        { RENDEZVOUS_URL: "https://pi:HUNTER2@x.example" },
        byHost,
      ],
      [
        "https://priv.x.example/?rendezvous=pi",
        { ...inFile, BASE_DOMAIN: "X.example" },
        byHost,
      ],
    ];
    for (const [url, more, problem] of given)
      expect(
        problemsOf(() => readCommand(["share", url], { ...inFile, ...more })),
        url,
      ).to.deep.equal([problem]);
    // One name, said twice.
    for (const url of [
      "https://x/?rendezvous=pi&rendezvous=PI",
      "https://pi@x/?rendezvous=Pi",
      "https://pi.x.example/?rendezvous=pi",
      "https://relay.example.com/?rendezvous=pi",
    ])
      expect(
        readCommand(["share", url], { ...inFile, BASE_DOMAIN: "x.example" }),
        url,
      ).to.include({ id: "pi", query: undefined });
  });

  it("says what to add where a host names the id that could be the relay's own", () => {
    const url = "https://relay.example.com/";
    const inFile = { RENDEZVOUS_SECRET_FILE: scratchFile("SECRET\n") };
    expect(readCommand(["share", url], inFile)).to.include({
      id: "relay",
      query: "?rendezvous=ID",
    });
    for (const environment of [{}, { RENDEZVOUS_URL: URL_WITH_SECRET }])
      expect(
        problemsOf(() => readCommand(["share", url], environment)).join(),
      ).to.match(
        / The URL's host names it; add \?rendezvous=ID if that host is the relay itself\.$/,
      );
  });

  for (const [span, seconds] of [
    ["30s", 30],
    ["10m", 600],
    ["7d", 7 * 86_400],
    ["365d", 365 * 86_400],
  ] as const) {
    it(`shares for ${span}`, () => {
      const command = readCommand(["share", VISIT, "--expires", span], {
        RENDEZVOUS_URL: URL_WITH_SECRET,
      });
      expect(command).to.have.nested.property("limits.seconds", seconds);
    });
  }

  it("shares no link that its own path does not allow", () => {
    const share = (url: string): ReturnType<typeof readCommand> =>
      readCommand(["share", url, "--path", "/photos/"], {
        RENDEZVOUS_URL: URL_WITH_SECRET,
      });
    expect(() => share("https://x/secret/?rendezvous=pi")).to.throw(
      "The link leads to /secret/, which --path /photos/ does not allow.",
    );
    expect(share("https://x/photos/a?rendezvous=pi")).to.include({ id: "pi" });
  });

  it("shares TCP by --ports, not by a method", () => {
    expect(
      problemsOf(() =>
        readCommand(["share", VISIT, "--methods", "GET,connect"], {
          RENDEZVOUS_URL: URL_WITH_SECRET,
        }),
      ),
    ).to.deep.equal(["--methods is for HTTP visits. --ports allows CONNECT."]);
  });

  it("says everything that is wrong about sharing at once, and never the secret", () => {
    const share = (
      argv: readonly string[],
      environment = {},
    ): readonly string[] =>
      problemsOf(() => readCommand(["share", ...argv], environment));
    expect(
      share(
        [
          ...[VISIT, "--path", "/a/../b", "--methods", "GET;", "--ports", "0"],
          ...["--expires", "2y", "--uses", "0"],
        ],
        { RENDEZVOUS_URL: "https://other:HUNTER2@x" },
      ),
    ).to.deep.equal([
      'RENDEZVOUS_URL has the secret of "other", and the link is for "pi".',
      '--path must be a path like /photos/, that can be read in one way only, got "/a/../b".',
      '--methods must be a list like GET,HEAD, got "GET;".',
      '--ports must be a list like 22,5432, got "0".',
      '--uses must be an integer from 1 to 999999, got "0". Leave it out for a link that is opened as often as one likes.',
      '--expires must be like 30s, 10m, 2h or 7d, and a year at most, got "2y". Leave it out for a day.',
    ]);
    expect(share([]).join()).to.include("Name the URL that visitors use");
    expect(share([VISIT]).join()).to.include('The secret of "pi" is missing');
    for (const bad of [
      "x",
      "ftp://pi/",
      "https://localhost/",
      "https://10.0.0.1/",
    ])
      expect(share([bad]), bad).to.have.length(1);
    for (const path of ["photos", "/a//b", "/a%2fb", "/a?b", "/a\\b", "/."])
      expect(
        share([VISIT, "--path", path], { RENDEZVOUS_URL: URL_WITH_SECRET }),
        path,
      ).to.have.length(1);
  });

  for (const [flags, problem] of [
    [
      ["--spare", "1", "--spare", "2"],
      "--spare was given twice. Give it once.",
    ],
    [["--tcp", "-1"], '--tcp needs a value after it, got "-1".'],
    [["--tcp"], "--tcp needs a value after it."],
    [["--ca", "--verbose"], '--ca needs a value after it, got "--verbose".'],
    [["--verbose=yes"], "--verbose takes no value."],
    [["--spear", "1"], "There is no flag --spear. `--help` lists them."],
    [["-x"], "There is no flag -x. `--help` lists them."],
  ] as const) {
    it(`says in its own words what is wrong with ${flags.join(" ")}`, () => {
      expect(
        problemsOf(() =>
          readCommand(["park", URL_WITH_SECRET, "80", ...flags], {}),
        ),
      ).to.deep.equal([problem]);
    });
  }

  it("shows no secret of a URL that is misspelled or stands where it should not", () => {
    for (const argv of [
      ["park", "https:/pi:HUSH@x/y", "80"],
      ["park", "htps://pi:HU/SH@x", "80"],
      ["park", "pi:HUSH@x", "80"],
      ["park", "80", "--via", "https://pi:HUSH@x"],
      ["park", "80", "--max", "https://pi:HUSH@x"],
      ["park", "--https://pi:HUSH@x"],
      ["https://pi:HUSH@x"],
    ])
      expect(
        problemsOf(() => readCommand(argv, {})).join(),
        argv.join(" "),
      ).not.to.include("HUSH");
  });

  it("refuses a relay with a path or a query, and shows no secret of it", () => {
    for (const rest of ["/x", "/?a=b", "?rendezvous=pi", "/#x"]) {
      const relay = `https://pi:HUNTER2@x${rest}`;
      for (const argv of [
        ["park", relay, "80"],
        ["dial", relay, "pi", "22"],
        ["issue", "pi", "--relay", relay],
      ]) {
        const problems = problemsOf(() => readCommand(argv, { RELAY_SECRET }));
        expect(problems, argv.join(" ")).to.have.length(1);
        expect(problems[0])
          .to.include("must be a URL that ends with its host")
          .and.not.include("HUNTER2");
      }
    }
    expect(readCommand(["dial", "https://x/", "pi", "22"], {})).to.include({
      id: "pi",
    });
  });

  it("says what is missing", () => {
    expect(problemsOf(() => readCommand(["park"], {})).join()).to.include(
      "Name the relay and the service",
    );
    expect(
      problemsOf(() => readCommand(["park", "https://x", "80"], {})).join(),
    ).to.include("must have the id before its host");
    expect(
      problemsOf(() => readCommand(["park", "https://pi@x", "80"], {})).join(),
    ).to.include("The secret is missing");
    expect(problemsOf(() => readCommand(["prak"], {})).join()).to.include(
      'no command "prak"',
    );
    expect(
      problemsOf(() => readCommand(["park", "--spear", "1"], {})).join(),
    ).to.include("--spear");
  });

  it("examines a relay, with a credential or without", () => {
    const command = readCommand(["doctor", "https://x", "--json"], {});
    expect(command).to.deep.include({
      command: "doctor",
      relay: new URL("https://x"),
      login: undefined,
      idleSeconds: undefined,
      json: true,
    });
    const login = { id: "pi", secret: "SECRET" };
    expect(
      readCommand(["doctor", URL_WITH_SECRET, "--idle", "60"], {}),
    ).to.deep.include({ login, idleSeconds: 60, json: false });
    expect(
      readCommand(["doctor"], { RENDEZVOUS_URL: URL_WITH_SECRET }),
    ).to.deep.include({ login });
    const file = scratchFile("SECRET\n");
    expect(
      readCommand(["doctor", "https://pi@x", "--secret-file", file], {}),
    ).to.deep.include({ login });
    // The variable may be there for park.
    expect(
      readCommand(["doctor", "https://x"], { RENDEZVOUS_SECRET_FILE: file }),
    ).to.deep.include({ login: undefined });
  });

  it("says everything that is wrong about an examination at once", () => {
    const wrong = [
      [[], "Name the relay"],
      [["https://x", "8080"], "Name the relay"],
      [["relay.example.com"], "The relay must be a URL"],
      [["https://pi@x"], "The secret is missing"],
      [["https://:SECRET@x"], "must have the id before its host"],
      [["https://p.i:SECRET@x"], "The id must be one DNS label"],
      [["https://x", "--secret-file", scratchFile("S")], "must have the id"],
      [["https://x", "--idle", "0"], "--idle must be a number of seconds"],
      [["https://x", "--idle", "851"], "--idle must be a number of seconds"],
      [["https://x", "--ca", "/none"], "/none cannot be read"],
    ] as const;
    for (const [argv, words] of wrong)
      expect(
        problemsOf(() => readCommand(["doctor", ...argv], {})).join("\n"),
        argv.join(" "),
      ).to.include(words);
  });
});
