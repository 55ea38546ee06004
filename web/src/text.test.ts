import { describe, expect, it } from "vitest";

import type { Device, Key } from "./api";
import { queriesFor } from "./live";
import { badges, isExpired, keyExpiry, keyState, keyTraits, lastSeen, matches, path, relativeTime } from "./text";

const NOW = new Date("2026-03-10T12:00:00Z");

const device = (changes: Partial<Device> = {}): Device => ({
  id: "1",
  nodeId: "n1",
  name: "alpha.example.net",
  hostname: "Alpha",
  addresses: ["100.64.0.1", "fd7a:115c:a1e0::1"],
  user: "admin@example.net",
  os: "linux",
  clientVersion: "0.1.0",
  created: "2026-03-01T00:00:00Z",
  connectedToControl: false,
  keyExpiryDisabled: false,
  authorized: true,
  isEphemeral: false,
  machineKey: "mkey:00",
  nodeKey: "nodekey:00",
  ...changes,
});

describe("times", () => {
  it("are told in the largest whole unit", () => {
    expect(relativeTime("2026-03-10T11:59:30Z", NOW)).toBe("just now");
    expect(relativeTime("2026-03-10T11:58:00Z", NOW)).toBe("2 minutes ago");
    expect(relativeTime("2026-03-10T10:30:00Z", NOW)).toBe("1 hour ago");
    expect(relativeTime("2026-03-13T13:00:00Z", NOW)).toBe("in 3 days");
  });
  it("are 'Connected' while a device is, and 'never' for Go's zero time", () => {
    expect(lastSeen(device({ connectedToControl: true, lastSeen: "2026-03-01T00:00:00Z" }), NOW)).toBe("Connected");
    expect(lastSeen(device({ lastSeen: "0001-01-01T00:00:00Z" }), NOW)).toBe("never");
    expect(lastSeen(device({ lastSeen: "2026-03-10T09:00:00Z" }), NOW)).toBe("3 hours ago");
  });
});

describe("key expiry of a device", () => {
  it("is 'never' when disabled or unset", () => {
    expect(keyExpiry(device({ keyExpiryDisabled: true, expires: "2020-01-01T00:00:00Z" }), NOW)).toBe("never");
    expect(keyExpiry(device({ expires: "0001-01-01T00:00:00Z" }), NOW)).toBe("never");
  });
  it("passes", () => {
    const past = device({ expires: "2026-03-09T12:00:00Z" });
    expect(isExpired(past, NOW)).toBe(true);
    expect(keyExpiry(past, NOW)).toBe("expired 1 day ago");
    expect(badges(past, NOW)).toEqual(["Expired"]);
    expect(keyExpiry(device({ expires: "2026-03-12T12:00:00Z" }), NOW)).toBe("in 2 days");
  });
});

describe("a device's path", () => {
  it("names the home relay with its latency, and counts endpoints", () => {
    const clientConnectivity = {
      endpoints: ["192.0.2.1:41641", "10.0.0.1:41641"],
      latency: { fra: { preferred: true, latencyMs: 12.34 }, nyc: { latencyMs: 90 } },
    };
    expect(path(device({ clientConnectivity }))).toBe("relay fra (12.3 ms), 2 direct endpoints");
    expect(path(device())).toBe("unknown");
  });
});

describe("search", () => {
  it("wants every word somewhere in the row", () => {
    expect(matches(device({ tags: ["tag:ci"] }), "ALPHA tag:ci 100.64")).toBe(true);
    expect(matches(device(), "alpha beta")).toBe(false);
  });
});

describe("a key", () => {
  const key: Key = {
    id: "k1",
    keyType: "auth",
    created: "2026-03-01T00:00:00Z",
    expires: "2026-05-01T00:00:00Z",
    capabilities: { devices: { create: { reusable: false, ephemeral: true, preauthorized: true, tags: ["tag:ci"] } } },
  };
  it("tells its traits", () => {
    expect(keyTraits(key)).toBe("one-off, ephemeral, pre-approved, tag:ci");
    expect(keyTraits({ ...key, keyType: "api", capabilities: {} })).toBe("API token");
  });
  it("tells why it is not valid", () => {
    expect(keyState(key, NOW)).toBe("valid");
    expect(keyState({ ...key, invalid: true }, NOW)).toBe("used up");
    expect(keyState({ ...key, expires: "2026-03-02T00:00:00Z", invalid: true }, NOW)).toBe("expired");
    expect(keyState({ ...key, revoked: "2026-03-02T00:00:00Z", invalid: true }, NOW)).toBe("revoked");
  });
});

describe("an event", () => {
  it("refreshes what it names, or everything when it is not understood", () => {
    expect(queriesFor('{"devices":["n1"]}')).toEqual(["devices"]);
    expect(queriesFor('{"something":1}')).toEqual(["devices", "keys", "pending-logins"]);
    expect(queriesFor("not json")).toEqual(["devices", "keys", "pending-logins"]);
  });
});
