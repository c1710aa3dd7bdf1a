// A visitor of the generic protocol: looks up, meets, and joins the stream to its own input and output.
//   initiator HOST:PORT ID wrapped|plain
import { meet } from "./generic.ts";

const [relay = "", id = "", how = ""] = process.argv.slice(2);
// The first octets go out with the cookie line, as a visitor in a hurry sends them.
const socket = await meet(relay, how, `GET /?uuid=${id}`, "early ");
process.stdin.pipe(socket).pipe(process.stdout);
