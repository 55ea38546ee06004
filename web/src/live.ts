// Live updates: the event stream shows what changed, and the lists on the page take it in without asking again.

import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { LIST_NAMES, type ListName, type Lists, listOf, parseChanges, withChange } from "./changes";

export type Connection = "connecting" | "live" | "lost";

const REOPEN_DELAY_MS = 3_000; // the browser gives up for good after an answer that is not a stream

export function useLiveUpdates(): Connection {
  const queries = useQueryClient();
  const [connection, setConnection] = useState<Connection>("connecting");
  useEffect(() => follow(queries, setConnection), [queries]);
  return connection;
}

// Follows the stream until the returned function is called.
export function follow(queries: QueryClient, tell: (connection: Connection) => void): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const open = () => {
    source = new EventSource("/api/v2/events");
    source.addEventListener("open", () => {
      tell("live");
      refresh(queries, LIST_NAMES); // what happened while nobody listened
    });
    source.addEventListener("change", (event) => take(queries, (event as MessageEvent<string>).data));
    source.addEventListener("reset", () => refresh(queries, LIST_NAMES));
    source.addEventListener("error", () => {
      tell("lost");
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      void queries.invalidateQueries({ queryKey: ["session"] }); // perhaps it has ended
      timer = setTimeout(open, REOPEN_DELAY_MS);
    });
  };
  open();
  return () => {
    source.close();
    clearTimeout(timer);
  };
}

// Puts a message's changes into the lists. A message that is not understood has everything fetched again.
export function take(queries: QueryClient, data: string): void {
  const changes = parseChanges(data);
  if (changes === null) return refresh(queries, LIST_NAMES);
  for (const changed of changes) {
    const name = listOf(changed);
    if (name === undefined) continue; // a noun that no page shows
    if (queries.isFetching({ queryKey: [name] }) > 0) {
      refresh(queries, [name]); // the answer under way may be older than this change
    } else {
      queries.setQueryData<Lists[ListName]>(
        [name],
        (list) => list && (withChange(list as object[], changed) as Lists[ListName]),
      );
    }
  }
}

function refresh(queries: QueryClient, names: readonly ListName[]): void {
  for (const name of names) void queries.invalidateQueries({ queryKey: [name] });
}
