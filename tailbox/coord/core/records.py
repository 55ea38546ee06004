"""What a tailnet is made of: one frozen record for each row of the store.

Records are msgspec structs so that the store and the journal get their JSON from the declaration. Times are Unix
seconds. Secrets are present as hashes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from tailbox.wire.control.node import Hostinfo
from tailbox.wire.keys import DiscoPublicKey, MachinePublicKey, NetworkLockPublicKey, NodePublicKey

DAY_S = 86_400.0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of stored records."""


class Role(StrEnum):
    """What a user may do in the console and the API."""

    OWNER = "owner"
    ADMIN = "admin"
    NETWORK_ADMIN = "network-admin"
    IT_ADMIN = "it-admin"
    BILLING_ADMIN = "billing-admin"
    AUDITOR = "auditor"
    MEMBER = "member"


class UserStatus(StrEnum):
    """Whether a user may act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    NEEDS_APPROVAL = "needs-approval"


def name_owner(user_id: int, tags: tuple[str, ...]) -> str:
    """To whom a node's name belongs for ever: its tags, all together, or else its user. Tags begin with `tag:`."""
    return ",".join(tags) or f"user:{user_id}"


class User(Record, frozen=True, kw_only=True):
    """A person, identified by (issuer, subject): never by name or mail address."""

    id: int
    issuer: str = "local"
    subject: str = ""
    login_name: str
    display_name: str = ""
    profile_pic_url: str = ""
    role: Role = Role.MEMBER
    status: UserStatus = UserStatus.ACTIVE
    created_unix_s: float = 0.0

    @property
    def is_active(self) -> bool:
        return self.status is UserStatus.ACTIVE


class TailnetNode(Record, frozen=True, kw_only=True):
    """A device that has registered. `id`, `stable_id` and addresses are never given to another."""

    id: int
    stable_id: str
    machine_key: MachinePublicKey
    node_key: NodePublicKey
    lock_key: NetworkLockPublicKey | None = None
    disco_key: DiscoPublicKey | None = None
    user_id: int  # who enrolled it; the owner unless it is tagged
    tags: tuple[str, ...] = ()
    name: str  # first label
    is_name_given: bool = False  # an administrator's choice: the host's own name no longer matters
    ipv4: str
    ipv6: str
    hostinfo: Hostinfo = msgspec.field(default_factory=Hostinfo)
    endpoints: tuple[str, ...] = ()
    capability_version: int = 0
    is_authorized: bool = False
    is_ephemeral: bool = False
    auth_key_id: str = ""  # the key that enrolled it
    created_unix_s: float = 0.0
    key_expires_unix_s: float | None = None  # None: never
    is_key_expiry_disabled: bool = False
    is_expiry_announced: bool = False  # the expiry scan has told peers
    sessions: int = 0  # open map streams
    is_online: bool = False
    last_seen_unix_s: float | None = None  # end of the last stream, or the last request
    approved_routes: tuple[str, ...] = ()

    @property
    def is_tagged(self) -> bool:
        return bool(self.tags)

    @property
    def name_owner(self) -> str:
        return name_owner(self.user_id, self.tags)

    @property
    def addresses(self) -> tuple[str, str]:
        return (self.ipv4, self.ipv6)

    @property
    def announced_routes(self) -> tuple[str, ...]:
        return self.hostinfo.routable_ips

    @property
    def effective_expiry_unix_s(self) -> float | None:
        """When the node key ends; None for never."""
        return None if self.is_key_expiry_disabled else self.key_expires_unix_s

    def is_expired(self, now_unix_s: float) -> bool:
        expiry = self.effective_expiry_unix_s
        return expiry is not None and expiry <= now_unix_s


class RetiredName(Record, frozen=True, kw_only=True):
    """A name that no node has any more. Only a node of the same owner, or that very node, gets it again."""

    name: str
    owner: str  # `name_owner` of the node that had it last, at that time
    node_id: int  # that node


class Credential(Record, frozen=True, kw_only=True):
    """A secret that was shown once: only its hash is kept."""

    id: str
    secret_hash: str
    user_id: int
    description: str = ""
    created_unix_s: float
    expires_unix_s: float | None = None
    revoked_unix_s: float | None = None

    def is_expired(self, now_unix_s: float) -> bool:
        return self.expires_unix_s is not None and self.expires_unix_s <= now_unix_s


class AuthKey(Credential, frozen=True, kw_only=True):
    """Enrols nodes without a person."""

    is_reusable: bool = False
    is_ephemeral: bool = False
    is_preauthorized: bool = False
    tags: tuple[str, ...] = ()
    uses: int = 0

    @property
    def is_exhausted(self) -> bool:
        return self.uses > 0 and not self.is_reusable


class ApiToken(Credential, frozen=True, kw_only=True):
    """Speaks to the REST API as its user."""

    scopes: tuple[str, ...] = ("all",)


class DnsSettings(Record, frozen=True, kw_only=True):
    """What the DNS page says."""

    is_magic_dns: bool = True
    is_override_local: bool = False
    nameservers: tuple[str, ...] = ()
    split_dns: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    search_paths: tuple[str, ...] = ()


class Settings(Record, frozen=True, kw_only=True):
    """The tailnet's own settings."""

    tailnet_name: str = "tailbox"  # for display
    base_domain: str = "tailnet.internal"  # names are `<node>.<base_domain>`
    is_device_approval_on: bool = False
    key_duration_days: int = 180  # 0: node keys never expire
    ephemeral_timeout_s: float = 1800.0  # headscale node.ephemeral.inactivity_timeout
    dns: DnsSettings = msgspec.field(default_factory=DnsSettings)
    policy: str = ""  # the policy's text; "": everything is allowed


class Counters(Record, frozen=True, kw_only=True):
    """The last identifiers given. They only rise, so that nothing is ever given twice."""

    node: int = 0
    user: int = 0
    address: int = 0
    manual_ipv4: tuple[str, ...] = ()  # chosen by administrators: out of the counter's reach for ever


class PendingLogin(Record, frozen=True, kw_only=True):
    """A registration that waits for a person. Fixed to one machine and node key; kept in memory only."""

    id: str
    machine_key: MachinePublicKey
    node_key: NodePublicKey
    old_node_key: NodePublicKey | None = None
    lock_key: NetworkLockPublicKey | None = None
    hostinfo: Hostinfo = msgspec.field(default_factory=Hostinfo)
    capability_version: int = 0
    is_ephemeral: bool = False
    created_unix_s: float
    expires_unix_s: float
