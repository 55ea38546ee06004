"""A tailnet to play with: commands applied one after the other, on a clock that moves when told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypedDict, TypeVar, Unpack

from tailbox.coord.core.auth_keys import Created, create_auth_key
from tailbox.coord.core.change import NO_CHANGE, Change, Outcome
from tailbox.coord.core.checkin import check_in
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.registration import Answer, Registrar
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.core.users import create_user
from tailbox.randomness import SeededRandom
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

LOGIN_URL = "https://coord.example/login/"
R = TypeVar("R")


def machine(number: int) -> MachinePublicKey:
    return MachinePublicKey(number.to_bytes(32, "big"))


def key(number: int) -> NodePublicKey:
    return NodePublicKey(number.to_bytes(32, "big"))


class KeyOptions(TypedDict, total=False):
    """What an auth key may be."""

    lifetime_s: float
    is_reusable: bool
    is_ephemeral: bool
    is_preauthorized: bool
    tags: tuple[str, ...]


class World:
    """The newest snapshot, the last change, and shorthand for what nodes ask. Its first user owns it."""

    def __init__(self) -> None:
        self.random = SeededRandom("world")
        self.now = 1_700_000_000.0
        self.tailnet = Tailnet()
        self.change: Change = NO_CHANGE
        self.registrar = Registrar(self.random, lambda login_id: LOGIN_URL + login_id)
        self.owner = self.do(partial(create_user, login_name="alice@example.com"))

    def do(self, command: Callable[[Tailnet, float], Outcome[R]]) -> R:
        outcome = command(self.tailnet, self.now)
        self.tailnet, self.change = outcome.tailnet, outcome.change
        return outcome.result

    def auth_key(self, *, user_id: int | None = None, **options: Unpack[KeyOptions]) -> Created:
        owner = self.owner.id if user_id is None else user_id
        return self.do(partial(create_auth_key, user_id=owner, random=self.random, **options))

    def register(
        self,
        machine_number: int,
        key_number: int,
        *,
        auth: str = "",
        old: int | None = None,
        expiry_unix_s: float | None = None,
        followup: str = "",
        is_ephemeral: bool = False,
        hostname: str = "host",
        tags: tuple[str, ...] = (),
        tailnet: str = "",
    ) -> Answer:
        request = RegisterRequest(
            version=113,
            node_key=key(key_number),
            old_node_key=None if old is None else key(old),
            auth=RegisterAuth(auth_key=auth) if auth else None,
            expiry=None if expiry_unix_s is None else Timestamp.from_unix(expiry_unix_s),
            followup=followup,
            ephemeral=is_ephemeral,
            hostinfo=Hostinfo(hostname=hostname, request_tags=tags),
            tailnet=tailnet,
        )
        return self.do(partial(self.registrar.register, request=request, machine_key=machine(machine_number)))

    def check_in(self, machine_number: int, request: MapRequest) -> int:
        return self.do(partial(check_in, request=request, machine_key=machine(machine_number)))

    def node(self, key_number: int) -> TailnetNode:
        node = self.tailnet.node_by_key(key(key_number))
        assert node is not None
        return node

    def enrolled(self, number: int, *, user_id: int | None = None, **options: Unpack[KeyOptions]) -> TailnetNode:
        """A node of the owner or another user, with a machine and a node key of this number."""
        created = self.auth_key(user_id=user_id, **options)
        assert self.register(number, number, auth=created.text).response.error == ""
        return self.node(number)
