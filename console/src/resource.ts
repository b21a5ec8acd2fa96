// Loads what a page shows, and loads it again when it may have changed.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api/client";
import { onChange, reached, type Change } from "./live";

export interface Resource<T> {
  data: T | undefined;
  error: Error | undefined;
  loading: boolean;
  reload: () => void;
}

// Changes within this time cause one request.
const gather = 200;

/**
 * useResource loads with load and again whenever key changes, or when a change for which concerns returns true
 * is reported. It keeps what it has while it loads again. Without concerns it does not load again.
 */
export function useResource<T>(
  key: string,
  load: (abort: AbortSignal) => Promise<T>,
  concerns?: (change: Change) => boolean,
): Resource<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: Error; loading: boolean }>({
    key,
    loading: true,
  });
  const again = useRef<() => void>(() => {});
  const latest = useRef({ load, concerns });
  latest.current = { load, concerns };

  useEffect(() => {
    const abort = new AbortController();
    let running = false;
    let wanted = false;
    let timer: ReturnType<typeof setTimeout> | undefined;

    async function run(): Promise<void> {
      if (running) {
        wanted = true;
        return;
      }
      running = true;
      do {
        wanted = false;
        try {
          const data = await latest.current.load(abort.signal);
          if (abort.signal.aborted) return;
          reached(true);
          setState({ key, data, loading: false });
        } catch (e) {
          if (abort.signal.aborted) return;
          const error = e instanceof Error ? e : new Error(String(e));
          if (error instanceof ApiError && error.status === 0) reached(false);
          setState((old) => ({
            key,
            ...(old.key === key && old.data !== undefined ? { data: old.data } : {}),
            error,
            loading: false,
          }));
        }
      } while (wanted);
      running = false;
    }

    setState((old) => (old.key === key ? { ...old, loading: true } : { key, loading: true }));
    void run();
    again.current = () => void run();
    const forget = onChange((change) => {
      if (!latest.current.concerns?.(change) || timer) return;
      timer = setTimeout(() => {
        timer = undefined;
        void run();
      }, gather);
    });
    return () => {
      abort.abort();
      clearTimeout(timer);
      forget();
    };
  }, [key]);

  const current = state.key === key;
  return {
    data: current ? state.data : undefined,
    error: current ? state.error : undefined,
    loading: !current || state.loading,
    reload: () => again.current(),
  };
}

/** ofJob returns a filter of the changes of one job. */
export function ofJob(id: string): (change: Change) => boolean {
  return (c) => !c.kind || ((c.kind === "job" || c.kind === "task" || c.kind === "approval") && c.job_id === id);
}

/** ofKinds returns a filter of kinds of changes. */
export function ofKinds(...kinds: NonNullable<Change["kind"]>[]): (change: Change) => boolean {
  return (c) => !c.kind || kinds.includes(c.kind);
}
