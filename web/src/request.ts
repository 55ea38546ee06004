// One request to the REST API by the console's session. Every refusal becomes an ApiError with the server's own words.

export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: no answer at all
    message: string,
  ) {
    super(message);
  }
}

export const isSignedOut = (error: unknown): boolean => error instanceof ApiError && error.status === 401;

let csrfToken: string | null = null; // of the session: whatever is not a read repeats it

export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = csrfToken ??= await fetchCsrfToken();
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  return (await exchange(path, { method, headers, ...sent })) as T;
}

// Another tab may sign in anew, which gives this browser another session: its token has to be asked for again.
export function forgetCsrfToken(): void {
  csrfToken = null;
}

async function fetchCsrfToken(): Promise<string> {
  const { csrfToken } = (await exchange("/whoami", { method: "GET" })) as { csrfToken?: string };
  return csrfToken ?? "";
}

async function exchange(path: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(`/api/v2${path}`, { ...init, credentials: "same-origin" }).catch(() => {
    throw new ApiError(0, "The coordinator does not answer.");
  });
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : null;
  if (response.status === 401 || response.status === 403) forgetCsrfToken();
  throw new ApiError(response.status, messageOf(text) || `The coordinator answered ${response.status}.`);
}

function messageOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === "string" ? message : "";
  } catch {
    return text.slice(0, 200);
  }
}
