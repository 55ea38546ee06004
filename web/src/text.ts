// Facts about devices and keys in the words that the console shows. Pure.

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

export const exactTime = (iso: string): string =>
  new Date(iso).toLocaleString(undefined, { dateStyle: "long", timeStyle: "medium" });

// Go's zero time stands for "never".
export const isSet = (time: string | undefined): time is string => !!time && !time.startsWith("0001-");

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
  const when = relativeTime(device.expires, now);
  return isExpired(device, now) ? `expired ${when}` : when;
}

// The home relay and how far it is; "" while the machine has not told.
export function homeRelay(device: Device): string {
  const { derp, latency } = device.clientConnectivity ?? { derp: "", latency: {} };
  const preferred = Object.entries(latency).find(([, region]) => region.preferred);
  const relay = derp || preferred?.[0];
  if (!relay) return "";
  return preferred ? `relay ${relay}, ${preferred[1].latencyMs.toFixed(1)} ms` : `relay ${relay}`;
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

// The tags that somebody typed, with or without their prefix.
export function tagsIn(text: string): string[] {
  const words = text.split(/[\s,]+/).filter(Boolean);
  return words.map((word) => (word.startsWith("tag:") ? word : `tag:${word}`));
}

export function keyState(key: Key, now: Date): string {
  if (isSet(key.revoked)) return "revoked";
  if (isSet(key.expires) && new Date(key.expires) <= now) return "expired";
  return key.invalid ? "used up" : "valid";
}

export function keyTraits(key: Key): string {
  const create = key.capabilities?.devices.create;
  if (!create) return key.keyType === "api" ? "API token" : "auth key";
  const traits = [create.reusable ? "reusable" : "one-off"];
  if (create.ephemeral) traits.push("ephemeral");
  if (create.preauthorized) traits.push("pre-approved");
  return `auth key: ${traits.concat(create.tags ?? []).join(", ")}`;
}

export const joinCommand = (serverUrl: string, authKey: string): string =>
  `tailbox up --login-server ${serverUrl} --auth-key ${authKey}`;
