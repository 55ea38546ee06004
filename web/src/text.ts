// Facts about devices and keys in the words that the console shows.

import type { Device, Key } from "./api";

const UNITS: [string, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

// "3 hours ago", "in 2 days", "just now".
export function relativeTime(iso: string, now: Date): string {
  const seconds = (new Date(iso).getTime() - now.getTime()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["", 0];
  if (!unit) return "just now";
  const count = Math.floor(Math.abs(seconds) / size);
  const amount = `${count} ${unit}${count === 1 ? "" : "s"}`;
  return seconds < 0 ? `${amount} ago` : `in ${amount}`;
}

const isSet = (time: string | undefined): time is string => !!time && !time.startsWith("0001-");

export const shortName = (device: Device): string => device.name.split(".")[0] || device.hostname;

export function lastSeen(device: Device, now: Date): string {
  if (device.connectedToControl) return "Connected";
  return isSet(device.lastSeen) ? relativeTime(device.lastSeen, now) : "never";
}

export function isExpired(device: Device, now: Date): boolean {
  return !device.keyExpiryDisabled && isSet(device.expires) && new Date(device.expires) <= now;
}

export function keyExpiry(device: Device, now: Date): string {
  if (device.keyExpiryDisabled || !isSet(device.expires)) return "never";
  return isExpired(device, now) ? `expired ${relativeTime(device.expires, now)}` : relativeTime(device.expires, now);
}

// How peers reach the device: its home relay, and how many direct endpoints it offers.
export function path(device: Device): string {
  const connectivity = device.clientConnectivity;
  const endpoints = connectivity?.endpoints?.length ?? 0;
  const preferred = Object.entries(connectivity?.latency ?? {}).find(([, region]) => region.preferred);
  const relay = connectivity?.derp || preferred?.[0];
  const latency = preferred ? ` (${preferred[1].latencyMs.toFixed(1)} ms)` : "";
  const parts = [];
  if (relay) parts.push(`relay ${relay}${latency}`);
  if (endpoints) parts.push(`${endpoints} direct endpoint${endpoints === 1 ? "" : "s"}`);
  return parts.join(", ") || "unknown";
}

export function badges(device: Device, now: Date): string[] {
  const found = [];
  if (!device.authorized) found.push("Needs approval");
  if (isExpired(device, now)) found.push("Expired");
  if (device.keyExpiryDisabled) found.push("Expiry disabled");
  if (device.isEphemeral) found.push("Ephemeral");
  return found;
}

// Whether every word of the search box occurs in what the row shows.
export function matches(device: Device, search: string): boolean {
  const text = [device.name, device.hostname, device.user, device.os, device.clientVersion]
    .concat(device.addresses, device.tags ?? [])
    .join(" ")
    .toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function keyState(key: Key, now: Date): string {
  if (isSet(key.revoked)) return "revoked";
  if (isSet(key.expires) && new Date(key.expires) <= now) return "expired";
  return key.invalid ? "used up" : "valid";
}

export function keyTraits(key: Key): string {
  const create = key.capabilities?.devices?.create;
  if (!create) return key.keyType === "api" ? "API token" : key.keyType;
  const traits = [create.reusable ? "reusable" : "one-off"];
  if (create.ephemeral) traits.push("ephemeral");
  if (create.preauthorized) traits.push("pre-approved");
  return traits.concat(create.tags ?? []).join(", ");
}
