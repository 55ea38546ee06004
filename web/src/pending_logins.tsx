// Machines that ask to join without a key: who they are, and the two answers.

import { api, type PendingLogin } from "./api";
import { Failure, useNow, When } from "./parts";
import { useChange, usePendingLogins } from "./queries";

export function PendingLogins() {
  const pending = usePendingLogins();
  const now = useNow();
  const waiting = (pending.data ?? []).filter((login) => new Date(login.expires) > now);
  return (
    <div aria-live="polite">
      {pending.error && <Failure error={pending.error} retry={() => void pending.refetch()} />}
      {waiting.map((login) => (
        <PendingCard key={login.id} login={login} now={now} />
      ))}
    </div>
  );
}

function PendingCard({ login, now }: { login: PendingLogin; now: Date }) {
  const change = useChange();
  const name = login.hostname || "A machine";
  return (
    <section className="card pending" aria-label={`${name} wants to join`}>
      <div>
        <strong>{name}</strong> wants to join the tailnet
        {login.tags.length > 0 && <> as {login.tags.join(", ")}</>}.
        <div className="muted">
          {login.os || "Unknown system"}, asked <When time={login.created} now={now} />
          {login.isEphemeral && ", ephemeral"}
        </div>
        <div className="muted">
          Machine key <code>{login.machineKey}</code>
        </div>
        {change.error && <Failure error={change.error} />}
      </div>
      <span className="spacer" />
      <button
        className="primary"
        aria-label={`Approve ${name}`}
        disabled={change.isPending}
        onClick={() => change.mutate(() => api.approve(login.id))}
      >
        Approve
      </button>
      <button
        aria-label={`Refuse ${name}`}
        disabled={change.isPending}
        onClick={() => change.mutate(() => api.refuse(login.id))}
      >
        Refuse
      </button>
    </section>
  );
}
