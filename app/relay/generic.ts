// The generic door, as the original of 2013 speaks it: register and look up over HTTP, then meet with a cookie line; plain octets afterwards.
import type { Logger } from "pino";
import type { RequestHead } from "../wire/head.ts";
import type { Link } from "../wire/link.ts";
import type { Auth } from "./auth.ts";
import { clientOf } from "./client.ts";
import type { Connection } from "./connection.ts";
import { CookieLine } from "./cookieline.ts";
import type { Visa } from "./grants.ts";
import type { Client } from "./heads.ts";
import type { Lot } from "./lot.ts";
import { Meetings } from "./meetings.ts";
import { Registry, type RegistryOptions } from "./registry.ts";
import { Rendezvous, type RendezvousOptions } from "./rendezvous.ts";
import type { Streams } from "./streams.ts";

export interface GenericOptions extends RegistryOptions, RendezvousOptions {}

export class Generic {
  readonly #options: GenericOptions;
  readonly #auth: Auth;
  readonly #meetings = new Meetings();
  readonly #rendezvous: Rendezvous;
  readonly #registry: Registry;
  /** Links whose cookie line is awaited. */
  readonly #lines = new Set<CookieLine>();

  constructor(
    lot: Lot,
    auth: Auth,
    streams: Streams,
    options: GenericOptions,
    log: Logger,
  ) {
    this.#options = options;
    this.#auth = auth;
    this.#rendezvous = new Rendezvous(
      this.#meetings,
      lot,
      streams,
      options,
      log,
    );
    this.#registry = new Registry(
      this.#meetings,
      this.#rendezvous,
      lot,
      auth,
      options,
      log,
    );
  }

  /** Whether a request for the relay's `/` belongs here. */
  wants(request: RequestHead, target: string): boolean {
    const [path, query = ""] = target.split("?", 2);
    if (path !== "/" && path !== "*") return false;
    return request.method === "PUT" || new URLSearchParams(query).has("uuid");
  }

  /** Whether a CONNECT to `authority` comes to meet; `network` where only who was told this place there may. */
  isAt(authority: string, network?: string): boolean {
    // With PUBLIC_URL everybody is told the same, and nobody can choose it.
    const { publicUrl } = this.#options;
    const among = publicUrl === undefined ? network : undefined;
    return this.#meetings.isAt(authority, among);
  }

  /** Registers with PUT, looks up with GET. */
  async serve(
    connection: Connection,
    request: RequestHead,
    target: string,
    visa: Visa,
  ): Promise<void> {
    await this.#registry.serve(connection, request, target, visa);
  }

  /** A CONNECT to the relay's own authority: what follows the 200 is a cookie line. */
  wrapped(connection: Connection, request: RequestHead): void {
    const client = clientOf(request, connection.link, this.#options);
    const { link, early } = connection.take();
    link.write("HTTP/1.1 200 OK\r\n\r\n");
    this.meet(link, client, early);
  }

  /** Awaits a cookie line on a link. */
  meet(link: Link, client: Client, early?: Buffer): void {
    const line = new CookieLine(link, (ticket, rest) => {
      this.#lines.delete(line);
      if (ticket !== undefined)
        this.#rendezvous.meet(link, client, ticket, rest);
    });
    this.#lines.add(line);
    if (early !== undefined && early.length > 0) line.data(early);
  }

  /** Ends what is revoked. */
  revoke(): void {
    this.#rendezvous.revoke(this.#auth);
  }

  /** Ends what has lasted too long. `now` is of the monotonic clock. */
  sweep(now: number): void {
    for (const line of this.#lines) line.sweep(now);
    this.#meetings.sweep(now);
    this.#rendezvous.sweep(now);
  }

  /** Ends what waits for a cookie line. */
  drain(): void {
    for (const line of this.#lines) line.refuse("restarting");
  }
}
