// Dialogs: one question each, the server's refusal shown where it was asked.

import { type ReactNode, useEffect, useRef, useState } from "react";

import { api, type Device } from "./api";
import { Failure } from "./app";
import { useChange } from "./machines_page";
import { shortName } from "./text";

interface DialogProps {
  title: string;
  action: string;
  perform: () => Promise<unknown>;
  close: () => void;
  danger?: boolean;
  children: ReactNode;
}

export function Dialog({ title, action, perform, close, danger = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const change = useChange();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-label={title}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate(perform, { onSuccess: close });
        }}
      >
        <h2>{title}</h2>
        {children}
        {change.error && <Failure error={change.error} />}
        <div className="buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button className={danger ? "danger solid" : "primary"} disabled={change.isPending}>
            {action}
          </button>
        </div>
      </form>
    </dialog>
  );
}

export function ConfirmDialog({ text, ...rest }: Omit<DialogProps, "children"> & { text: string }) {
  return (
    <Dialog {...rest} danger>
      <p>{text}</p>
    </Dialog>
  );
}

export function RenameDialog({ device, close }: { device: Device; close: () => void }) {
  const [name, setName] = useState(shortName(device));
  return (
    <Dialog title="Edit machine name" action="Save" perform={() => api.rename(device.nodeId, name.trim())} close={close}>
      <label>
        Name
        <input value={name} maxLength={63} autoFocus onChange={(event) => setName(event.target.value)} />
      </label>
      <p className="muted">
        Empty: the name follows the machine's own host name, <code>{device.hostname}</code>.
      </p>
    </Dialog>
  );
}

export function TagsDialog({ device, close }: { device: Device; close: () => void }) {
  const [text, setText] = useState((device.tags ?? []).join(" "));
  const tags = text.split(/[\s,]+/).filter(Boolean);
  return (
    <Dialog title={`Tags of ${shortName(device)}`} action="Save" perform={() => api.setTags(device.nodeId, tags)} close={close}>
      <label>
        Tags
        <input value={text} placeholder="tag:server tag:ci" autoFocus onChange={(event) => setText(event.target.value)} />
      </label>
      <p className="muted">A tagged machine belongs to its tags, no longer to a user, and its key does not expire.</p>
    </Dialog>
  );
}
