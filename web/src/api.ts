// The REST API v2 as the console uses it: shapes and calls. Its description is served at /api/docs.

import { request } from "./request";

export interface Device {
  id: string;
  nodeId: string;
  name: string;
  hostname: string;
  addresses: string[];
  user: string;
  os: string;
  clientVersion: string;
  created: string;
  lastSeen?: string; // absent while connected
  expires: string;
  connectedToControl: boolean;
  keyExpiryDisabled: boolean;
  authorized: boolean;
  isEphemeral: boolean;
  tags?: string[];
  machineKey: string;
  nodeKey: string;
  clientConnectivity?: Connectivity;
}

export interface Connectivity {
  endpoints: string[];
  derp: string; // the name of the home relay's region, or ""
  latency: Record<string, { preferred?: boolean; latencyMs: number }>;
}

export interface PendingLogin {
  id: string;
  hostname: string;
  os: string;
  clientVersion: string;
  machineKey: string;
  nodeKey: string;
  isEphemeral: boolean;
  tags: string[];
  created: string;
  expires: string;
  url: string;
}

export interface Key {
  id: string;
  keyType: "auth" | "api";
  description: string;
  created: string;
  expires: string;
  expirySeconds: number;
  userId: string;
  invalid: boolean;
  key?: string; // the secret: in the answer to the key's creation and never again
  revoked?: string;
  capabilities?: { devices: { create: DeviceCreate } };
}

export interface DeviceCreate {
  reusable: boolean;
  ephemeral: boolean;
  preauthorized: boolean;
  tags?: string[];
}

export interface Session {
  user: { id: string; loginName: string; displayName: string; role: string };
  tailnet: string;
  baseDomain: string;
  serverUrl: string; // what nodes dial
  version: string;
}

export interface NewKey {
  keyType: "auth" | "api";
  description: string;
  days: number;
  create: DeviceCreate; // of an auth key
}

const DAY_S = 86_400;
const device = (id: string) => `/device/${encodeURIComponent(id)}`;
const pending = (id: string) => `/tailnet/-/pending-logins/${encodeURIComponent(id)}`;

export const api = {
  session: () => request<Session>("GET", "/whoami"),
  signOut: () => request("POST", "/sign-out"),
  devices: async () => (await request<{ devices: Device[] }>("GET", "/tailnet/-/devices?fields=all")).devices,
  authorize: (id: string) => request("POST", `${device(id)}/authorized`, { authorized: true }),
  rename: (id: string, name: string) => request("POST", `${device(id)}/name`, { name }),
  setTags: (id: string, tags: string[]) => request("POST", `${device(id)}/tags`, { tags }),
  setKeyExpiry: (id: string, disabled: boolean) =>
    request("POST", `${device(id)}/key`, { keyExpiryDisabled: disabled }),
  expire: (id: string) => request("POST", `${device(id)}/expire`),
  remove: (id: string) => request("DELETE", device(id)),
  pendingLogins: async () =>
    (await request<{ pendingLogins: PendingLogin[] }>("GET", "/tailnet/-/pending-logins")).pendingLogins,
  approve: (id: string) => request("POST", `${pending(id)}/approve`),
  refuse: (id: string) => request("POST", `${pending(id)}/refuse`),
  keys: async () => (await request<{ keys: Key[] }>("GET", "/tailnet/-/keys?all=true")).keys,
  createKey: ({ keyType, description, days, create }: NewKey) =>
    request<Key>("POST", "/tailnet/-/keys", {
      keyType,
      description,
      expirySeconds: days * DAY_S,
      ...(keyType === "auth" ? { capabilities: { devices: { create } } } : {}),
    }),
  revokeKey: (id: string) => request("DELETE", `/tailnet/-/keys/${encodeURIComponent(id)}`),
};
