// Nobody is signed in. Signing in is the coordinator's own page, which takes one-time links and API tokens alike.

import { useEffect } from "react";

import { Notice } from "./parts";

// Back to where the console was, once signed in.
export function signInPath(here: string): string {
  return `/login?next=${encodeURIComponent(here.startsWith("/admin/") ? here : "/admin/")}`;
}

// `hadSession`: there was one when the page was opened. Then the visitor is told before anything happens.
export function SignIn({ hadSession, leave }: { hadSession: boolean; leave?: (path: string) => void }) {
  const path = signInPath(window.location.pathname + window.location.search);
  useEffect(() => {
    if (!hadSession) (leave ?? ((to: string) => window.location.replace(to)))(path);
  }, [hadSession, leave, path]);
  if (!hadSession) return <p className="centred muted">Going to the sign-in page…</p>;
  return (
    <Notice title="You are signed out">
      <p className="muted">The session has ended: it was closed, or the coordinator was started again.</p>
      <a className="button primary" href={path}>
        Sign in
      </a>
    </Notice>
  );
}
