"""POST /machine/register. Source: tailscale tailcfg/tailcfg.go; control reference §5.1."""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from tailbox.wire.control.json import CompleteStruct, WireStruct
from tailbox.wire.control.node import Hostinfo, Login, User
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import NetworkLockPublicKey, NodePublicKey

LOGOUT_EXPIRY = Timestamp(123 * 1_000_000_000)  # what Go's client sends to log out: direct.go, TryLogout


class RegisterAuth(WireStruct, frozen=True, kw_only=True):
    """A credential in place of a person. Its repr hides the key."""

    auth_key: str = ""

    def __repr__(self) -> str:
        return f"RegisterAuth(auth_key={'[redacted]' if self.auth_key else ''!r})"


class RegisterRequest(WireStruct, frozen=True, kw_only=True):
    """Register a node key, renew it, or log out."""

    version: int = 0
    node_key: NodePublicKey
    old_node_key: NodePublicKey | None = None
    nl_key: NetworkLockPublicKey | None = None
    auth: RegisterAuth | None = None
    expiry: Timestamp | None = None  # past: log out; future: a wish
    followup: str = ""  # the AuthURL of before: answer when the user is done
    hostinfo: Hostinfo | None = None
    ephemeral: bool = False  # not repeated in the followup
    node_key_signature: bytes | None = None
    signature_type: object = None
    timestamp: Timestamp | None = None
    device_cert: bytes | None = None
    signature: bytes | None = None
    tailnet: str = ""  # `required:NAME`: refuse elsewhere


class RegisterResponse(CompleteStruct, frozen=True, kw_only=True):
    """Success if nothing below `login` says otherwise. Refusals are `error` with status 200."""

    user: User = User()
    login: Login = Login()
    node_key_expired: bool = False
    machine_authorized: bool = False
    auth_url: str = field(default="", name="AuthURL")
    node_key_signature: bytes | UnsetType = UNSET
    error: str = ""
