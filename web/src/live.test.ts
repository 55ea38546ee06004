import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { device, FakeEventSource } from "./examples";
import { follow, take } from "./live";

let queries: QueryClient;
const stale = (name: string) => queries.getQueryState([name])?.isInvalidated;

beforeEach(() => {
  queries = new QueryClient();
  queries.setQueryData(["devices"], [device()]);
  vi.stubGlobal("EventSource", FakeEventSource);
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe("following the stream", () => {
  it("fetches everything when it opens and when too much was missed", () => {
    const told: string[] = [];
    follow(queries, (connection) => told.push(connection));
    FakeEventSource.newest?.say("open");
    expect(told).toEqual(["live"]);
    expect(stale("devices")).toBe(true);
    queries.setQueryData(["devices"], []);
    FakeEventSource.newest?.say("reset");
    expect(stale("devices")).toBe(true);
  });
  it("opens the stream anew once the browser has given up, and asks who we are", () => {
    queries.setQueryData(["session"], {});
    const stop = follow(queries, () => undefined);
    const first = FakeEventSource.newest!;
    first.say("error");
    vi.advanceTimersByTime(10_000);
    expect(FakeEventSource.newest).toBe(first); // still trying by itself
    first.close();
    first.say("error");
    vi.advanceTimersByTime(10_000);
    expect(FakeEventSource.newest).not.toBe(first);
    expect(stale("session")).toBe(true);
    stop();
    expect(FakeEventSource.newest?.readyState).toBe(FakeEventSource.CLOSED);
  });
});

describe("a message", () => {
  it("that is not understood has everything fetched again", () => {
    take(queries, "{");
    expect(stale("devices")).toBe(true);
  });
  it("about what no page shows changes nothing", () => {
    take(queries, '{"changes":[{"noun":"settings","id":"x","deleted":false}]}');
    expect(stale("devices")).toBe(false);
    expect(queries.getQueryData(["devices"])).toEqual([device()]);
  });
  it("about a list that nobody has asked for yet waits for the asking", () => {
    take(queries, '{"changes":[{"noun":"key","id":"k1","deleted":true}]}');
    expect(queries.getQueryData(["keys"])).toBeUndefined();
  });
});
