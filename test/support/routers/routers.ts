// Every router that the tests put in front of the relay.
import { APACHE } from "./apache.ts";
import { CADDY } from "./caddy.ts";
import { HAPROXY } from "./haproxy.ts";
import { NGINX } from "./nginx.ts";
import { CLOUDFLARE, HEROKU } from "./own.ts";
import type { RouterKind } from "./router.ts";
import { VARNISH } from "./varnish.ts";

export const ROUTERS: readonly RouterKind[] = [
  ...NGINX,
  HAPROXY,
  CADDY,
  ...APACHE,
  VARNISH,
  HEROKU,
  CLOUDFLARE,
];
