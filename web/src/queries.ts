// What the pages ask of the coordinator, and how they change it.

import { MutationCache, QueryCache, QueryClient, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { api } from "./api";
import { LIST_NAMES } from "./changes";
import { ApiError, isSignedOut } from "./request";

export function makeQueryClient(): QueryClient {
  // A session that has ended shows at whatever is asked next; asking who we are then brings the sign-in page.
  const noteSignOut = (error: Error) => {
    if (isSignedOut(error)) void client.resetQueries({ queryKey: ["session"] });
  };
  const client: QueryClient = new QueryClient({
    queryCache: new QueryCache({
      onError: (error, query) => query.queryKey[0] !== "session" && noteSignOut(error),
    }),
    mutationCache: new MutationCache({ onError: noteSignOut }),
    defaultOptions: {
      // "always": a browser without the internet still reaches a coordinator on its own network.
      queries: { retry: isWorthRetry, staleTime: 30_000, networkMode: "always" },
      mutations: { networkMode: "always" },
    },
  });
  return client;
}

const isWorthRetry = (failures: number, error: Error): boolean =>
  failures < 1 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500);

export const useSession = () => useQuery({ queryKey: ["session"], queryFn: api.session, staleTime: 300_000 });
export const useDevices = () => useQuery({ queryKey: ["devices"], queryFn: api.devices });
export const useKeys = () => useQuery({ queryKey: ["keys"], queryFn: api.keys });
export const usePendingLogins = () => useQuery({ queryKey: ["pending-logins"], queryFn: api.pendingLogins });

// A change to the tailnet: performs the given call, then shows its outcome at once.
export function useChange() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (perform: () => Promise<unknown>) => perform(),
    onSuccess: () => Promise.all(LIST_NAMES.map((name) => queries.invalidateQueries({ queryKey: [name] }))),
  });
}
