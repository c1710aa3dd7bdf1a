// A hidden server that stops at the moment that a request asks for, and says what it does.
//   /asked never answers, /head stops in an answer's head, /body in its body, /slow sends a part each time it is told on stdin
import { createServer, type Socket } from "node:net";

const PARTS: Readonly<Record<string, string>> = {
  "/asked": "",
  "/head": "HTTP/1.1 200 OK\r\nContent-",
  "/body": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning",
  "/slow": "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nslow",
};

const open = new Set<Socket>();
const slow = new Set<Socket>();

const server = createServer((socket) => {
  open.add(socket);
  let text = "";
  socket.on("error", () => undefined);
  socket.on("close", () => {
    open.delete(socket);
    slow.delete(socket);
    console.log(`closed, ${String(open.size)} left`);
  });
  socket.setEncoding("latin1").on("data", (octets: string) => {
    text += octets;
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) return;
    const [method, path = ""] = text.split(" ", 2);
    const length = /^content-length: (\d+)\r$/im.exec(text.slice(0, end + 2));
    const here = text.length - end - 4;
    if (here < Number(length?.[1] ?? 0)) {
      console.log(`has ${String(here)} octets of a body`);
      return;
    }
    text = "";
    if (path === "/slow") slow.add(socket);
    const part =
      PARTS[path] ??
      `HTTP/1.1 200 OK\r\nContent-Length: ${String(path.length)}\r\n\r\n${path}`;
    // Said only when it has left: whoever is killed then cannot take it with him.
    socket.write(part, () => {
      console.log(`asked ${method ?? ""} ${path}`);
    });
  });
});
process.stdin.on("data", () => {
  for (const socket of slow) socket.write("ness");
});
const [, port = "0"] = process.argv.slice(2);
server.listen(Number(port), "127.0.0.1", () => {
  const address = server.address();
  if (address !== null && typeof address === "object")
    console.log(`listening on ${String(address.port)}`);
});
