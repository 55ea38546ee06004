// Dialogs: one question each, the server's refusal shown where it was asked.

import { type ReactNode, useLayoutEffect, useRef, useState } from "react";

import { api, type Device } from "./api";
import { Failure } from "./parts";
import { useChange } from "./queries";
import { shortName, tagsIn } from "./text";

interface DialogProps {
  title: string;
  action: string;
  perform: () => Promise<unknown>;
  close: () => void;
  isDangerous?: boolean;
  children: ReactNode;
}

export function Dialog({ title, action, perform, close, isDangerous = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const change = useChange();
  useLayoutEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close(); // gives the focus back to whatever opened the dialog
  }, []);
  return (
    <dialog ref={dialog} onCancel={close} aria-label={title}>
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
          <button className={isDangerous ? "danger solid" : "primary"} disabled={change.isPending}>
            {action}
          </button>
        </div>
      </form>
    </dialog>
  );
}

export function ConfirmDialog({ text, ...rest }: Omit<DialogProps, "children" | "isDangerous"> & { text: string }) {
  return (
    <Dialog {...rest} isDangerous>
      <p>{text}</p>
    </Dialog>
  );
}

export function RenameDialog({ device, close }: { device: Device; close: () => void }) {
  const [name, setName] = useState(shortName(device));
  return (
    <Dialog
      title="Edit machine name"
      action="Save"
      perform={() => api.rename(device.nodeId, name.trim())}
      close={close}
    >
      <label>
        Name
        <input value={name} maxLength={63} spellCheck={false} onChange={(event) => setName(event.target.value)} />
      </label>
      <p className="muted">
        Empty: the name follows the machine's own host name, <code>{device.hostname}</code>.
      </p>
    </Dialog>
  );
}

export function TagsDialog({ device, close }: { device: Device; close: () => void }) {
  const [text, setText] = useState((device.tags ?? []).join(" "));
  return (
    <Dialog
      title={`Tags of ${shortName(device)}`}
      action="Save"
      perform={() => api.setTags(device.nodeId, tagsIn(text))}
      close={close}
    >
      <TagsField text={text} setText={setText} />
      <p className="muted">A tagged machine belongs to its tags, no longer to a user, and its key does not expire.</p>
    </Dialog>
  );
}

export function TagsField({ text, setText }: { text: string; setText: (text: string) => void }) {
  return (
    <label>
      Tags
      <input
        value={text}
        placeholder="tag:server tag:ci"
        spellCheck={false}
        onChange={(event) => setText(event.target.value)}
      />
    </label>
  );
}
