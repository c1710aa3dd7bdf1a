// Failures, as programs and as people get them.
import { expect } from "chai";
import {
  escapeHtml,
  failure,
  failureCodes,
  tellFailure,
  type FailureCode,
} from "../../app/errors.ts";

function tell(
  code: FailureCode,
  more: Partial<Parameters<typeof tellFailure>[0]> = {},
): ReturnType<typeof tellFailure> & {
  field: (name: string) => string | undefined;
} {
  const told = tellFailure({ code, requestId: "id-1", ...more });
  const field = (name: string): string | undefined => {
    const at = told.fields.findIndex(
      (text, i) => i % 2 === 0 && text.toLowerCase() === name,
    );
    return at < 0 ? undefined : told.fields[at + 1];
  };
  return { ...told, field };
}

describe("a failure", () => {
  it("has a code from a closed table", () => {
    expect(failureCodes).to.include.members([
      "unknown_server",
      "server_offline",
      "busy",
      "no_answer",
      "bad_answer",
      "local_service_down",
      "ambiguous_name",
      "bad_request",
      "bad_token",
    ]);
  });

  for (const code of failureCodes) {
    it(`${code} is problem+json for a program, with the original's member`, () => {
      const { status, reason, body, field } = tell(code);
      const {
        text,
        diagnostic,
        permanent,
        retryAfter,
        challenge,
        proxyStatus,
      } = failure(code);
      expect(status).to.be.within(400, 599);
      expect(JSON.parse(body)).to.deep.equal({
        title: reason,
        status,
        detail: text,
        code,
        request_id: "id-1",
        error: {
          permanent: permanent ?? false,
          diagnostic: diagnostic ?? text,
        },
      });
      expect(field("content-type")).to.equal("application/problem+json");
      expect(field("content-length")).to.equal(String(Buffer.byteLength(body)));
      expect(field("cache-control")).to.equal("no-store");
      expect(field("x-request-id")).to.equal("id-1");
      expect(field("retry-after")).to.equal(retryAfter?.toString());
      expect(field("proxy-status")).to.equal(
        proxyStatus && `rendezvous; error=${proxyStatus}; details="${code}"`,
      );
      if (challenge !== undefined)
        expect(field(challenge[0].toLowerCase())).to.equal(challenge[1]);
      expect(text).to.match(/^[A-Z].*\.$/);
    });

    it(`${code} is a readable page for a browser`, () => {
      const { status, body, field } = tell(code, {
        accept: "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
      });
      expect(field("content-type")).to.equal("text/html; charset=utf-8");
      expect(field("content-security-policy")).to.include("default-src 'none'");
      expect(field("x-content-type-options")).to.equal("nosniff");
      expect(field("content-length")).to.equal(String(Buffer.byteLength(body)));
      expect(body)
        .to.include(escapeHtml(failure(code).text))
        .and.include(`${status} ${code}, request id-1`);
    });
  }

  it("with 401 or 407 says how to log in, and one that says so may be tried again", () => {
    expect(tell("bad_token").field("www-authenticate")).to.equal(
      'Bearer realm="rendezvous"',
    );
    expect(tell("missing_token").field("proxy-authenticate")).to.equal(
      'Basic realm="rendezvous"',
    );
    for (const code of failureCodes) {
      const { status, permanent, retryAfter } = failure(code);
      if (status === 503) expect(retryAfter, code).to.be.above(0);
      if (permanent === true) expect(retryAfter, code).to.be.undefined;
    }
  });

  it("keeps the original's words for what its clients know", () => {
    const words = (code: FailureCode): unknown =>
      (JSON.parse(tell(code).body) as { error: unknown }).error;
    expect(words("wrong_scheme")).to.deep.equal({
      permanent: false,
      diagnostic: "invalid protocol, should be uuid:",
    });
    expect(words("missing_token")).to.deep.equal({
      permanent: false,
      diagnostic: "missing response parameter",
    });
    expect(words("early_data")).to.deep.equal({
      permanent: false,
      diagnostic: "wait for response to CONNECT before sending data",
    });
    expect(words("bad_token")).to.deep.equal({
      permanent: false,
      diagnostic: "invalid request",
    });
    expect(words("unknown_server")).to.deep.equal({
      permanent: false,
      diagnostic: "UUID not registered",
    });
    expect(words("bad_authorization")).to.deep.equal({
      permanent: true,
      diagnostic: "invalid Authorization header",
    });
  });

  it("shows what exactly was wrong, and a way out, with nothing that a page could run", () => {
    const evil = `<script>alert("1")</script>&'`;
    const { body } = tell("bad_request", {
      accept: "text/html",
      detail: evil,
      requestId: evil,
      wayOut: { href: `/"${evil}`, text: evil },
    });
    expect(body).to.not.include("<script").and.not.include("&'");
    expect(body).to.include(
      "&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62;&#38;&#39;",
    );
    expect(body).to.include('<a href="/&#34;&#60;script');
    const { detail, error } = JSON.parse(
      tell("bad_request", { detail: evil }).body,
    ) as { detail: string; error: { diagnostic: string } };
    expect(detail).to.include(evil);
    expect(error.diagnostic).to.equal(detail);
  });

  it("is problem+json for whoever does not ask for HTML", () => {
    for (const accept of [
      "*/*",
      "application/json",
      "",
      "text/htmlx-is-not-it".replace("htmlx", "xhtml"),
    ])
      expect(tell("busy", { accept }).field("content-type"), accept).to.equal(
        "application/problem+json",
      );
    expect(
      tell("busy", { accept: "TEXT/HTML" }).field("content-type"),
    ).to.match(/^text\/html/);
  });
});
