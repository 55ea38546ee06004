import { describe, expect, it } from "vitest";

import { authKey, device } from "./examples";
import {
  badges,
  homeRelay,
  isExpired,
  joinCommand,
  keyExpiry,
  keyState,
  keyTraits,
  lastSeen,
  matches,
  relativeTime,
  tagsIn,
} from "./text";

const NOW = new Date("2026-03-10T12:00:00Z");

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

describe("a device's home relay", () => {
  it("comes with its latency, as far as the device told", () => {
    const latency = { Home: { preferred: true, latencyMs: 12.34 }, "New York City": { latencyMs: 90 } };
    expect(homeRelay(device({ clientConnectivity: { endpoints: [], derp: "Home", latency } }))).toBe(
      "relay Home, 12.3 ms",
    );
    expect(homeRelay(device({ clientConnectivity: { endpoints: [], derp: "Home", latency: {} } }))).toBe("relay Home");
    expect(homeRelay(device({ clientConnectivity: { endpoints: [], derp: "", latency: {} } }))).toBe("");
  });
});

describe("search", () => {
  it("wants every word somewhere in the row", () => {
    expect(matches(device({ tags: ["tag:ci"] }), "ALPHA tag:ci 100.64")).toBe(true);
    expect(matches(device(), "alpha beta")).toBe(false);
    expect(matches(device(), "")).toBe(true);
  });
});

describe("tags", () => {
  it("are read with or without their prefix", () => {
    expect(tagsIn("tag:ci, server  web")).toEqual(["tag:ci", "tag:server", "tag:web"]);
    expect(tagsIn(" ")).toEqual([]);
  });
});

describe("a key", () => {
  it("tells its traits", () => {
    const create = { reusable: false, ephemeral: true, preauthorized: true, tags: ["tag:ci"] };
    expect(keyTraits(authKey({ capabilities: { devices: { create } } }))).toBe(
      "auth key: one-off, ephemeral, pre-approved, tag:ci",
    );
    const { capabilities: _none, ...token } = authKey({ keyType: "api" });
    expect(keyTraits(token)).toBe("API token");
  });
  it("tells why it is not valid", () => {
    expect(keyState(authKey(), NOW)).toBe("valid");
    expect(keyState(authKey({ expires: "0001-01-01T00:00:00Z" }), NOW)).toBe("valid");
    expect(keyState(authKey({ invalid: true }), NOW)).toBe("used up");
    expect(keyState(authKey({ expires: "2026-03-02T00:00:00Z", invalid: true }), NOW)).toBe("expired");
    expect(keyState(authKey({ revoked: "2026-03-02T00:00:00Z", invalid: true }), NOW)).toBe("revoked");
  });
  it("comes with the command that uses it", () => {
    expect(joinCommand("http://box:8080", "tskey-auth-x")).toBe(
      "tailbox up --login-server http://box:8080 --auth-key tskey-auth-x",
    );
  });
});
