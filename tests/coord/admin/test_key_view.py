"""Credentials as keys: when they count as invalid, and that secrets stay out."""

from __future__ import annotations

import msgspec
import pytest

from tailbox.coord.admin.key_view import key_view
from tailbox.coord.core.records import ApiToken, AuthKey

NOW = 1_700_000_000.0
KEY = AuthKey(
    id="k1CNTRL", secret_hash="hash", user_id=4, description="d", created_unix_s=NOW - 0.4,
    expires_unix_s=NOW - 0.4 + 3600, is_reusable=True, tags=("tag:a",),
)  # fmt: skip


def shown(key: AuthKey | ApiToken, **more: str) -> dict[str, object]:
    view = msgspec.to_builtins(key_view(key, now_unix_s=NOW, **more))
    assert isinstance(view, dict)
    return view


def test_an_auth_key_has_its_capabilities_and_no_secret() -> None:
    key = shown(KEY)
    assert (key["keyType"], key["expirySeconds"], key["userId"], key["invalid"]) == ("auth", 3600, "4", False)
    create = {"reusable": True, "ephemeral": False, "preauthorized": False, "tags": ["tag:a"]}
    assert msgspec.json.decode(msgspec.json.encode(key["capabilities"])) == {"devices": {"create": create}}
    assert not {"key", "revoked"} & set(key)
    assert "hash" not in str(key)


def test_the_secret_appears_when_it_is_made() -> None:
    assert shown(KEY, secret="tskey-auth-x-y")["key"] == "tskey-auth-x-y"


def test_no_tags_is_no_member() -> None:
    key = shown(msgspec.structs.replace(KEY, tags=()))
    assert "tags" not in key
    assert "tags" not in str(key["capabilities"])


@pytest.mark.parametrize(
    "change",
    [{"revoked_unix_s": NOW - 1}, {"expires_unix_s": NOW}, {"is_reusable": False, "uses": 1}],
)
def test_revoked_expired_and_used_up_keys_are_invalid(change: dict[str, object]) -> None:
    key = shown(msgspec.structs.replace(KEY, **change))
    assert key["invalid"] is True
    assert ("revoked" in key) == ("revoked_unix_s" in change)


def test_an_api_token_has_no_capabilities_and_may_have_no_end() -> None:
    token = ApiToken(id="k2CNTRL", secret_hash="hash", user_id=4, created_unix_s=NOW)
    key = shown(token)
    assert (key["keyType"], key["expirySeconds"], key["expires"]) == ("api", 0, "0001-01-01T00:00:00Z")
    assert "capabilities" not in key
