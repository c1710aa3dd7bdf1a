// The relay: one port, and which door each request on it goes to.
import { randomBytes } from "node:crypto";
import { createServer, type Server } from "node:net";
import { pino, type Logger } from "pino";
import { CONNECT_TCP_PATH, PARK_PATH, PARK_SCHEME } from "../protocol.ts";
import { adopts } from "../wire/adopt.ts";
import type { RequestHead } from "../wire/head.ts";
import { Link, UNOWNED, acceptLink } from "../wire/link.ts";
import { Auth } from "./auth.ts";
import { addressOf, clientOf, forwardedCount, requestIdOf } from "./client.ts";
import { refuseLink } from "./cookieline.ts";
import { Connection, NO_SERVER } from "./connection.ts";
import { Echoes } from "./echo.ts";
import { Exchange } from "./exchange.ts";
import { createDial } from "./dial.ts";
import { destroyAll, drain } from "./drain.ts";
import { Generic } from "./generic.ts";
import { createForward } from "./forward.ts";
import { Gate, networkOf, refusal } from "./gate.ts";
import { Grants } from "./grants.ts";
import { requestHead } from "./heads.ts";
import { Lot, type LotCounts } from "./lot.ts";
import { hostToId, nameServer } from "./naming.ts";
import { network } from "./network.ts";
import {
  SettingsError,
  checkRevoked,
  checkSettings,
  type Certificate,
  type RelaySettings,
} from "./options.ts";
import { Pages } from "./pages.ts";
import { createPark } from "./park.ts";
import { Rate } from "./rate.ts";
import { Refusals } from "./refusals.ts";
import { Streams } from "./streams.ts";
import { Tls } from "./tls.ts";

/** How often deadlines are looked at: one timer for all of them. */
const SWEEP_MILLISECONDS = 250;
const CHALLENGE_OCTETS = 16;

export interface Relay {
  /** The one port: the caller decides where it listens. */
  readonly server: Server;
  /** The generic protocol's plain port, for GENERIC_PORT; it need not listen. */
  readonly genericServer: Server;
  readonly counts: () => LotCounts & {
    readonly connections: number;
    /** Sockets at both ports, whatever they are for. */
    readonly sockets: number;
    readonly pages: number;
  };
  /**
   * Another certificate for new connections, where the relay was made with one.
   * @throws SettingsError when it cannot be used; the old one stays
   */
  readonly setCertificate: (certificate: Certificate) => void;
  /**
   * Another list of revocations, in the place of REVOKED's. What it revokes ends at once: tunnels with what they carry, waits, registrations and their cookies.
   * @throws SettingsError when it is none; the old one stays
   */
  readonly setRevoked: (revoked: readonly string[]) => void;
  /** Stops: nobody new comes in, what is under way may finish within DRAIN_SECONDS, then all is closed. Called again, it closes all at once. */
  readonly drain: () => Promise<void>;
}

/**
 * Makes a relay that does not listen yet.
 * @throws SettingsError for settings that cannot be
 */
export function createRelay(
  settings: RelaySettings,
  log: Logger = pino({ level: "silent" }),
): Relay {
  const checked = checkSettings(settings);
  const pseudonym = `rendezvous-${randomBytes(4).toString("hex")}`;
  const ownHosts =
    checked.publicUrl === undefined
      ? []
      : [new URL(checked.publicUrl).hostname];
  const options = { ...checked, pseudonym, ownHosts };
  const ownOptions = { ...options, own: true } as const;
  const auth = new Auth(options);
  const lot = new Lot(options, auth);
  const grants = new Grants((id) => auth.keyOf(id), options.parameter);
  let draining = false;
  const pages = new Pages({ ...options, draining: () => draining }, log);
  const park = createPark(lot, auth, options, log);
  const streams = new Streams(options);
  const forward = createForward(lot, streams, options, log);
  const generic = new Generic(lot, auth, streams, options, log);
  const echoes = new Echoes();
  const gate = new Gate(options);
  const rates = new Rate(options.ratePerAddress);
  const refusals = new Refusals(log);
  const dial = createDial(lot, streams, echoes, options, log);
  const connections = new Set<Connection>();
  const links = new Set<Link>();

  function route(connection: Connection, received: RequestHead): void {
    // From here on nobody sees a grant who is not to see it: neither a hidden server nor the log.
    const { request, visa } = grants.take(received);
    if (request.method === "CONNECT" && isHostAndPort(request.target)) {
      if (comesToMeet(connection, request))
        generic.wrapped(connection, request);
      else dial.connect(connection, request, visa);
      return;
    }
    if (request.method === "CONNECT") {
      park.connect(connection, request).catch(parkingFailed(connection));
      return;
    }
    const named = nameServer(request, options);
    const requestId = requestIdOf(request, options.trustProxy);
    switch (named.to) {
      case "server":
        forward(connection, request, named, visa);
        break;
      case "relay":
        if (generic.wants(request, named.target)) {
          generic
            .serve(connection, request, named.target, visa)
            .catch((error: unknown) => {
              log.error({ err: error }, "registering failed");
              connection.refuse("internal_error");
            });
        } else if (named.target.startsWith(CONNECT_TCP_PATH))
          dial.upgrade(connection, request, visa);
        else if (named.target.startsWith(PARK_PATH)) {
          park
            .upgrade(connection, request, named.target)
            .catch(parkingFailed(connection));
        } else servePage(connection, received, named.target);
        break;
      case "challenge":
        connection.refuse("name_wanted", {
          requestId,
          fields: ["WWW-Authenticate", challenge()],
        });
        break;
      case "nobody":
        connection.refuse(named.code, { requestId, detail: named.detail });
    }
  }

  function parkingFailed(connection: Connection): (error: unknown) => void {
    return (error) => {
      log.error({ err: error }, "parking failed");
      connection.refuse("internal_error");
    };
  }

  /** A hidden server that is here, or was, goes before the relay's own name, whatever it was given out as. */
  function comesToMeet({ link }: Connection, request: RequestHead): boolean {
    const { target } = request;
    const id = hostToId(target, options.baseDomain, true);
    if (id === undefined) return generic.isAt(target);
    if (lot.knows(id)) return false;
    // It may be one that is not back yet: nobody makes a place of its name for others.
    const from = network(addressOf(request, link, options.trustProxy));
    return generic.isAt(target, from);
  }

  /** A bug costs its request, and is logged whole. */
  function serve(connection: Connection, request: RequestHead): void {
    try {
      if (isInTime(connection, request)) route(connection, request);
      else refuseHaste(connection, request);
    } catch (error) {
      log.error({ err: error }, "a request failed");
      connection.refuse("internal_error");
    }
  }

  function isInTime({ link }: Connection, request: RequestHead): boolean {
    const address = addressOf(request, link, options.trustProxy);
    return rates.take(network(address), performance.now());
  }

  function refuseHaste(connection: Connection, request: RequestHead): void {
    refusals.count("too_many_requests");
    // What follows was perhaps not meant as a request.
    if (request.method === "CONNECT" || request.upgrade !== undefined) {
      connection.hold(NO_SERVER);
      connection.finishSoon();
    }
    connection.refuse("too_many_requests", {
      detail: "from this network",
      requestId: requestIdOf(request, options.trustProxy),
    });
  }

  function servePage(
    connection: Connection,
    request: RequestHead,
    target: string,
  ): void {
    const client = clientOf(request, connection.link, options);
    const seen = {
      to: "server",
      id: "relay",
      by: "query",
      target,
      host: client.host,
    } as const;
    new Exchange({
      connection,
      request,
      head: requestHead(request, seen, client, true, options),
      carrier: pages.open(forwardedCount(request)),
      extras: {},
      options: ownOptions,
      events: {
        lost: () => {
          connection.refuse("internal_error");
        },
        failed: (code, detail) => {
          connection.refuse(code, { detail });
        },
        // No page answers with a 101.
        switched: (visitor) => {
          visitor.destroy();
        },
      },
    }).start();
  }

  const closed = (connection: Connection): void => {
    connections.delete(connection);
  };
  // The network's errors belong to whoever has the link; any other is a bug of ours.
  function report(error: Error): void {
    if (!("syscall" in error) && !("code" in error))
      log.error({ err: error }, "a connection failed");
  }
  function watch(link: Link): Link {
    link.stream.on("error", report);
    links.add(link);
    return link;
  }
  function begin(link: Link): void {
    const connection = new Connection(watch(link), options, serve, closed);
    connections.add(connection);
    if (draining) connection.finishSoon();
  }
  const tls =
    settings.tls === undefined
      ? undefined
      : new Tls(settings.tls, (stream) => {
          begin(new Link(stream, UNOWNED));
        });
  const server = createServer(PORT_OPTIONS, (socket) => {
    if (!gate.admits(socket)) {
      refusals.count("too_many_connections");
      gate.refuse(socket, tls === undefined ? refusal() : "");
      return;
    }
    const from = networkOf(socket);
    if (tls === undefined) {
      const link = acceptLink(socket, server, UNOWNED);
      gate.enter(link.stream, from);
      begin(link);
    } else {
      gate.enter(socket, from);
      tls.accept(socket);
    }
  });
  const genericServer = createServer(PORT_OPTIONS, (socket) => {
    if (!gate.admits(socket)) {
      refusals.count("too_many_connections");
      gate.refuse(socket, "-ERR too many connections\n");
      return;
    }
    const from = networkOf(socket);
    const link = watch(acceptLink(socket, genericServer, UNOWNED));
    gate.enter(link.stream, from);
    if (!rates.take(from, performance.now())) {
      refusals.count("too_many_requests");
      refuseLink(link, "too many requests");
      return;
    }
    generic.meet(link, {
      address: link.address,
      proto: "http",
      host: undefined,
    });
  });

  const sweep = (): void => {
    const now = performance.now();
    auth.sweep();
    rates.sweep(now);
    refusals.sweep(now);
    grants.sweep(now);
    streams.sweep(now);
    echoes.sweep(now);
    generic.sweep(now);
    lot.sweep(now);
    for (const tunnel of lot.tunnels()) tunnel.sweep(now);
    for (const connection of connections) connection.sweep(now);
    for (const link of links) {
      if (link.over) links.delete(link);
      else link.probe();
    }
  };
  let timer: NodeJS.Timeout | undefined;
  server.on("listening", () => {
    if (!adopts())
      log.warn("this Node allows no more than its slower way to read");
    timer = setInterval(sweep, SWEEP_MILLISECONDS);
  });
  function tidy(): void {
    clearInterval(timer);
    pages.close();
  }
  server.on("close", () => {
    // The generic port may have links that are looked at longer.
    if (!draining) tidy();
  });

  const drainOnce = async (): Promise<void> => {
    if (draining || !server.listening) {
      destroyAll(links);
      return;
    }
    draining = true;
    log.info({ ...lot.counts, connections: connections.size }, "draining");
    tls?.close();
    const ports = [server, genericServer];
    await drain(
      { ports, links, connections, lot, generic, echoes },
      options.drainSeconds * 1000,
    );
    tidy();
  };

  const setCertificate = (certificate: Certificate): void => {
    if (tls === undefined) {
      throw new SettingsError(
        "The relay was made for plain HTTP. Give it `tls` when it is made.",
      );
    }
    tls.setCertificate(certificate);
  };

  const setRevoked = (revoked: readonly string[]): void => {
    const entries = checkRevoked(revoked);
    auth.setRevoked(entries);
    generic.revoke();
    const tunnels = lot.revoke();
    log.info(
      { entries: entries.length, ended: tunnels },
      "the list of revocations has changed",
    );
  };

  return {
    server,
    genericServer,
    setCertificate,
    setRevoked,
    drain: drainOnce,
    counts: () => ({
      ...lot.counts,
      connections: connections.size,
      sockets: gate.count,
      pages: pages.count,
    }),
  };
}

const PORT_OPTIONS = {
  allowHalfOpen: true,
  pauseOnConnect: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: 60 * 1000,
};

/** A CONNECT to park has a scheme instead of a host, and no port. */
function isHostAndPort(target: string): boolean {
  return /^[^/?]*:\d{1,5}$/.test(target) && !target.startsWith(PARK_SCHEME);
}

/** The original protocol's challenge (RFC 7616). The answer only names a server, so that the nonce is not remembered. */
function challenge(): string {
  const [nonce, opaque] = [
    randomBytes(CHALLENGE_OCTETS),
    randomBytes(CHALLENGE_OCTETS),
  ];
  return `Digest realm="rendezvous", qop="auth, auth-int", nonce="${nonce.toString("hex")}", opaque="${opaque.toString("hex")}"`;
}
