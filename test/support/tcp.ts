// TCP services behind the agent program, and the programs that reach them.
import { expect } from "chai";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "./cleanup.ts";
import {
  NO_PROXIES,
  issueFor,
  startRelayHere,
  type RunningRelay,
} from "./parked.ts";
import {
  PROJECT,
  Program,
  freePort,
  listening,
  run,
  scratch,
  startRendezvous,
} from "./programs.ts";

export const RENDEZVOUS = join(PROJECT, "dist/bin/rendezvous.js");

/** A relay and the agent of `pi`, which has `args` after the relay's URL. Unknown servers are refused soon. */
export async function offer(
  args: readonly (string | number)[],
  env: NodeJS.ProcessEnv = {},
): Promise<RunningRelay & { agent: Program; url: string }> {
  const relay = await startRelayHere({ HOLD_SECONDS: "0.5", ...env });
  const agent = startRendezvous(
    ["park", issueFor("pi", relay.port).url, ...args.map(String)],
    NO_PROXIES,
  );
  await agent.prints(/ is up: /);
  return { ...relay, agent, url: `http://127.0.0.1:${relay.port}` };
}

/** A TCP service in this process, and where it listens. It may half-close. */
export async function startTcp(
  serve: (socket: Socket) => void,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  afterThisTest(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A service that gives back what it gets, its end included. */
export const startEcho = (): Promise<number> =>
  startTcp((socket) => socket.pipe(socket));

/** A service whose queue of connections is full until it is told to accept: says hello then. */
export async function startBlackHole(): Promise<{
  port: number;
  accept: () => void;
}> {
  const program = new Program("python3", [
    "-c",
    `import socket, sys
service = socket.socket()
service.bind(("127.0.0.1", 0))
service.listen(0)
waiting = [socket.socket() for _ in range(3)]
for one in waiting:
    one.setblocking(False)
    one.connect_ex(service.getsockname())
print("full", service.getsockname()[1], flush=True)
sys.stdin.readline()
for one in waiting:
    one.close()
while True:
    connection = service.accept()[0]
    try:
        connection.sendall(b"hello\\n")
    except OSError:
        pass
    waiting.append(connection)
`,
  ]);
  const [, port] = await program.prints(/^full (\d+)$/m);
  return {
    port: Number(port),
    accept: () => program.child.stdin.write("\n"),
  };
}

/** How many connections to a port of this machine have the state: SYN_SENT waits to be accepted. */
export function connectionsTo(
  port: number,
  state: "SYN_SENT" | "ESTABLISHED",
): number {
  const remote = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const code = state === "ESTABLISHED" ? "01" : "02";
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , place = "", is]) => place.endsWith(remote) && is === code)
    .length;
}

/** A certificate for `name` that vouches for itself. */
export async function selfSign(
  name: string,
): Promise<{ cert: string; key: string }> {
  const own = scratch();
  const files = { cert: join(own, "cert.pem"), key: join(own, "key.pem") };
  const { code, output } = await run("openssl", [
    ...["req", "-x509", "-nodes", "-days", "2"],
    ...["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`],
    ...["-keyout", files.key, "-out", files.cert],
  ]);
  expect(code, output).to.equal(0);
  return files;
}

/** nginx with `server` as its one server, which listens on a port that it names as PORT. */
export async function startNginx(server: string): Promise<number> {
  const port = await freePort();
  const own = scratch();
  writeFileSync(
    join(own, "nginx.conf"),
    `daemon off; master_process off; pid ${own}/pid; error_log stderr;
events {}
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${own}/${kind};`).join(" ")}
  server { ${server.replaceAll("PORT", String(port))} }
}`,
  );
  new Program("nginx", ["-c", join(own, "nginx.conf"), "-p", own]);
  await listening(port);
  return port;
}

/** nginx in front of a relay as the documents of WebSocket have it, with short cuts. */
export const startNginxBefore = (
  relay: number,
  seconds: number,
): Promise<number> =>
  startNginx(`listen 127.0.0.1:PORT;
  location / {
    proxy_pass http://127.0.0.1:${relay};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_read_timeout ${seconds}s;
    proxy_send_timeout ${seconds}s;
  }`);

export interface Sshd {
  readonly port: number;
  /** What ssh and scp need to log in: key, and nothing of the machine's own configuration. */
  readonly options: readonly string[];
  /** The user at the hidden server `pi`. */
  readonly login: string;
}

/** OpenSSH's server with keys of its own, for the user who runs the tests. */
export async function startSshd(): Promise<Sshd> {
  const port = await freePort();
  const own = scratch();
  const file = (name: string): string => join(own, name);
  for (const name of ["host", "user"]) {
    const { code, output } = await run("ssh-keygen", [
      ...["-q", "-t", "ed25519", "-N", "", "-f", file(name)],
    ]);
    expect(code, output).to.equal(0);
  }
  writeFileSync(
    file("known_hosts"),
    `pi ${readFileSync(file("host.pub"), "utf8")}`,
  );
  writeFileSync(
    file("sshd_config"),
    `Port ${port}
ListenAddress 127.0.0.1
HostKey ${file("host")}
AuthorizedKeysFile ${file("user.pub")}
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
`,
  );
  chmodSync(file("user"), 0o600);
  const { uid, username } = userInfo();
  // As root it separates privileges with the help of this directory, which the machine's own sshd would have made.
  if (uid === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
  // It wants to be started by its whole path.
  const sshd = new Program("sh", [
    ...["-c", 'exec "$(command -v sshd)" -D -e -f "$1"', "sh"],
    file("sshd_config"),
  ]);
  await sshd.prints(/Server listening/);
  const options = [
    ...["-F", "none", "-i", file("user")],
    ...["IdentitiesOnly=yes", `UserKnownHostsFile=${file("known_hosts")}`],
    "BatchMode=yes",
  ].flatMap((word, index) => (index < 4 ? [word] : ["-o", word]));
  return { port, options, login: `${username}@pi` };
}

/** ssh's option for a ProxyCommand by our own program. */
export const dialCommand = (relay: string, ...args: string[]): string[] => [
  "-o",
  `ProxyCommand="${process.execPath}" "${RENDEZVOUS}" dial ${[relay, "%h", "%p", ...args].join(" ")}`,
];

/** `rendezvous dial`, no proxies in its way. */
export const startDial = (...args: readonly (string | number)[]): Program =>
  startRendezvous(["dial", ...args.map(String)], NO_PROXIES);

/** Where Debian keeps the programs of the PostgreSQL server. */
export function postgresPrograms(): string {
  const home = "/usr/lib/postgresql";
  try {
    const newest = readdirSync(home)
      .sort((a, b) => Number(a) - Number(b))
      .at(-1);
    return join(home, newest ?? "none", "bin");
  } catch {
    return join(home, "none");
  }
}
