// The registry of the generic protocol: PUT registers an id, GET looks it up, and either is told a place and a cookie in JSON.
import type { Logger } from "pino";
import type { FailureCode } from "../errors.ts";
import { isId } from "../protocol.ts";
import type { RequestHead } from "../wire/head.ts";
import type { Auth } from "./auth.ts";
import { clientOf, type TrustOptions } from "./client.ts";
import { NO_SERVER, type Connection } from "./connection.ts";
import type { Visa } from "./grants.ts";
import type { Lot } from "./lot.ts";
import type { Meetings } from "./meetings.ts";
import { network } from "./network.ts";
import { MEETING_PORT, type Rendezvous } from "./rendezvous.ts";

export interface RegistryOptions extends TrustOptions {
  /** The second, plain port, where there is one. */
  readonly genericPort: number | undefined;
}

interface Place {
  readonly host: string;
  readonly port: number;
}

export class Registry {
  readonly #meetings: Meetings;
  readonly #rendezvous: Rendezvous;
  readonly #lot: Lot;
  readonly #auth: Auth;
  readonly #options: RegistryOptions;
  readonly #log: Logger;

  constructor(
    meetings: Meetings,
    rendezvous: Rendezvous,
    lot: Lot,
    auth: Auth,
    options: RegistryOptions,
    log: Logger,
  ) {
    this.#meetings = meetings;
    this.#rendezvous = rendezvous;
    this.#lot = lot;
    this.#auth = auth;
    this.#options = options;
    this.#log = log;
  }

  /** Answers a request whose `target` is the relay's `/` with a query. */
  async serve(
    connection: Connection,
    request: RequestHead,
    target: string,
    visa: Visa,
  ): Promise<void> {
    const query = new URLSearchParams(target.split("?", 2)[1] ?? "");
    const uuid = query.get("uuid");
    if (request.method !== "PUT" && request.method !== "GET")
      reply(connection, 405, error(true, "method not allowed"), [
        "Allow",
        "GET, PUT",
      ]);
    else if (uuid === null || uuid === "")
      reply(connection, 404, error(true, "missing uuid parameter"));
    else if (!isId(uuid.toLowerCase()))
      reply(connection, 404, error(true, "invalid uuid parameter"));
    else if (request.method === "GET")
      this.#lookUp(connection, request, uuid.toLowerCase(), visa);
    else
      await this.#register(
        connection,
        request,
        uuid.toLowerCase(),
        query.get("response") ?? "",
      );
  }

  async #register(
    connection: Connection,
    request: RequestHead,
    id: string,
    token: string,
  ): Promise<void> {
    const { address } = clientOf(request, connection.link, this.#options);
    const refuse = (code: FailureCode): void => {
      this.#log.info(
        { id, code, client: address },
        "a registration was refused",
      );
      connection.refuse(code);
    };
    if (token === "") {
      refuse("missing_token");
      return;
    }
    connection.hold(NO_SERVER);
    const generation = this.#auth.generationOf(id);
    const denied =
      (await this.#auth.refuse(id, token, address)) ?? this.#lot.refuses(id);
    if (connection.link.ended) return;
    if (denied !== undefined || generation === undefined) {
      refuse(denied ?? "revoked");
      return;
    }
    const former = this.#meetings.of(id);
    if (former !== undefined)
      this.#rendezvous.dismiss(former, "registered again");
    const place = this.#placeOf(connection, request);
    const cookie = this.#meetings.register(
      { id, generation },
      { authority: authorityOf(place), network: network(address) },
    );
    reply(connection, 200, { result: { ...place, cookie: `R${cookie}` } });
  }

  #lookUp(
    connection: Connection,
    request: RequestHead,
    id: string,
    visa: Visa,
  ): void {
    const isPrivate = this.#lot.isPrivate(id);
    const denial = isPrivate
      ? visa.enter({ id, port: MEETING_PORT })
      : undefined;
    const { address } = clientOf(request, connection.link, this.#options);
    if (denial !== undefined) {
      const { code, detail } = denial;
      this.#log.info({ id, code, client: address }, "a look-up was refused");
      connection.refuse(code, { detail });
      return;
    }
    const place = this.#placeOf(connection, request);
    const parked = this.#lot.has(id) ? this.#auth.generationOf(id) : undefined;
    const cookie = this.#meetings.lookUp(id, authorityOf(place), parked, {
      network: network(address),
      visa: isPrivate ? visa.kept : undefined,
    });
    if (cookie === undefined)
      reply(connection, 200, error(false, "not registered"));
    else reply(connection, 200, { result: { ...place, cookie: `I${cookie}` } });
  }

  /** Where both sides are to come. */
  #placeOf(connection: Connection, request: RequestHead): Place {
    const { publicUrl, genericPort } = this.#options;
    const { proto, host } = clientOf(request, connection.link, this.#options);
    const origin = publicUrl ?? `${proto}://${host ?? ""}`;
    const url = new URL(URL.canParse(origin) ? origin : "http://localhost");
    const port =
      url.port === ""
        ? url.protocol === "https:"
          ? 443
          : 80
        : Number(url.port);
    return { host: url.hostname, port: genericPort ?? port };
  }
}

function authorityOf({ host, port }: Place): string {
  return `${host}:${String(port)}`;
}

function error(permanent: boolean, diagnostic: string): object {
  return { error: { permanent, diagnostic } };
}

function reply(
  connection: Connection,
  status: number,
  document: object,
  fields: readonly string[] = [],
): void {
  const body = `${JSON.stringify(document)}\n`;
  connection.answer(
    status,
    [
      "Content-Type",
      "application/json",
      "Cache-Control",
      "no-store",
      "Content-Length",
      String(Buffer.byteLength(body)),
      ...fields,
    ],
    body,
  );
}
