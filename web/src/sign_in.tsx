// Sign in with an API token. The usual way in is the one-time link that the coordinator prints, which never comes here.

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api } from "./api";

export function SignIn() {
  const [token, setToken] = useState("");
  const queries = useQueryClient();
  const signIn = useMutation({
    mutationFn: () => api.signIn(token.trim()),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["session"] }),
  });
  return (
    <form
      className="card sign-in"
      onSubmit={(event) => {
        event.preventDefault();
        signIn.mutate();
      }}
    >
      <h1>Sign in to Tailbox</h1>
      <p className="muted">
        Open the one-time link that the coordinator printed when it started, or sign in with an API token
        (<code>tskey-api-…</code>).
      </p>
      <label>
        API token
        <input
          type="password"
          autoComplete="off"
          autoFocus
          required
          value={token}
          onChange={(event) => setToken(event.target.value)}
        />
      </label>
      {signIn.error && <p className="failure" role="alert">{signIn.error.message}</p>}
      <button className="primary" disabled={signIn.isPending}>
        Sign in
      </button>
    </form>
  );
}
