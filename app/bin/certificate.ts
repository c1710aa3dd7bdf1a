// The files of the relay's certificate.
import { X509Certificate } from "node:crypto";
import type { Logger } from "pino";
import { readSettingFile, type CertificateFiles } from "../config.ts";
import type { Certificate } from "../relay/options.ts";
import type { Relay } from "../relay/relay.ts";
import type { Reading } from "./files.ts";

const CURE = "Leave TLS_CERT and TLS_KEY out for plain HTTP.";

/**
 * Reads both files.
 * @throws SettingsError when one cannot be read
 */
export function readCertificate(files: CertificateFiles): Certificate {
  return {
    cert: readSettingFile("TLS_CERT", files.cert, CURE),
    key: readSettingFile("TLS_KEY", files.key, CURE),
  };
}

/** Gives the relay what the files have become. */
export function certificateReading(
  files: CertificateFiles,
  first: Certificate,
  relay: Pick<Relay, "setCertificate">,
  log: Logger,
): Reading {
  let current = first;
  log.info(facts(current), "serving TLS");
  return {
    files: [files.cert, files.key],
    unusable: "the new certificate cannot be used, the old one stays",
    load(): void {
      const certificate = readCertificate(files);
      if (certificate.cert === current.cert && certificate.key === current.key)
        return;
      relay.setCertificate(certificate);
      current = certificate;
      log.info(facts(current), "the certificate has changed");
    },
  };
}

/** What tells one certificate from another in the log. */
function facts({ cert }: Certificate): object {
  const { serialNumber, subjectAltName, validTo } = new X509Certificate(cert);
  return { serialNumber, names: subjectAltName, until: validTo };
}
