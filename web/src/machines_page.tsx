// Machines: every device of the tailnet, who waits for approval, and what an admin does with them.

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { api, type Device, type PendingLogin } from "./api";
import { Failure } from "./app";
import { ConfirmDialog, RenameDialog, TagsDialog } from "./dialogs";
import { badges, keyExpiry, lastSeen, matches, path, relativeTime, shortName } from "./text";

const CLOCK_TICK_MS = 15_000; // "3 minutes ago" ages while nobody touches anything

export function useNow(): Date {
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(new Date()), CLOCK_TICK_MS);
    return () => window.clearInterval(timer);
  }, []);
  return now;
}

type Asked = { kind: "rename" | "tags" | "expire" | "remove"; device: Device };

export function MachinesPage() {
  const devices = useQuery({ queryKey: ["devices"], queryFn: api.devices });
  const pending = useQuery({ queryKey: ["pending-logins"], queryFn: api.pendingLogins });
  const [search, setSearch] = useState("");
  const [asked, setAsked] = useState<Asked | null>(null);
  const now = useNow();
  if (devices.isPending) return <p className="muted">Loading…</p>;
  if (devices.error) return <Failure error={devices.error} />;
  const shown = devices.data
    .filter((device) => matches(device, search))
    .sort((a, b) => shortName(a).localeCompare(shortName(b)));
  const online = devices.data.filter((device) => device.connectedToControl).length;
  return (
    <>
      <div className="title">
        <h1>Machines</h1>
        <span className="muted">
          {devices.data.length} in the tailnet, {online} connected
        </span>
        <span className="spacer" />
        <input
          type="search"
          placeholder="Search by name, address, owner, tag…"
          aria-label="Search machines"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      </div>
      {pending.error && <Failure error={pending.error} />}
      {(pending.data ?? []).map((login) => (
        <PendingCard key={login.id} login={login} now={now} />
      ))}
      {shown.length === 0 ? (
        <p className="card muted">
          {search ? "No machine matches." : "No machines yet. Make an auth key and run tailbox up on a machine."}
        </p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>Machine</th>
              <th>Addresses</th>
              <th>Version</th>
              <th>Last seen</th>
              <th>Key expiry</th>
              <th>Path</th>
              <th aria-label="Actions" />
            </tr>
          </thead>
          <tbody>
            {shown.map((device) => (
              <MachineRow key={device.nodeId} device={device} now={now} ask={setAsked} />
            ))}
          </tbody>
        </table>
      )}
      {asked && <AskedDialog asked={asked} close={() => setAsked(null)} />}
    </>
  );
}

function MachineRow({ device, now, ask }: { device: Device; now: Date; ask: (asked: Asked) => void }) {
  const change = useChange();
  return (
    <tr>
      <td>
        <strong>{shortName(device)}</strong>
        <div className="muted">{device.tags?.length ? device.tags.join(", ") : device.user}</div>
        {badges(device, now).map((badge) => (
          <span key={badge} className="badge">
            {badge}
          </span>
        ))}
      </td>
      <td>
        {device.addresses.map((address) => (
          <div key={address}>
            <code>{address}</code>
          </div>
        ))}
      </td>
      <td>
        {device.clientVersion || "unknown"}
        <div className="muted">{device.os}</div>
      </td>
      <td>
        <span className={device.connectedToControl ? "dot online" : "dot"} />
        {lastSeen(device, now)}
      </td>
      <td>{keyExpiry(device, now)}</td>
      <td>{path(device)}</td>
      <td className="actions">
        {!device.authorized && (
          <button className="primary" onClick={() => change.mutate(() => api.authorize(device.nodeId))}>
            Approve
          </button>
        )}
        <details className="menu">
          <summary aria-label={`Actions for ${shortName(device)}`}>⋯</summary>
          <div onClick={(event) => event.currentTarget.closest("details")?.removeAttribute("open")}>
            <button onClick={() => ask({ kind: "rename", device })}>Edit machine name…</button>
            <button onClick={() => ask({ kind: "tags", device })}>Edit tags…</button>
            <button
              onClick={() => change.mutate(() => api.setKeyExpiry(device.nodeId, !device.keyExpiryDisabled))}
            >
              {device.keyExpiryDisabled ? "Enable key expiry" : "Disable key expiry"}
            </button>
            <button onClick={() => ask({ kind: "expire", device })}>Expire key…</button>
            <button className="danger" onClick={() => ask({ kind: "remove", device })}>
              Remove…
            </button>
          </div>
        </details>
        {change.error && <Failure error={change.error} />}
      </td>
    </tr>
  );
}

function PendingCard({ login, now }: { login: PendingLogin; now: Date }) {
  const change = useChange();
  return (
    <section className="card pending" aria-label={`${login.hostname} wants to join`}>
      <div>
        <strong>{login.hostname || "A machine"}</strong> wants to join the tailnet.
        <div className="muted">
          {login.os}, asked {relativeTime(login.created, now)}, key <code>{login.machineKey.slice(0, 17)}…</code>
        </div>
        {change.error && <Failure error={change.error} />}
      </div>
      <span className="spacer" />
      <button className="primary" onClick={() => change.mutate(() => api.approve(login.id))}>
        Approve
      </button>
      <button onClick={() => change.mutate(() => api.refuse(login.id))}>Refuse</button>
    </section>
  );
}

function AskedDialog({ asked: { kind, device }, close }: { asked: Asked; close: () => void }) {
  const name = shortName(device);
  switch (kind) {
    case "rename":
      return <RenameDialog device={device} close={close} />;
    case "tags":
      return <TagsDialog device={device} close={close} />;
    case "expire":
      return (
        <ConfirmDialog
          title={`Expire the key of ${name}?`}
          text="The machine loses its connection until somebody signs in on it again."
          action="Expire key"
          perform={() => api.expire(device.nodeId)}
          close={close}
        />
      );
    case "remove":
      return (
        <ConfirmDialog
          title={`Remove ${name}?`}
          text="The machine leaves the tailnet. Its name and addresses are never given to another."
          action="Remove machine"
          perform={() => api.remove(device.nodeId)}
          close={close}
        />
      );
  }
}

// A change to the tailnet: performs the given call, then shows its outcome at once.
export function useChange() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (perform: () => Promise<unknown>) => perform(),
    onSuccess: () =>
      Promise.all(
        ["devices", "keys", "pending-logins"].map((name) => queries.invalidateQueries({ queryKey: [name] })),
      ),
  });
}
