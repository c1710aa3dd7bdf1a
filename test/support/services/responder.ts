// A hidden server of the generic protocol: registers, waits, and gives what it gets back in capital letters.
//   responder HOST:PORT ID TOKEN wrapped|plain
import { meet } from "./generic.ts";

const [relay = "", id = "", token = "", how = ""] = process.argv.slice(2);
const query = `uuid=${id}&response=${token}`;
const socket = await meet(relay, how, `PUT /?${query}`, "");
socket.on("data", (octets: Buffer) => {
  socket.write(octets.toString().toUpperCase());
});
socket.on("end", () => socket.end("BYE\n"));
