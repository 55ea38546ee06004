// The event stream's messages, and what they do to the lists that the console holds. Pure.

import type { Device, Key, PendingLogin } from "./api";

export interface Lists {
  devices: Device[];
  keys: Key[];
  "pending-logins": PendingLogin[];
}

export type ListName = keyof Lists;
export const LIST_NAMES: readonly ListName[] = ["devices", "keys", "pending-logins"];

// One thing that changed. The member named like the noun shows it as it is now; a deleted thing has none.
export interface Changed {
  noun: string;
  id: string;
  deleted: boolean;
  device?: Device;
  key?: Key;
  pendingLogin?: PendingLogin;
}

const LIST_OF: Record<string, ListName> = { device: "devices", key: "keys", pendingLogin: "pending-logins" };

export const listOf = (changed: Changed): ListName | undefined => LIST_OF[changed.noun];

const idOf = (entry: object): string => ("nodeId" in entry ? String(entry.nodeId) : String((entry as { id: unknown }).id));

// The list with one change in it: the entry replaced, added at the end, or taken out.
export function withChange<T extends object>(list: readonly T[], changed: Changed): T[] {
  const current = (changed.device ?? changed.key ?? changed.pendingLogin) as T | undefined;
  if (changed.deleted || current === undefined) return list.filter((entry) => idOf(entry) !== changed.id);
  if (!list.some((entry) => idOf(entry) === changed.id)) return [...list, current];
  return list.map((entry) => (idOf(entry) === changed.id ? current : entry));
}

// The changes in a message of the stream; null when it is not understood.
export function parseChanges(data: string): Changed[] | null {
  try {
    const { changes } = JSON.parse(data) as { changes?: unknown };
    return Array.isArray(changes) ? (changes as Changed[]) : null;
  } catch {
    return null;
  }
}
