// What agent, dial and doctor say alike of trouble that is known, and what helps against it.

/** What the relay's refusal of a token means to whoever has sent it. */
export const BAD_TOKEN = "the secret is wrong, or the clocks are apart";

/** The words of an error, with those of OpenSSL for a port without TLS put plainly, and what helps against a certificate that nobody vouches for. */
export function plainly(words: string): string {
  if (/self-signed certificate|unable to (?:get|verify)/.test(words))
    return `${words}; --ca FILE trusts a certificate of your own`;
  return words.replace(
    /^(.*cannot be reached: )?.*(?:wrong version number|packet length too long).*/s,
    "$1it speaks no TLS; begin the URL with http://",
  );
}
