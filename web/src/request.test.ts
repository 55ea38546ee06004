import { beforeEach, describe, expect, it, vi } from "vitest";

import { api } from "./api";
import { FakeServer } from "./examples";
import { ApiError, forgetCsrfToken, request } from "./request";

let server: FakeServer;

beforeEach(() => {
  server = new FakeServer();
  forgetCsrfToken();
  vi.stubGlobal("fetch", server.fetch);
});

const failure = (promise: Promise<unknown>) => promise.then(() => null, (error: ApiError) => error);

describe("a request", () => {
  it("reads without a CSRF token", async () => {
    await api.devices();
    expect(server.asked[0]?.headers.has("X-CSRF-Token")).toBe(false);
  });
  it("changes with the session's token, asked for once", async () => {
    await api.rename("n1", "beta");
    await api.expire("n1");
    expect(server.sent("GET").map(({ path }) => path)).toEqual(["/whoami"]);
    expect(server.sent("POST").map(({ headers }) => headers.get("X-CSRF-Token"))).toEqual(["csrf", "csrf"]);
    expect(server.sent("POST")[0]).toMatchObject({ path: "/device/n1/name", body: { name: "beta" } });
  });
  it("asks for the token again once it was refused", async () => {
    server.answers["POST /device/n1/expire"] = 403;
    await failure(api.expire("n1"));
    await failure(api.expire("n1"));
    expect(server.sent("GET")).toHaveLength(2);
  });
  it("escapes what stands in the path", async () => {
    await api.remove("a/b?c");
    expect(server.sent("DELETE")[0]?.path).toBe("/device/a%2Fb%3Fc");
  });
  it("fails in the server's own words", async () => {
    server.answers["GET /x"] = 409;
    expect(await failure(request("GET", "/x"))).toMatchObject({ status: 409, message: "refused with 409" });
  });
  it("fails plainly when nothing answers, or not in JSON", async () => {
    server.answers["GET /x"] = new TypeError("Failed to fetch");
    expect(await failure(request("GET", "/x"))).toMatchObject({ status: 0, message: "The coordinator does not answer." });
    vi.stubGlobal("fetch", async () => new Response("<html>Bad gateway", { status: 502 }));
    expect(await failure(request("GET", "/x"))).toMatchObject({ status: 502, message: "<html>Bad gateway" });
    vi.stubGlobal("fetch", async () => new Response("", { status: 502 }));
    expect(await failure(request("GET", "/x"))).toMatchObject({ message: "The coordinator answered 502." });
  });
});

describe("making a key", () => {
  const wish = { description: "ci", days: 2, create: { reusable: true, ephemeral: false, preauthorized: true } };
  it("sends an auth key's capabilities and its days as seconds", async () => {
    await api.createKey({ keyType: "auth", ...wish });
    expect(server.sent("POST")[0]?.body).toEqual({
      keyType: "auth",
      description: "ci",
      expirySeconds: 172_800,
      capabilities: { devices: { create: wish.create } },
    });
  });
  it("sends no capabilities for an API token", async () => {
    await api.createKey({ keyType: "api", ...wish });
    expect(server.sent("POST")[0]?.body).toEqual({ keyType: "api", description: "ci", expirySeconds: 172_800 });
  });
});
