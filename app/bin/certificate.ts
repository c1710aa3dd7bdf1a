// The files of the relay's certificate: read at the start, and again on SIGHUP and when they change.
import { X509Certificate } from "node:crypto";
import { readFileSync, unwatchFile, watchFile, type Stats } from "node:fs";
import process from "node:process";
import type { Logger } from "pino";
import type { CertificateFiles } from "../config.ts";
import { SettingsError, type Certificate } from "../relay/options.ts";
import type { Relay } from "../relay/relay.ts";

/** Looked at by name: whoever renews a certificate moves a link or a new file into its place, and a watch on the old one would miss that. */
const LOOK_MILLISECONDS = 2 * 1000;
/** Certificate and key are written one after the other. */
const SETTLE_MILLISECONDS = 500;

/**
 * Reads both files.
 * @throws SettingsError when one cannot be read
 */
export function readCertificate(files: CertificateFiles): Certificate {
  return {
    cert: read("TLS_CERT", files.cert),
    key: read("TLS_KEY", files.key),
  };
}

/** Gives the relay what the files have become. What cannot be used is logged, and the old certificate stays. Returns how to stop. */
export function keepCertificate(
  files: CertificateFiles,
  first: Certificate,
  relay: Pick<Relay, "setCertificate">,
  log: Logger,
): () => void {
  let current = first;
  let settling: NodeJS.Timeout | undefined;
  log.info(facts(current), "serving TLS");
  const load = (): void => {
    try {
      const certificate = readCertificate(files);
      if (certificate.cert === current.cert && certificate.key === current.key)
        return;
      relay.setCertificate(certificate);
      current = certificate;
      log.info(facts(current), "the certificate has changed");
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      log.error(
        { reason: error.message },
        "the new certificate cannot be used, the old one stays",
      );
    }
  };
  const look = (now: Stats, before: Stats): void => {
    // Reading a file changes its times too.
    if (now.mtimeMs === before.mtimeMs && now.ino === before.ino) return;
    clearTimeout(settling);
    settling = setTimeout(load, SETTLE_MILLISECONDS).unref();
  };
  for (const file of [files.cert, files.key])
    watchFile(file, { interval: LOOK_MILLISECONDS, persistent: false }, look);
  process.on("SIGHUP", load);
  return () => {
    clearTimeout(settling);
    for (const file of [files.cert, files.key]) unwatchFile(file, look);
  };
}

function read(variable: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new SettingsError(
      `${variable} must be a file that the relay can read: ${error instanceof Error ? error.message : String(error)}. Leave TLS_CERT and TLS_KEY out for plain HTTP.`,
    );
  }
}

/** What tells one certificate from another in the log. */
function facts({ cert }: Certificate): object {
  const { serialNumber, subjectAltName, validTo } = new X509Certificate(cert);
  return { serialNumber, names: subjectAltName, until: validTo };
}
