// Makes an id: its secret, and what its owner needs to know. Needs the relay's secret and nothing else, not even the relay.
import { generateURI } from "otplib";
import {
  Revocations,
  deriveKey,
  encodeSecret,
  isId,
  visitUrl,
} from "./protocol.ts";

export interface IssueOptions {
  readonly relaySecret: string;
  readonly relay: URL;
  readonly revoked: readonly string[];
  readonly parameter: string;
  readonly baseDomain?: string | undefined;
}

/** What the owner of a hidden server gets. */
export interface Issued {
  readonly id: string;
  readonly secret: string;
  /** The relay's URL with id and secret, for `rendezvous park`. */
  readonly url: string;
  /** Where visitors come in. */
  readonly visit: string;
  /** For an authenticator app: its codes park a tunnel by hand. */
  readonly otpauth: string;
}

/**
 * Issues an id.
 * @throws RangeError when the text is no id, or the id is revoked
 */
export function issue(text: string, options: IssueOptions): Issued {
  const id = text.toLowerCase();
  if (!isId(id)) {
    throw new RangeError(
      `An id is one DNS label: a-z, 0-9 and inner hyphens, at most 63 characters; got ${JSON.stringify(text)}.`,
    );
  }
  const generation = new Revocations(options.revoked).generationOf(id);
  if (generation === undefined)
    throw new RangeError(
      `${id} is revoked. Take it out of REVOKED or REVOKED_FILE, or choose another id.`,
    );
  const secret = encodeSecret(deriveKey(options.relaySecret, id, generation));
  const url = new URL(options.relay);
  url.username = id;
  url.password = secret;
  return {
    id,
    secret,
    url: url.href.replace(/\/$/, ""),
    visit: visitUrl(options.relay, id, options),
    otpauth: generateURI({ issuer: "rendezvous", label: id, secret }),
  };
}
