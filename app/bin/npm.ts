// npm and npx run a program by a shell, and a signal that ends that shell never comes to the program: it would stay, and serve on, with nobody to end it.
import process from "node:process";

/** What npm says of itself to what it runs: `npm start`, or `npx`. */
const EVENTS = ["start", "npx"];
/** The system tells nobody that his parent is gone. */
const LOOK_MILLISECONDS = 500;

/** Calls `leave`, once, when npm or npx has run this program and its shell is gone. */
export function leaveWithNpm(leave: () => void): void {
  if (!EVENTS.includes(process.env["npm_lifecycle_event"] ?? "")) return;
  const shell = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(timer);
    leave();
  }, LOOK_MILLISECONDS).unref();
}
