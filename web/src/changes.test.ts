import { describe, expect, it } from "vitest";

import { type Changed, listOf, parseChanges, withChange } from "./changes";
import { authKey, device, pendingLogin } from "./examples";

const changed = (changes: Partial<Changed>): Changed => ({ noun: "device", id: "n1", deleted: false, ...changes });

describe("a change", () => {
  const alpha = device();
  const beta = device({ id: "2", nodeId: "n2", name: "beta.example.net" });
  it("replaces the entry where it stands", () => {
    const renamed = device({ name: "gamma.example.net" });
    expect(withChange([alpha, beta], changed({ device: renamed }))).toEqual([renamed, beta]);
  });
  it("adds what is new at the end", () => {
    expect(withChange([alpha], changed({ id: "n2", device: beta }))).toEqual([alpha, beta]);
    expect(withChange([], changed({ noun: "key", id: "k1", key: authKey() }))).toEqual([authKey()]);
  });
  it("takes out what is deleted, known or not", () => {
    expect(withChange([alpha, beta], changed({ deleted: true }))).toEqual([beta]);
    expect(withChange([pendingLogin()], changed({ noun: "pendingLogin", id: "p1", deleted: true }))).toEqual([]);
    expect(withChange([beta], changed({ deleted: true }))).toEqual([beta]);
  });
  it("leaves the old list as it was", () => {
    const list = [alpha];
    withChange(list, changed({ deleted: true }));
    expect(list).toEqual([alpha]);
  });
  it("belongs to a list, unless no page shows its noun", () => {
    expect(listOf(changed({ noun: "pendingLogin" }))).toBe("pending-logins");
    expect(listOf(changed({ noun: "settings" }))).toBeUndefined();
  });
});

describe("a message", () => {
  it("carries its changes", () => {
    expect(parseChanges('{"sequence":3,"changes":[{"noun":"device","id":"n1","deleted":true}]}')).toHaveLength(1);
  });
  it("that is not understood is null", () => {
    expect(parseChanges("not json")).toBeNull();
    expect(parseChanges("null")).toBeNull();
    expect(parseChanges('{"changes":7}')).toBeNull();
  });
});
