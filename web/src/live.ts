// Live updates: the event stream says which nouns changed, and the queries that show them are fetched again.

import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

export type Connection = "connecting" | "live" | "lost";

// Noun of an event → queries that depend on it.
const QUERIES: Record<string, string[]> = {
  device: ["devices"],
  devices: ["devices"],
  key: ["keys"],
  keys: ["keys"],
  "pending-login": ["pending-logins"],
  "pending-logins": ["pending-logins"],
};

const REFRESH_DELAY_MS = 100; // one fetch for a burst of changes

export function useLiveUpdates(): Connection {
  const queries = useQueryClient();
  const [connection, setConnection] = useState<Connection>("connecting");
  useEffect(() => {
    const stale = new Set<string>();
    let timer: number | undefined;
    const refresh = (names: readonly string[]) => {
      for (const name of names) stale.add(name);
      timer ??= window.setTimeout(() => {
        timer = undefined;
        for (const name of stale) void queries.invalidateQueries({ queryKey: [name] });
        stale.clear();
      }, REFRESH_DELAY_MS);
    };
    const source = new EventSource("/api/v2/events");
    source.onopen = () => {
      setConnection("live");
      refresh(["devices", "keys", "pending-logins"]); // what happened while we were away
    };
    source.onerror = () => setConnection("lost");
    const onChange = (event: MessageEvent<string>) => refresh(queriesFor(event.data));
    source.addEventListener("message", onChange);
    source.addEventListener("change", onChange);
    return () => {
      source.close();
      window.clearTimeout(timer);
    };
  }, [queries]);
  return connection;
}

// Which queries an event makes stale. An event that says nothing we know refreshes everything.
export function queriesFor(data: string): string[] {
  const everything = ["devices", "keys", "pending-logins"];
  try {
    const nouns = Object.keys(JSON.parse(data) as Record<string, unknown>);
    const names = nouns.flatMap((noun) => QUERIES[noun] ?? []);
    return names.length > 0 ? names : everything;
  } catch {
    return everything;
  }
}
