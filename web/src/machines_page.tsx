// Machines: every device of the tailnet, who waits for approval, and what an admin does with them.

import { useState } from "react";
import { useLocation, useSearchParams } from "wouter";

import { api, type Device, type Key, type Session } from "./api";
import { ConfirmDialog, RenameDialog, TagsDialog } from "./dialogs";
import { type Asked, MachineRow } from "./machine_row";
import { MadeKey, NewKeyDialog } from "./new_key";
import { Failure, useNow, useTitle } from "./parts";
import { PendingLogins } from "./pending_logins";
import { useDevices } from "./queries";
import { matches, shortName } from "./text";

export function MachinesPage({ session }: { session: Session }) {
  useTitle("Machines");
  const devices = useDevices();
  const [asked, setAsked] = useState<Asked | null>(null);
  const [isAdding, setAdding] = useState(false);
  const [made, setMade] = useState<Key | null>(null);
  const [search, setSearch] = useSearchText();
  const all = devices.data ?? [];
  const shown = all.filter((device) => matches(device, search)).sort(byName);
  return (
    <>
      <div className="title">
        <h1>Machines</h1>
        {devices.data && <Count devices={all} />}
        <span className="spacer" />
        <input
          type="search"
          placeholder="Name, address, owner, tag…"
          aria-label="Search machines"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
        <button className="primary" onClick={() => setAdding(true)}>
          Add a machine…
        </button>
      </div>
      {made?.key && <MadeKey made={made} session={session} dismiss={() => setMade(null)} />}
      <PendingLogins />
      {devices.isPending && <p className="muted">Loading…</p>}
      {devices.error && <Failure error={devices.error} retry={() => void devices.refetch()} />}
      {devices.data && all.length === 0 && <NoMachines session={session} />}
      {all.length > 0 && shown.length === 0 && <p className="card muted">No machine matches.</p>}
      {shown.length > 0 && <MachineTable devices={shown} ask={setAsked} />}
      {isAdding && <NewKeyDialog keyType="auth" close={() => setAdding(false)} onMade={setMade} />}
      {asked && <AskedDialog asked={asked} close={() => setAsked(null)} />}
    </>
  );
}

const byName = (a: Device, b: Device) => shortName(a).localeCompare(shortName(b)) || a.nodeId.localeCompare(b.nodeId);

// The search text lives in the address bar, so that a reload and a shared link keep it.
function useSearchText(): [string, (text: string) => void] {
  const [parameters] = useSearchParams();
  const [location, navigate] = useLocation();
  const setText = (text: string) =>
    navigate(text ? `${location}?q=${encodeURIComponent(text)}` : location, { replace: true });
  return [parameters.get("q") ?? "", setText];
}

function Count({ devices }: { devices: Device[] }) {
  const online = devices.filter((device) => device.connectedToControl).length;
  return (
    <span className="muted" role="status">
      {devices.length} in the tailnet, {online} connected
    </span>
  );
}

function NoMachines({ session }: { session: Session }) {
  return (
    <section className="card">
      <p>
        <strong>No machines yet.</strong> Add one with an auth key, or run this on it and approve it here:
      </p>
      <pre tabIndex={0}>tailbox up --login-server {session.serverUrl}</pre>
    </section>
  );
}

function MachineTable({ devices, ask }: { devices: Device[]; ask: (asked: Asked) => void }) {
  const now = useNow();
  return (
    <table className="machines">
      <caption className="unseen">Machines of the tailnet</caption>
      <thead>
        <tr>
          <th scope="col">Machine</th>
          <th scope="col">Addresses</th>
          <th scope="col">Version</th>
          <th scope="col">Last seen</th>
          <th scope="col">Key expiry</th>
          <th scope="col">Path</th>
          <th scope="col">
            <span className="unseen">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {devices.map((device) => (
          <MachineRow key={device.nodeId} device={device} now={now} ask={ask} />
        ))}
      </tbody>
    </table>
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
          text="The machine leaves the tailnet. Its addresses are never given to another."
          action="Remove machine"
          perform={() => api.remove(device.nodeId)}
          close={close}
        />
      );
  }
}
