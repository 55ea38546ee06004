// Keys: auth keys that let machines join, and API tokens.

import { useState } from "react";

import { api, type Key, type Session } from "./api";
import { ConfirmDialog } from "./dialogs";
import { MadeKey, NewKeyDialog } from "./new_key";
import { Failure, useNow, useTitle, When } from "./parts";
import { useKeys } from "./queries";
import { isSet, keyState, keyTraits } from "./text";

export function KeysPage({ session }: { session: Session }) {
  useTitle("Keys");
  const keys = useKeys();
  const [making, setMaking] = useState<Key["keyType"] | null>(null);
  const [made, setMade] = useState<Key | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  return (
    <>
      <div className="title">
        <h1>Keys</h1>
        <span className="spacer" />
        <button onClick={() => setMaking("api")}>Make an API token…</button>
        <button className="primary" onClick={() => setMaking("auth")}>
          Make an auth key…
        </button>
      </div>
      {made?.key && <MadeKey made={made} session={session} dismiss={() => setMade(null)} />}
      {keys.isPending && <p className="muted">Loading…</p>}
      {keys.error && <Failure error={keys.error} retry={() => void keys.refetch()} />}
      {keys.data?.length === 0 && <p className="card muted">No keys yet. With an auth key, machines join.</p>}
      {keys.data && keys.data.length > 0 && <KeyTable keys={keys.data} revoke={setRevoking} />}
      {making && <NewKeyDialog keyType={making} close={() => setMaking(null)} onMade={setMade} />}
      {revoking && (
        <ConfirmDialog
          title={`Revoke ${revoking.id}?`}
          text={
            revoking.keyType === "auth"
              ? "Nobody can join with it any more. Machines that did join stay."
              : "Programs that use it are refused from now on."
          }
          action="Revoke"
          perform={() => api.revokeKey(revoking.id)}
          close={() => setRevoking(null)}
        />
      )}
    </>
  );
}

function KeyTable({ keys, revoke }: { keys: Key[]; revoke: (key: Key) => void }) {
  const now = useNow();
  const sorted = [...keys].sort((a, b) => b.created.localeCompare(a.created) || a.id.localeCompare(b.id));
  return (
    <table>
      <caption className="unseen">Auth keys and API tokens, newest first</caption>
      <thead>
        <tr>
          <th scope="col">Key</th>
          <th scope="col">Kind</th>
          <th scope="col">Created</th>
          <th scope="col">Expires</th>
          <th scope="col">State</th>
          <th scope="col">
            <span className="unseen">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {sorted.map((key) => (
          <KeyRow key={key.id} apiKey={key} now={now} revoke={revoke} />
        ))}
      </tbody>
    </table>
  );
}

function KeyRow({ apiKey: key, now, revoke }: { apiKey: Key; now: Date; revoke: (key: Key) => void }) {
  const state = keyState(key, now);
  return (
    <tr className={state === "valid" ? "" : "faded"}>
      <th scope="row">
        <code>{key.id}</code>
        {key.description && <div className="muted">{key.description}</div>}
      </th>
      <td data-label="Kind">{keyTraits(key)}</td>
      <td data-label="Created">
        <When time={key.created} now={now} />
      </td>
      <td data-label="Expires">{isSet(key.expires) ? <When time={key.expires} now={now} /> : "never"}</td>
      <td data-label="State">{state}</td>
      <td className="actions">
        {state === "valid" && (
          <button aria-label={`Revoke ${key.id}`} onClick={() => revoke(key)}>
            Revoke…
          </button>
        )}
      </td>
    </tr>
  );
}
