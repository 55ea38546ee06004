// The REST API v2 as the console uses it. Every refusal becomes an ApiError with the server's own words.

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
  lastSeen?: string;
  expires?: string;
  connectedToControl: boolean;
  keyExpiryDisabled: boolean;
  authorized: boolean;
  isEphemeral: boolean;
  tags?: string[];
  machineKey: string;
  nodeKey: string;
  clientConnectivity?: {
    endpoints?: string[] | null;
    derp?: string;
    latency?: Record<string, { preferred?: boolean; latencyMs: number }> | null;
  };
}

export interface PendingLogin {
  id: string;
  hostname: string;
  os: string;
  machineKey: string;
  created: string;
  expires: string;
}

export interface Key {
  id: string;
  keyType: string;
  key?: string;
  description?: string;
  created: string;
  expires: string;
  invalid?: boolean;
  revoked?: string;
  capabilities?: {
    devices?: { create?: { reusable: boolean; ephemeral: boolean; preauthorized: boolean; tags?: string[] } };
  };
}

export interface Session {
  user: { id: string; loginName: string; displayName: string };
  tailnet: string;
  csrfToken: string;
}

export interface NewAuthKey {
  description: string;
  days: number;
  reusable: boolean;
  ephemeral: boolean;
  preauthorized: boolean;
  tags: string[];
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const DAY_S = 86_400;
let csrfToken = "";

export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrfToken) headers["X-CSRF-Token"] = csrfToken;
  const response = await fetch(`/api/v2${path}`, {
    method,
    headers,
    credentials: "same-origin",
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new ApiError(response.status, messageOf(text) || response.statusText);
  return (text ? JSON.parse(text) : null) as T;
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message: unknown }).message);
  } catch {
    return text.slice(0, 200);
  }
}

const device = (id: string) => `/device/${encodeURIComponent(id)}`;
const pending = (id: string) => `/tailnet/-/pending-logins/${encodeURIComponent(id)}`;

export const api = {
  async session(): Promise<Session> {
    const session = await request<Session>("GET", "/session");
    csrfToken = session.csrfToken;
    return session;
  },
  async signIn(token: string): Promise<void> {
    await request("POST", "/session", { token });
  },
  async signOut(): Promise<void> {
    await request("DELETE", "/session");
    csrfToken = "";
  },
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
  createAuthKey: ({ description, days, ...create }: NewAuthKey) =>
    request<Key>("POST", "/tailnet/-/keys", {
      keyType: "auth",
      description,
      expirySeconds: days * DAY_S,
      capabilities: { devices: { create } },
    }),
  revokeKey: (id: string) => request("DELETE", `/tailnet/-/keys/${encodeURIComponent(id)}`),
};
