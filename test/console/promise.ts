// What the console promises about time, measured on a machine that may do other things too.
import assert from "node:assert/strict";

/** hangs ends what would never end. It is long, since no promise depends on it, and a busy machine is slow. */
export const hangs = 2 * 60_000;

/** tries bounds how often a promise is measured before it counts as broken. */
const tries = 8;

/**
 * keeps fails unless a measurement is below a limit, in milliseconds. One that is shows that the console can; those
 * before it were slowed by what else ran. So it takes the best of some tries. On a machine that has more to do than it
 * can, not even the best is a measure of the console: each is divided by how much slower than alone a program ran.
 */
export async function keeps(t: { diagnostic(text: string): void }, limit: number, measure: (n: number) => Promise<number>): Promise<void> {
  const seen: string[] = [];
  let best = Infinity;
  for (let n = 0; n < tries && best >= limit; n++) {
    const before = slowdown();
    const took = await measure(n);
    const slow = Math.max(1, (before + slowdown()) / 2);
    best = Math.min(best, took / slow);
    seen.push(`${took.toFixed(0)} ms${slow > 1.1 ? ` (slowed down ${slow.toFixed(1)} times)` : ""}`);
  }
  t.diagnostic(`after ${seen.join(", ")}`);
  assert.ok(best < limit, `not within ${limit} ms, but after ${seen.join(", ")}`);
}

/** slowdown returns how many times longer than its CPU time a piece of work takes: 1 if nothing else runs. */
function slowdown(): number {
  const cpu = process.cpuUsage();
  const start = performance.now();
  let used = 0;
  while (used < 40) {
    for (let i = 0; i < 1e5; i++) Math.sqrt(i);
    const spent = process.cpuUsage(cpu);
    used = (spent.user + spent.system) / 1000;
  }
  return (performance.now() - start) / used;
}
