// The frame: who is signed in, which tailnet, the tabs, and the page below them.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Redirect, Route, Router, Switch, useLocation } from "wouter";

import { api, ApiError, type Session } from "./api";
import { KeysPage } from "./keys_page";
import { type Connection, useLiveUpdates } from "./live";
import { MachinesPage } from "./machines_page";
import { SignIn } from "./sign_in";

export function App() {
  const session = useQuery({ queryKey: ["session"], queryFn: api.session, retry: false });
  if (session.isPending) return <p className="centred muted">Loading…</p>;
  if (session.error instanceof ApiError && session.error.status === 401) return <SignIn />;
  if (session.error) return <Failure error={session.error} />;
  return (
    <Router base="/admin">
      <Frame session={session.data} />
    </Router>
  );
}

function Frame({ session }: { session: Session }) {
  const connection = useLiveUpdates();
  const queries = useQueryClient();
  const signOut = async () => {
    await api.signOut();
    queries.clear();
    await queries.invalidateQueries({ queryKey: ["session"] });
    window.location.assign("/admin/");
  };
  return (
    <>
      <header>
        <img src="/admin/favicon.svg" alt="" width="24" height="24" />
        <strong>{session.tailnet}</strong>
        <LiveMark connection={connection} />
        <span className="spacer" />
        <span className="muted">{session.user.displayName || session.user.loginName}</span>
        <a href="/api/docs">API</a>
        <button className="quiet" onClick={() => void signOut()}>
          Sign out
        </button>
      </header>
      <nav>
        <Tab to="/machines">Machines</Tab>
        <Tab to="/keys">Keys</Tab>
      </nav>
      <main>
        <Switch>
          <Route path="/machines" component={MachinesPage} />
          <Route path="/keys" component={KeysPage} />
          <Route>
            <Redirect to="/machines" />
          </Route>
        </Switch>
      </main>
    </>
  );
}

function Tab({ to, children }: { to: string; children: string }) {
  const [location] = useLocation();
  const isHere = location === to || location.startsWith(`${to}/`);
  return (
    <Link href={to} className={isHere ? "tab here" : "tab"} {...(isHere ? { "aria-current": "page" as const } : {})}>
      {children}
    </Link>
  );
}

function LiveMark({ connection }: { connection: Connection }) {
  const words = { connecting: "connecting…", live: "live", lost: "reconnecting…" };
  return (
    <span className={`live ${connection}`} role="status">
      {words[connection]}
    </span>
  );
}

export function Failure({ error }: { error: Error }) {
  return (
    <p className="failure" role="alert">
      {error.message}
    </p>
  );
}
