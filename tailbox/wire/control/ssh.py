"""SSHPolicy: who may log in as whom. Lower camel case here. Source: tailscale tailcfg/tailcfg.go; §7.3."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import field

from tailbox.wire.control.json import WireStruct
from tailbox.wire.control.timestamp import Timestamp


class CamelStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of the SSH policy's objects."""


class SSHPrincipal(CamelStruct, frozen=True, kw_only=True):
    """Who connects; one match is enough."""

    node: str = ""  # StableID
    node_ip: str = field(default="", name="nodeIP")
    user_login: str = ""
    any: bool = False


class SSHRecorderFailureAction(WireStruct, frozen=True, kw_only=True):
    """What to do when a recording breaks. Go's own names, unlike its surroundings."""

    reject_session_with_message: str = ""
    terminate_session_with_message: str = ""
    notify_url: str = ""


class SSHAction(CamelStruct, frozen=True, kw_only=True):
    """What happens to a matching session; also the answer of a delegated decision."""

    message: str = ""
    reject: bool = False
    accept: bool = False
    session_duration: int = 0  # nanoseconds
    allow_agent_forwarding: bool = False
    hold_and_delegate: str = ""
    allow_local_port_forwarding: bool = False
    allow_remote_port_forwarding: bool = False
    recorders: tuple[str, ...] = ()
    on_recording_failure: SSHRecorderFailureAction | None = None


class SSHRule(CamelStruct, frozen=True, kw_only=True):
    """The first rule that matches decides; one without action matches nobody."""

    rule_expires: Timestamp | None = None
    principals: tuple[SSHPrincipal, ...] = ()
    ssh_users: Mapping[str, str] = {}  # asked → local; "*" any, "=" the same, "" refused
    action: SSHAction | None = None
    accept_env: tuple[str, ...] = ()


class SSHPolicy(CamelStruct, frozen=True, kw_only=True):
    """Replaces the former one; no rules means nobody."""

    rules: tuple[SSHRule, ...] = field(default_factory=lambda: ())  # a default never omitted: `[]` denies
