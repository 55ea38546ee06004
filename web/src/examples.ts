// What the coordinator answers, for tests: a device, a key, a login that waits, a session, and a server that knows them.

import type { Device, Key, PendingLogin, Session } from "./api";

export const device = (changes: Partial<Device> = {}): Device => ({
  id: "1",
  nodeId: "n1",
  name: "alpha.example.net",
  hostname: "Alpha",
  addresses: ["100.64.0.1", "fd7a:115c:a1e0::1"],
  user: "admin@example.net",
  os: "linux",
  clientVersion: "0.1.0",
  created: "2026-03-01T00:00:00Z",
  expires: "0001-01-01T00:00:00Z",
  connectedToControl: false,
  keyExpiryDisabled: false,
  authorized: true,
  isEphemeral: false,
  machineKey: "mkey:00",
  nodeKey: "nodekey:00",
  ...changes,
});

export const authKey = (changes: Partial<Key> = {}): Key => ({
  id: "k1",
  keyType: "auth",
  description: "",
  created: "2026-03-01T00:00:00Z",
  expires: "2099-05-01T00:00:00Z",
  expirySeconds: 7_776_000,
  userId: "1",
  invalid: false,
  capabilities: { devices: { create: { reusable: false, ephemeral: false, preauthorized: true } } },
  ...changes,
});

export const pendingLogin = (changes: Partial<PendingLogin> = {}): PendingLogin => ({
  id: "p1",
  hostname: "laptop",
  os: "linux",
  clientVersion: "0.1.0",
  machineKey: "mkey:01",
  nodeKey: "nodekey:01",
  isEphemeral: false,
  tags: [],
  created: "2026-03-01T00:00:00Z",
  expires: "2099-03-01T00:00:00Z",
  url: "http://box:8080/login/p1",
  ...changes,
});

export const session: Session & { csrfToken: string } = {
  user: { id: "1", loginName: "admin", displayName: "Admin", role: "owner" },
  tailnet: "example",
  baseDomain: "example.net",
  serverUrl: "http://box:8080",
  version: "0.1.0",
  csrfToken: "csrf",
};

export interface Exchange {
  method: string;
  path: string; // below /api/v2
  headers: Headers;
  body: unknown;
}

// Stands in for `fetch`: answers by "METHOD /path", notes what was asked. An answer that is a number is a refusal.
export class FakeServer {
  readonly asked: Exchange[] = [];
  readonly answers: Record<string, unknown> = {
    "GET /whoami": session,
    "GET /tailnet/-/devices?fields=all": { devices: [] },
    "GET /tailnet/-/keys?all=true": { keys: [] },
    "GET /tailnet/-/pending-logins": { pendingLogins: [] },
  };

  readonly fetch = async (url: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const path = String(url).replace("/api/v2", "");
    const method = init.method ?? "GET";
    const body: unknown = init.body === undefined ? undefined : JSON.parse(String(init.body));
    this.asked.push({ method, path, headers: new Headers(init.headers), body });
    const answer = this.answers[`${method} ${path}`];
    if (typeof answer === "number") {
      return new Response(JSON.stringify({ message: `refused with ${answer}` }), { status: answer });
    }
    if (answer instanceof Error) throw answer;
    return new Response(JSON.stringify(answer ?? {}));
  };

  sent(method: string): Exchange[] {
    return this.asked.filter((exchange) => exchange.method === method);
  }
}

// Stands in for the browser's EventSource, which jsdom lacks.
export class FakeEventSource extends EventTarget {
  static readonly CLOSED = 2;
  static newest: FakeEventSource | undefined;
  readyState = 0;

  constructor(readonly url: string) {
    super();
    FakeEventSource.newest = this;
  }

  say(name: string, data?: unknown): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
  }

  close(): void {
    this.readyState = FakeEventSource.CLOSED;
  }
}
