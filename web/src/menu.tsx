// A menu behind a button. Keys: Enter or ↓ opens; ↑ ↓ Home End move; Escape and Tab close; focus returns to the button.
// Source: WAI-ARIA Authoring Practices, "Menu Button".

import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";

export interface MenuEntry {
  label: string;
  choose: () => void;
  isDangerous?: boolean;
}

export function Menu({ label, entries }: { label: string; entries: MenuEntry[] }) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  const items = () => [...(root.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];

  useEffect(() => {
    if (!isOpen) return;
    items()[0]?.focus();
    const closeOutside = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", closeOutside);
    return () => document.removeEventListener("pointerdown", closeOutside);
  }, [isOpen]);

  const close = () => {
    button.current?.focus();
    setOpen(false);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && isOpen) return close();
    if (event.key === "Tab") return setOpen(false);
    if (!isOpen && event.key !== "ArrowDown") return;
    const all = items();
    const place = all.indexOf(document.activeElement as HTMLElement);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (isOpen) all.at(next % all.length)?.focus();
    else setOpen(true);
  };

  return (
    <div className="menu" ref={root} onKeyDown={onKeyDown}>
      <button
        ref={button}
        className="quiet"
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={isOpen}
        aria-controls={id}
        onClick={() => setOpen(!isOpen)}
      >
        <span aria-hidden="true">•••</span>
      </button>
      {isOpen && (
        <div role="menu" id={id} aria-label={label}>
          {entries.map(({ label, choose, isDangerous }) => (
            <button
              key={label}
              role="menuitem"
              tabIndex={-1}
              className={isDangerous ? "danger" : ""}
              onClick={() => {
                close();
                choose();
              }}
            >
              {label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
