import { defineConfig } from "vitest/config";

// The coordinator serves the bundle below /admin/; `npm run dev` proxies the API to one that runs on this machine.
export default defineConfig({
  base: "/admin/",
  build: { outDir: "dist", emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { "/api": "http://127.0.0.1:8080", "/login": "http://127.0.0.1:8080" } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"] },
});
