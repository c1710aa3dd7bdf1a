// What a process uses, as the kernel counts it (proc(5)).
import { readFileSync, readdirSync, readlinkSync } from "node:fs";

/** USER_HZ, the unit of /proc/PID/stat: 100 on every Linux. */
const TICKS_PER_SECOND = 100;

interface Process {
  readonly pid: number;
}

/** User and system time of a process with all its threads (fields 14 and 15 of stat). */
export function cpuSecondsOf({ pid }: Process): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The second field is the program's name, in parentheses, and may have spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The memory of a process in MB: what it holds now, and the most it has ever held. */
export function memoryOf({ pid }: Process): { now: number; most: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
  return { now: read("VmRSS"), most: read("VmHWM") };
}

/** The sockets that a process holds, TCP only. */
export function socketsOf({ pid }: Process): number {
  const tcp = new Set<string>();
  for (const table of ["tcp", "tcp6"]) {
    for (const line of readFileSync(`/proc/${pid}/net/${table}`, "utf8")
      .split("\n")
      .slice(1))
      tcp.add(line.trim().split(/\s+/)[9] ?? "");
  }
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(
        readlinkSync(`/proc/${pid}/fd/${fd}`),
      )?.[1];
      return inode !== undefined && tcp.has(inode);
    } catch {
      // Closed since it was listed.
      return false;
    }
  }).length;
}
