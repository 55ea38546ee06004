// Making a key, and showing its secret the one time that it can be shown.

import { useState } from "react";

import { api, type Key, type NewKey, type Session } from "./api";
import { Dialog, TagsField } from "./dialogs";
import { CopyButton } from "./parts";
import { joinCommand, tagsIn } from "./text";

const MAX_DAYS = 90;
const START: Omit<NewKey, "keyType"> = {
  description: "",
  days: MAX_DAYS,
  create: { reusable: false, ephemeral: false, preauthorized: true },
};

interface NewKeyDialogProps {
  keyType: Key["keyType"];
  close: () => void;
  onMade: (key: Key) => void;
}

export function NewKeyDialog({ keyType, close, onMade }: NewKeyDialogProps) {
  const [wish, setWish] = useState(START);
  const [tags, setTags] = useState("");
  const create = { ...wish.create, ...(tags.trim() ? { tags: tagsIn(tags) } : {}) };
  const perform = async () => onMade(await api.createKey({ ...wish, keyType, create }));
  const box = (name: "reusable" | "ephemeral" | "preauthorized", label: string) => (
    <label className="check">
      <input
        type="checkbox"
        checked={wish.create[name]}
        onChange={(event) => setWish({ ...wish, create: { ...wish.create, [name]: event.target.checked } })}
      />
      {label}
    </label>
  );
  return (
    <Dialog
      title={keyType === "auth" ? "Make an auth key" : "Make an API token"}
      action={keyType === "auth" ? "Make key" : "Make token"}
      perform={perform}
      close={close}
    >
      {keyType === "api" && <p className="muted">Whoever holds it may do over the REST API what you may do here.</p>}
      <label>
        Description
        <input
          value={wish.description}
          maxLength={50}
          pattern="[A-Za-z0-9 \-]*"
          title="Letters, digits, blanks and hyphens"
          onChange={(event) => setWish({ ...wish, description: event.target.value })}
        />
      </label>
      <label>
        Days until it expires
        <input
          type="number"
          min={1}
          max={MAX_DAYS}
          required
          value={Number.isNaN(wish.days) ? "" : wish.days}
          onChange={(event) => setWish({ ...wish, days: event.target.valueAsNumber })}
        />
      </label>
      {keyType === "auth" && (
        <>
          <TagsField text={tags} setText={setTags} />
          {box("reusable", "Reusable: any number of machines may join with it")}
          {box("ephemeral", "Ephemeral: machines are removed when they stay away")}
          {box("preauthorized", "Pre-approved: machines need no approval")}
        </>
      )}
    </Dialog>
  );
}

export function MadeKey({ made, session, dismiss }: { made: Key; session: Session; dismiss: () => void }) {
  const secret = made.key ?? "";
  const command = joinCommand(session.serverUrl, secret);
  const isAuth = made.keyType === "auth";
  return (
    <section className="card made" role="status" aria-label={isAuth ? "New auth key" : "New API token"}>
      <p>
        <strong>{isAuth ? "Your new auth key." : "Your new API token."}</strong> Copy it now: it is not shown again.
        {isAuth && " On the machine that shall join, run"}
      </p>
      <pre tabIndex={0}>{isAuth ? command : secret}</pre>
      <div className="buttons">
        {isAuth && <CopyButton text={command} label="Copy command" />}
        <CopyButton text={secret} label={isAuth ? "Copy key" : "Copy token"} />
        <button className="primary" onClick={dismiss}>
          Done
        </button>
      </div>
    </section>
  );
}
