import { useEffect, useRef, useState } from "preact/hooks";

/** Range is which rows of a list are drawn: from first up to, but not including, end. */
export interface Range {
  first: number;
  end: number;
}

/**
 * useVirtualRows returns which of count rows of a height are near the visible part of the page, and a ref for the
 * element that holds the rows. The others are left out, so that a list of any length is as fast as a short one.
 */
export function useVirtualRows<E extends HTMLElement>(count: number, height: number): { range: Range; box: { current: E | null } } {
  const box = useRef<E>(null);
  const [range, setRange] = useState<Range>({ first: 0, end: Math.min(count, 40) });

  useEffect(() => {
    let frame = 0;
    function measure() {
      frame = 0;
      const top = box.current?.getBoundingClientRect().top ?? 0;
      const overscan = 12;
      const first = Math.max(0, Math.min(count, Math.floor(-top / height) - overscan));
      const end = Math.min(count, Math.ceil((innerHeight - top) / height) + overscan);
      setRange((old) => (old.first === first && old.end === end ? old : { first, end: Math.max(first, end) }));
    }
    function later() {
      frame ||= requestAnimationFrame(measure);
    }
    measure();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    // What is above the rows may grow or shrink too.
    const resized = new ResizeObserver(later);
    resized.observe(document.body);
    return () => {
      cancelAnimationFrame(frame);
      resized.disconnect();
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
    };
  }, [count, height]);

  return { range: { first: Math.min(range.first, count), end: Math.min(range.end, count) }, box };
}

/** useNarrow returns whether the window is narrower than the two-column layout. */
export function useNarrow(): boolean {
  const [narrow, setNarrow] = useState(() => matchMedia("(max-width: 860px)").matches);
  useEffect(() => {
    const query = matchMedia("(max-width: 860px)");
    const change = () => setNarrow(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  return narrow;
}
