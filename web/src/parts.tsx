// Small parts that several pages use.

import { type ReactNode, useEffect, useReducer, useRef, useState } from "react";

import { exactTime, relativeTime } from "./text";

const CLOCK_TICK_MS = 15_000; // "3 minutes ago" ages while nobody touches anything

// The moment of this rendering, and one more now and then.
export function useNow(): Date {
  const [, tick] = useReducer((ticks: number) => ticks + 1, 0);
  useEffect(() => {
    const timer = window.setInterval(tick, CLOCK_TICK_MS);
    return () => window.clearInterval(timer);
  }, []);
  return new Date();
}

export function useTitle(page: string): void {
  useEffect(() => {
    document.title = `${page} · Tailbox`;
  }, [page]);
}

export function Failure({ error, retry }: { error: Error; retry?: () => void }) {
  return (
    <div className="failure" role="alert">
      <span>{error.message}</span>
      {retry && <button onClick={retry}>Try again</button>}
    </div>
  );
}

export function Notice({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="card notice" aria-label={title}>
      <h1>{title}</h1>
      {children}
    </section>
  );
}

// A moment, told relative to now; the exact one shows on hovering.
export function When({ time, now, words }: { time: string; now: Date; words?: string }) {
  return (
    <time dateTime={time} title={exactTime(time)}>
      {words ?? relativeTime(time, now)}
    </time>
  );
}

// Copies a text. Browsers allow that on https and this machine only; elsewhere there is nothing to press.
export function CopyButton({ text, label, quiet = false }: { text: string; label: string; quiet?: boolean }) {
  const [isCopied, setCopied] = useState(false);
  const timer = useRef<number>(undefined);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  if (!window.isSecureContext) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    timer.current = window.setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <button type="button" className={quiet ? "copy" : ""} aria-label={label} onClick={() => void copy()}>
      {isCopied ? "Copied" : quiet ? "Copy" : label}
    </button>
  );
}
