// Keys: auth keys that let machines join, and API tokens.

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Key, type NewAuthKey } from "./api";
import { Failure } from "./app";
import { ConfirmDialog, Dialog } from "./dialogs";
import { useNow } from "./machines_page";
import { keyState, keyTraits, relativeTime } from "./text";

const NEW_KEY: NewAuthKey = {
  description: "",
  days: 90,
  reusable: false,
  ephemeral: false,
  preauthorized: true,
  tags: [],
};

export function KeysPage() {
  const keys = useQuery({ queryKey: ["keys"], queryFn: api.keys });
  const [isMaking, setMaking] = useState(false);
  const [made, setMade] = useState<Key | null>(null);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const now = useNow();
  if (keys.isPending) return <p className="muted">Loading…</p>;
  if (keys.error) return <Failure error={keys.error} />;
  const sorted = [...keys.data].sort((a, b) => b.created.localeCompare(a.created));
  return (
    <>
      <div className="title">
        <h1>Keys</h1>
        <span className="spacer" />
        <button className="primary" onClick={() => setMaking(true)}>
          Make an auth key…
        </button>
      </div>
      {made?.key && <MadeKey made={made} dismiss={() => setMade(null)} />}
      {sorted.length === 0 ? (
        <p className="card muted">No keys yet.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>Key</th>
              <th>Description</th>
              <th>Kind</th>
              <th>Created</th>
              <th>Expires</th>
              <th>State</th>
              <th aria-label="Actions" />
            </tr>
          </thead>
          <tbody>
            {sorted.map((key) => (
              <tr key={key.id} className={keyState(key, now) === "valid" ? "" : "faded"}>
                <td>
                  <code>{key.id}</code>
                </td>
                <td>{key.description}</td>
                <td>{keyTraits(key)}</td>
                <td>{relativeTime(key.created, now)}</td>
                <td>{relativeTime(key.expires, now)}</td>
                <td>{keyState(key, now)}</td>
                <td className="actions">
                  {keyState(key, now) === "valid" && <button onClick={() => setRevoking(key)}>Revoke…</button>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {isMaking && <NewKeyDialog close={() => setMaking(false)} onMade={setMade} />}
      {revoking && (
        <ConfirmDialog
          title={`Revoke ${revoking.id}?`}
          text="Nobody can join with it any more. Machines that did join stay."
          action="Revoke"
          perform={() => api.revokeKey(revoking.id)}
          close={() => setRevoking(null)}
        />
      )}
    </>
  );
}

function MadeKey({ made, dismiss }: { made: Key; dismiss: () => void }) {
  const [isCopied, setCopied] = useState(false);
  const secret = made.key ?? "";
  const command = `tailbox up --login-server ${window.location.origin} --auth-key ${secret}`;
  return (
    <section className="card made" role="status">
      <p>
        <strong>Your new auth key.</strong> Copy it now: it is not shown again. On the machine that shall join, run
      </p>
      <pre>{command}</pre>
      <div className="buttons">
        <button onClick={() => void navigator.clipboard.writeText(secret).then(() => setCopied(true))}>
          {isCopied ? "Copied" : "Copy key"}
        </button>
        <button onClick={dismiss}>Done</button>
      </div>
    </section>
  );
}

function NewKeyDialog({ close, onMade }: { close: () => void; onMade: (key: Key) => void }) {
  const [wish, setWish] = useState(NEW_KEY);
  const [tags, setTags] = useState("");
  const perform = async () =>
    onMade(await api.createAuthKey({ ...wish, tags: tags.split(/[\s,]+/).filter(Boolean) }));
  const box = (name: "reusable" | "ephemeral" | "preauthorized", label: string) => (
    <label className="check">
      <input
        type="checkbox"
        checked={wish[name]}
        onChange={(event) => setWish({ ...wish, [name]: event.target.checked })}
      />
      {label}
    </label>
  );
  return (
    <Dialog title="Make an auth key" action="Make key" perform={perform} close={close}>
      <label>
        Description
        <input
          value={wish.description}
          maxLength={50}
          autoFocus
          onChange={(event) => setWish({ ...wish, description: event.target.value })}
        />
      </label>
      <label>
        Days until it expires
        <input
          type="number"
          min={1}
          max={90}
          required
          value={wish.days}
          onChange={(event) => setWish({ ...wish, days: event.target.valueAsNumber })}
        />
      </label>
      <label>
        Tags
        <input value={tags} placeholder="tag:server" onChange={(event) => setTags(event.target.value)} />
      </label>
      {box("reusable", "Reusable: any number of machines may join with it")}
      {box("ephemeral", "Ephemeral: machines are removed when they stay away")}
      {box("preauthorized", "Pre-approved: machines need no approval")}
    </Dialog>
  );
}
