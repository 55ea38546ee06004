// The frame: who is signed in, which tailnet, the tabs, and the page below them.

import { useMutation } from "@tanstack/react-query";
import { useRef } from "react";
import { Link, Redirect, Route, Router, Switch, useLocation } from "wouter";

import { api, type Session } from "./api";
import { KeysPage } from "./keys_page";
import { type Connection, useLiveUpdates } from "./live";
import { MachinesPage } from "./machines_page";
import { Failure } from "./parts";
import { useSession } from "./queries";
import { isSignedOut } from "./request";
import { SignIn } from "./sign_in";

export function App() {
  const session = useSession();
  const hadSession = useRef(false);
  if (session.data) hadSession.current = true;
  if (isSignedOut(session.error)) return <SignIn hadSession={hadSession.current} />;
  if (session.data) {
    return (
      <Router base="/admin">
        <Frame session={session.data} />
      </Router>
    );
  }
  if (session.error) {
    return (
      <main className="centred">
        <Failure error={session.error} retry={() => void session.refetch()} />
      </main>
    );
  }
  return (
    <p className="centred muted" role="status">
      Loading…
    </p>
  );
}

function Frame({ session }: { session: Session }) {
  const connection = useLiveUpdates();
  const signOut = useMutation({
    mutationFn: api.signOut,
    onSuccess: () => window.location.assign("/login"),
  });
  return (
    <>
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <header>
        <img src="/admin/favicon.svg" alt="" width="24" height="24" />
        <strong>{session.tailnet}</strong>
        <LiveMark connection={connection} />
        <span className="spacer" />
        <a href="/api/docs">API</a>
        <span className="muted" title={`${session.user.loginName}, ${session.user.role}`}>
          {session.user.displayName || session.user.loginName}
        </span>
        <button className="quiet" disabled={signOut.isPending} onClick={() => signOut.mutate()}>
          Sign out
        </button>
      </header>
      <nav aria-label="Pages">
        <Tab to="/machines">Machines</Tab>
        <Tab to="/keys">Keys</Tab>
      </nav>
      <main id="content" tabIndex={-1}>
        {signOut.error && <Failure error={signOut.error} />}
        <Switch>
          <Route path="/machines">
            <MachinesPage session={session} />
          </Route>
          <Route path="/keys">
            <KeysPage session={session} />
          </Route>
          <Route>
            <Redirect to="/machines" replace />
          </Route>
        </Switch>
      </main>
      <footer className="muted">Tailbox {session.version}</footer>
    </>
  );
}

function Tab({ to, children }: { to: string; children: string }) {
  const [location] = useLocation();
  const isHere = location === to;
  return (
    <Link href={to} className={isHere ? "tab here" : "tab"} {...(isHere ? { "aria-current": "page" as const } : {})}>
      {children}
    </Link>
  );
}

function LiveMark({ connection }: { connection: Connection }) {
  const words = { connecting: "connecting…", live: "live", lost: "connection lost, trying again…" };
  return (
    <span className={`mark ${connection}`} role="status">
      {words[connection]}
    </span>
  );
}
