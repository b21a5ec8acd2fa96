// Checks entries of the audit trail as `hutong audit verify` does, in the browser.
import type { Entry, Trail } from "./party";

export type Verdict =
  | { state: "good"; entries: number; hashed: boolean; gaps: boolean }
  | { state: "bad"; seq: number; why: "hash" | "prev" | "head" | "missing" };

const genesis = "0".repeat(64);

/** fields returns what the hash of an entry covers, in its order. */
function fields(e: Entry): string[] {
  return [
    "hutong-audit-1", e.prev, String(e.seq), micros(e.time), e.kind, e.node ?? "", e.name ?? "",
    e.run?.job_id ?? "", e.run?.task_id ?? "", e.run?.role ?? "", e.proof ?? "", e.credential ?? "", e.address ?? "",
    e.act, e.object?.kind ?? "", e.object?.id ?? "", e.outcome, e.reason ?? "", String(e.count), e.digest ?? "",
  ];
}

/** micros returns a time in microseconds since 1970. Date keeps only milliseconds. */
function micros(time: string): string {
  const fraction = (/\.(\d+)/.exec(time)?.[1] ?? "").padEnd(6, "0").slice(0, 6);
  const seconds = Date.parse(time.replace(/\.\d+/, "")) / 1000;
  return String(seconds * 1_000_000 + Number(fraction));
}

/** encode returns the fields as netstrings. */
function encode(list: string[]): Uint8Array<ArrayBuffer> {
  const utf8 = new TextEncoder();
  return utf8.encode(list.map((f) => `${utf8.encode(f).length}:${f},`).join(""));
}

async function sum(e: Entry): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", encode(fields(e)));
  return [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * verify checks entries, latest first: the hash of each, and that it names the one before. Without a filter none may
 * be missing from the head on. Browsers compute hashes only over HTTPS and on the machine itself; elsewhere only
 * the order of the hashes is checked.
 */
export async function verify(trail: Trail, filtered: boolean): Promise<Verdict> {
  const hashed = globalThis.isSecureContext && crypto.subtle !== undefined;
  let gaps = false;
  let later: Entry | undefined;
  // The party reads the head before the entries, so that they reach it.
  const reached = trail.entries[0]?.seq ?? 0;
  if (!filtered && reached < trail.head.seq) return { state: "bad", seq: trail.head.seq, why: "missing" };
  for (const e of trail.entries) {
    if (e.seq === trail.head.seq && e.hash !== trail.head.hash) return { state: "bad", seq: e.seq, why: "head" };
    if (later && later.seq === e.seq + 1) {
      if (later.prev !== e.hash) return { state: "bad", seq: later.seq, why: "prev" };
    } else if (later && !filtered) {
      return { state: "bad", seq: later.seq - 1, why: "missing" };
    } else if (later) {
      gaps = true;
    }
    const first = e.seq === (trail.base?.seq ?? 0) + 1;
    if (first && e.prev !== (trail.base?.hash ?? genesis)) return { state: "bad", seq: e.seq, why: "prev" };
    if (hashed && (await sum(e)) !== e.hash) return { state: "bad", seq: e.seq, why: "hash" };
    later = e;
  }
  return { state: "good", entries: trail.entries.length, hashed, gaps };
}
