// Makes Node look like one that does not let accepted sockets be taken over, so that the relay reads them through the public API.
// For NODE_OPTIONS: programs that tests start read so as well, and the product needs no switch.
const { Socket } = require("node:net");

const socket = new Socket().connect(1, "127.0.0.1");
const { _handle: handle } = socket;
// It is gone before it would connect; what all TCP handles have in common stays changed.
socket.destroy();
Object.defineProperty(Object.getPrototypeOf(handle), "useUserBuffer", {
  value: undefined,
});
