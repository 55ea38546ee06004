import { QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { App } from "./app";
import { authKey, device, FakeEventSource, FakeServer, pendingLogin } from "./examples";
import { makeQueryClient } from "./queries";
import { forgetCsrfToken } from "./request";
import { SignIn, signInPath } from "./sign_in";

let server: FakeServer;

beforeEach(() => {
  server = new FakeServer();
  forgetCsrfToken();
  vi.stubGlobal("fetch", server.fetch);
  vi.stubGlobal("EventSource", FakeEventSource);
  HTMLDialogElement.prototype.showModal = function (this: HTMLDialogElement) {
    this.open = true; // jsdom has no modal dialogs
  };
  HTMLDialogElement.prototype.close = function (this: HTMLDialogElement) {
    this.open = false;
  };
});

afterEach(cleanup);

function open(path: string): void {
  window.history.replaceState(null, "", `/admin${path}`);
  render(
    <QueryClientProvider client={makeQueryClient()}>
      <App />
    </QueryClientProvider>,
  );
}

const press = (name: string | RegExp, role = "button") => fireEvent.click(screen.getByRole(role, { name }));
const show = (devices: unknown[]) => (server.answers["GET /tailnet/-/devices?fields=all"] = { devices });
const say = (changes: unknown[]) => act(() => FakeEventSource.newest?.say("change", { sequence: 1, changes }));

describe("the machines page", () => {
  it("shows what is known of a machine", async () => {
    const latency = { Home: { preferred: true, latencyMs: 1.5 } };
    const clientConnectivity = { endpoints: ["192.0.2.1:41641"], derp: "Home", latency };
    show([device({ connectedToControl: true, tags: ["tag:ci"], clientConnectivity })]);
    open("/machines");
    const row = (await screen.findByText("alpha")).closest("tr")!;
    for (const text of ["100.64.0.1", "tag:ci", "0.1.0", "linux", "Connected", "never", "relay Home, 1.5 ms"]) {
      expect(within(row).getByText(text)).toBeTruthy();
    }
    expect(within(row).getByText("1 direct endpoint")).toBeTruthy();
    expect(screen.getByText("1 in the tailnet, 1 connected")).toBeTruthy();
  });
  it("says how to begin when there is none", async () => {
    open("/machines");
    expect(await screen.findByText("tailbox up --login-server http://box:8080")).toBeTruthy();
  });
  it("says what went wrong, and tries again when asked", async () => {
    server.answers["GET /tailnet/-/devices?fields=all"] = 403;
    open("/machines");
    expect((await screen.findByRole("alert")).textContent).toContain("refused with 403");
    show([device()]);
    press("Try again");
    expect(await screen.findByText("alpha")).toBeTruthy();
  });
  it("follows the event stream without asking again", async () => {
    show([device()]);
    open("/machines");
    await screen.findByText("alpha");
    const asked = server.asked.length;
    say([{ noun: "device", id: "n1", deleted: false, device: device({ name: "gamma.example.net" }) }]);
    expect(await screen.findByText("gamma")).toBeTruthy();
    say([{ noun: "device", id: "n1", deleted: true }]);
    expect(await screen.findByText("No machines yet.")).toBeTruthy();
    expect(server.asked.length).toBe(asked);
  });
  it("keeps the search in the address bar", async () => {
    show([device(), device({ nodeId: "n2", name: "beta.example.net", hostname: "beta" })]);
    open("/machines?q=beta");
    expect(await screen.findByText("beta")).toBeTruthy();
    expect(screen.queryByText("alpha")).toBeNull();
    fireEvent.change(screen.getByLabelText("Search machines"), { target: { value: "a b&c" } });
    expect(await screen.findByText("No machine matches.")).toBeTruthy();
    expect(window.location.search).toBe("?q=a%20b%26c");
  });
  it("renames, and shows a refusal where it was asked", async () => {
    show([device()]);
    server.answers["POST /device/n1/name"] = 409;
    open("/machines");
    await screen.findByText("alpha");
    press("Actions for alpha");
    press("Edit machine name…", "menuitem");
    fireEvent.change(screen.getByLabelText("Name"), { target: { value: " beta " } });
    press("Save");
    expect(await within(screen.getByRole("dialog")).findByText("refused with 409")).toBeTruthy();
    server.answers["POST /device/n1/name"] = {};
    press("Save");
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
    expect(server.sent("POST").at(-1)?.body).toEqual({ name: "beta" });
  });
  it("removes only after asking", async () => {
    show([device()]);
    open("/machines");
    await screen.findByText("alpha");
    press("Actions for alpha");
    press("Remove…", "menuitem");
    expect(server.sent("DELETE")).toEqual([]);
    press("Remove machine");
    await waitFor(() => expect(server.sent("DELETE").map(({ path }) => path)).toEqual(["/device/n1"]));
  });
  it("answers logins that wait, and forgets those that are too old", async () => {
    const old = pendingLogin({ id: "p0", hostname: "late", expires: "2020-01-01T00:00:00Z" });
    server.answers["GET /tailnet/-/pending-logins"] = { pendingLogins: [pendingLogin(), old] };
    open("/machines");
    fireEvent.click(await screen.findByRole("button", { name: "Approve laptop" }));
    await waitFor(() =>
      expect(server.sent("POST").map(({ path }) => path)).toEqual(["/tailnet/-/pending-logins/p1/approve"]),
    );
    expect(screen.queryByText("late")).toBeNull();
  });
});

describe("the menu of a machine", () => {
  it("is worked with the keyboard", async () => {
    show([device()]);
    open("/machines");
    await screen.findByText("alpha");
    const button = screen.getByRole("button", { name: "Actions for alpha" });
    button.focus();
    const key = (name: string) => fireEvent.keyDown(document.activeElement!, { key: name });
    key("ArrowDown");
    expect(document.activeElement?.textContent).toBe("Edit machine name…");
    key("End");
    expect(document.activeElement?.textContent).toBe("Remove…");
    key("ArrowDown");
    expect(document.activeElement?.textContent).toBe("Edit machine name…");
    key("Escape");
    expect(screen.queryByRole("menu")).toBeNull();
    expect(document.activeElement).toBe(button);
  });
});

describe("the keys page", () => {
  it("shows a new key's command until it is dismissed", async () => {
    server.answers["POST /tailnet/-/keys"] = authKey({ key: "tskey-auth-secret" });
    open("/keys");
    fireEvent.click(await screen.findByRole("button", { name: "Make an auth key…" }));
    fireEvent.change(screen.getByLabelText("Tags"), { target: { value: "ci" } });
    press("Make key");
    expect(
      await screen.findByText("tailbox up --login-server http://box:8080 --auth-key tskey-auth-secret"),
    ).toBeTruthy();
    expect(server.sent("POST")[0]?.body).toMatchObject({ capabilities: { devices: { create: { tags: ["tag:ci"] } } } });
    press("Done");
    expect(document.body.textContent).not.toContain("tskey-auth-secret");
  });
  it("revokes what is valid", async () => {
    const keys = [authKey(), authKey({ id: "k2", invalid: true })];
    server.answers["GET /tailnet/-/keys?all=true"] = { keys };
    open("/keys");
    fireEvent.click(await screen.findByRole("button", { name: "Revoke k1" }));
    expect(screen.queryByRole("button", { name: "Revoke k2" })).toBeNull();
    press("Revoke");
    await waitFor(() => expect(server.sent("DELETE").map(({ path }) => path)).toEqual(["/tailnet/-/keys/k1"]));
  });
});

describe("the session", () => {
  it("that ended is told to whoever had one", async () => {
    show([device()]);
    open("/machines");
    await screen.findByText("alpha");
    server.answers["GET /whoami"] = 401;
    server.answers["POST /device/n1/key"] = 401;
    press("Actions for alpha");
    press("Disable key expiry", "menuitem");
    expect(await screen.findByText("You are signed out")).toBeTruthy();
    expect(screen.getByRole("link", { name: "Sign in" }).getAttribute("href")).toBe("/login?next=%2Fadmin%2Fmachines");
  });
  it("is begun on the sign-in page, which comes back", () => {
    const leave = vi.fn();
    window.history.replaceState(null, "", "/admin/keys?x=1");
    render(<SignIn hadSession={false} leave={leave} />);
    expect(leave).toHaveBeenCalledWith("/login?next=%2Fadmin%2Fkeys%3Fx%3D1");
    expect(signInPath("/elsewhere")).toBe("/login?next=%2Fadmin%2F");
  });
  it("that cannot be asked for offers another try", async () => {
    server.answers["GET /whoami"] = 500;
    open("/machines");
    expect((await screen.findByRole("alert", {}, { timeout: 3000 })).textContent).toContain("refused with 500");
  });
});
