"""Names and addresses: what is made of a hostname, and that nothing is given twice under any sequence of commands."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tailbox.coord.core.addressing import LAST_NUMBER, next_addresses
from tailbox.coord.core.checkin import MAX_NAMES_LEFT, check_in
from tailbox.coord.core.devices import delete_device, rename_device, set_device_ipv4, tag_device
from tailbox.coord.core.housekeeping import keep_house
from tailbox.coord.core.journal import SYSTEM as SYSTEM_ACTOR
from tailbox.coord.core.journal import JournalEntry, replay, touched_rows
from tailbox.coord.core.names import LABEL, free_name, label_from_hostname
from tailbox.coord.core.presence import close_session, open_session
from tailbox.coord.core.records import Counters, RetiredName, Settings, TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.core.users import create_user, delete_user
from tailbox.errors import Conflict, RequestError
from tailbox.wire.addresses import CHROMEOS_IPV4, SERVICE_IPV4, SERVICE_IPV6, is_tailnet_address
from tailbox.wire.control.map import MapRequest
from tailbox.wire.control.node import Hostinfo
from tests.coord.core.world import World, key
from tests.coord.core.world import machine as machine_key


@pytest.mark.parametrize(
    ("hostname", "label"),
    [
        ("Laptop", "laptop"),
        ("My Mac.local", "my-mac"),
        ("web.example.com", "web-example-com"),
        ("a_b@c", "a-b-c"),
        ("--x--", "x"),
        ("日本", "node"),
        ("", "node"),
        ("é" * 300 + "a", "a"),
        ("x" * 80, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
    ],
)
def test_a_hostname_becomes_a_label(hostname: str, label: str) -> None:
    assert label_from_hostname(hostname) == label


@given(st.text(max_size=100))
def test_any_hostname_becomes_a_valid_label(hostname: str) -> None:
    assert LABEL.fullmatch(label_from_hostname(hostname))


def test_suffixes_cut_the_stem_to_fit() -> None:
    world = World()
    for number in (1, 2):
        world.enrolled(number)
        world.do(partial(rename_device, node_id=number, name="x" * (62 + (number == 1))))
    assert free_name(world.tailnet, "x" * 63, node_id=9, owner="user:1") == "x" * 61 + "-1"
    assert free_name(world.tailnet, "x" * 63, node_id=1, owner="user:1") == "x" * 63


def test_a_long_domain_leaves_less_room() -> None:
    tailnet = Tailnet(settings=Settings(base_domain="d" * 230 + ".internal"))
    name = free_name(tailnet, "x" * 63, node_id=1, owner="user:1")
    assert len(name) + 1 + len(tailnet.settings.base_domain) <= 253


def test_a_name_comes_back_to_its_owner_and_to_nobody_else(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    world.do(partial(delete_device, node_id=world.enrolled(1).id))
    assert world.tailnet.retired_names == {"host": RetiredName(name="host", owner="user:1", node_id=1)}
    assert world.enrolled(2, user_id=bob.id).name == "host-1"
    assert world.enrolled(3).name == "host"
    assert world.tailnet.retired_names == {}


def test_a_name_of_tagged_nodes_stays_with_the_same_tags(world: World) -> None:
    world.do(partial(delete_device, node_id=world.enrolled(1, tags=("tag:b", "tag:a")).id))
    assert world.enrolled(2).name == "host-1"
    assert world.enrolled(3, tags=("tag:a",)).name == "host-2"
    bob = world.do(partial(create_user, login_name="bob"))
    assert world.enrolled(4, tags=("tag:a", "tag:b"), user_id=bob.id).name == "host"


def test_a_node_that_is_tagged_takes_its_name_along(world: World) -> None:
    node = world.enrolled(1)
    world.do(partial(tag_device, node_id=node.id, tags=("tag:a",)))
    world.do(partial(rename_device, node_id=node.id, name="desk"))
    world.do(partial(tag_device, node_id=node.id, tags=("tag:b",)))
    world.do(partial(rename_device, node_id=node.id, name=""))
    assert world.node(1).name == "host"
    world.do(partial(delete_device, node_id=node.id))
    assert {name.name: name.owner for name in world.tailnet.retired_names.values()} == {
        "desk": "tag:b",
        "host": "tag:b",
    }


def test_an_administrator_cannot_give_away_the_name_of_a_machine_that_is_gone(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    world.do(partial(delete_device, node_id=world.enrolled(1).id))
    other = world.enrolled(2, user_id=bob.id)
    with pytest.raises(Conflict, match="another owner"):
        world.do(partial(rename_device, node_id=other.id, name="host"))
    world.do(partial(rename_device, node_id=other.id, name="desk"))
    world.do(partial(rename_device, node_id=other.id, name=""))
    assert world.node(2).name == "host-1"
    assert set(world.tailnet.retired_names) == {"host", "desk"}
    mine = world.enrolled(3, tags=("tag:a",))
    world.do(partial(tag_device, node_id=mine.id, tags=()))
    world.do(partial(rename_device, node_id=mine.id, name="host"))
    assert world.node(3).name == "host"


def test_ephemeral_nodes_keep_their_name_however_they_leave(world: World) -> None:
    world.enrolled(1, is_ephemeral=True)
    world.register(1, 1, expiry_unix_s=123.0)
    assert world.enrolled(2, is_ephemeral=True).name == "host"
    world.now += 10 * world.tailnet.settings.ephemeral_timeout_s
    world.do(keep_house)
    assert not world.tailnet.nodes
    assert world.enrolled(3).name == "host"


def test_the_names_of_a_deleted_user_go_to_nobody(world: World) -> None:
    bob = world.do(partial(create_user, login_name="bob"))
    world.enrolled(1, user_id=bob.id)
    world.do(partial(delete_user, user_id=bob.id))
    assert world.change.names == {"host"}
    assert world.enrolled(2).name == "host-1"


def test_a_host_cannot_use_up_names_without_end(world: World) -> None:
    world.enrolled(1)
    for number in range(2 * MAX_NAMES_LEFT):
        hostinfo = Hostinfo(hostname=f"other-{number}")
        world.check_in(1, MapRequest(version=113, node_key=key(1), hostinfo=hostinfo, omit_peers=True))
    assert len(world.tailnet.retired_names) == MAX_NAMES_LEFT
    assert world.node(1).name == f"other-{MAX_NAMES_LEFT - 1}"


def test_a_name_costs_little_beside_ten_thousand_retired_ones(world: World) -> None:
    names = [RetiredName(name=f"n{number}", owner="user:9", node_id=number) for number in range(10_000)]
    world.tailnet = replace(world.tailnet, retired_names={retired.name: retired for retired in names})
    before = world.tailnet
    world.do(partial(delete_device, node_id=world.enrolled(1).id))
    rows = touched_rows(before, world.tailnet, world.change)
    assert [(row.table, row.key) for row in rows] == [("retired_names", "host")]


def test_every_address_given_is_assignable() -> None:
    counters = Counters(address=5980)  # before the service address
    given_out = []
    for _ in range(200):
        ipv4, ipv6, counters = next_addresses(counters)
        given_out += [ip_address(ipv4), ip_address(ipv6)]
    assert all(is_tailnet_address(address) for address in given_out)
    assert len(set(given_out)) == 400
    _, _, beyond = next_addresses(Counters(address=int(SERVICE_IPV4) - int(ip_address("100.64.0.0")) - 1))
    assert beyond.address == int(SERVICE_IPV4) - int(ip_address("100.64.0.0")) + 1
    first_chromeos = int(CHROMEOS_IPV4.network_address) - int(ip_address("100.64.0.0"))
    assert next_addresses(Counters(address=first_chromeos - 1))[0] == "100.115.94.0"
    assert str(SERVICE_IPV6) not in {next_addresses(Counters(address=number))[1] for number in range(80, 90)}


def test_a_full_range_says_so() -> None:
    assert next_addresses(Counters(address=LAST_NUMBER - 1))[0] == "100.127.255.254"
    with pytest.raises(Conflict, match="no free address"):
        next_addresses(Counters(address=LAST_NUMBER))


class RandomCommands(RuleBasedStateMachine):
    """Any sequence of commands: what must be unique is, for ever; the journal replays to the state."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.entries: list[JournalEntry] = []
        self.owner_of: dict[str, int] = {}
        self.known = Tailnet()
        self.record()
        self.last_holder: dict[str, TailnetNode] = {}
        self.bob = self.world.do(partial(create_user, login_name="bob"))
        self.record()
        self.reusable = [
            self.make_key(user_id=user_id, tags=tags, is_ephemeral=is_ephemeral)
            for user_id in (self.world.owner.id, self.bob.id)
            for tags in ((), ("tag:a",))
            for is_ephemeral in (False, True)
        ]

    def make_key(self, *, user_id: int, tags: tuple[str, ...], is_ephemeral: bool) -> str:
        made = self.world.auth_key(is_reusable=True, user_id=user_id, tags=tags, is_ephemeral=is_ephemeral)
        self.record()
        return made.text

    def record(self) -> None:
        """What the coordinator and the store do between them."""
        world = self.world
        rows = touched_rows(self.known, world.tailnet, world.change)
        deltas = tuple(row.delta for row in rows)
        self.entries.append(JournalEntry(len(self.entries) + 1, world.now, SYSTEM_ACTOR, world.change.events, deltas))
        self.known = world.tailnet

    @rule(
        machine=st.integers(1, 4),
        key=st.integers(1, 6),
        old=st.none() | st.integers(1, 6),
        name=st.text(max_size=3) | st.sampled_from(["a", "b"]),
        auth=st.integers(0, 7),
    )
    def register(self, machine: int, key: int, old: int | None, name: str, auth: int) -> None:
        self.world.register(machine, key, auth=self.reusable[auth], old=old, hostname=name)
        self.record()

    @rule(machine=st.integers(1, 4), key_number=st.integers(1, 6), name=st.sampled_from(["a", "b", "c"]))
    def call_itself_otherwise(self, machine: int, key_number: int, name: str) -> None:
        request = MapRequest(
            version=113, node_key=key(key_number), hostinfo=Hostinfo(hostname=name), omit_peers=True, stream=False
        )
        self.try_to(partial(check_in, request=request, machine_key=machine_key(machine)))

    @rule(node=st.integers(1, 8), tags=st.sampled_from([(), ("tag:a",), ("tag:a", "tag:b")]))
    def tag(self, node: int, tags: tuple[str, ...]) -> None:
        self.try_to(partial(tag_device, node_id=node, tags=tags))

    @rule(seconds=st.sampled_from([1.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.try_to(partial(keep_house))

    @rule()
    def delete_bob(self) -> None:
        self.try_to(partial(delete_user, user_id=self.bob.id))

    @rule(machine=st.integers(1, 4), key=st.integers(1, 6))
    def log_out(self, machine: int, key: int) -> None:
        self.world.register(machine, key, expiry_unix_s=123.0)
        self.record()

    @rule(node=st.integers(1, 8))
    def delete(self, node: int) -> None:
        self.try_to(partial(delete_device, node_id=node))

    @rule(node=st.integers(1, 8), name=st.sampled_from(["", "a", "b", "node", "node-1"]))
    def rename(self, node: int, name: str) -> None:
        self.try_to(partial(rename_device, node_id=node, name=name))

    @rule(node=st.integers(1, 8), last=st.integers(1, 12))
    def choose_address(self, node: int, last: int) -> None:
        self.try_to(partial(set_device_ipv4, node_id=node, ipv4=f"100.64.0.{last}"))

    @rule(node=st.integers(1, 8))
    def connect(self, node: int) -> None:
        self.try_to(partial(open_session, node_id=node))

    @rule(node=st.integers(1, 8))
    def disconnect(self, node: int) -> None:
        self.try_to(partial(close_session, node_id=node))

    def try_to(self, command: partial) -> None:  # type: ignore[type-arg]  # of any command's outcome
        try:
            self.world.do(command)
        except RequestError:
            return
        self.record()

    @invariant()
    def nothing_is_given_twice(self) -> None:
        nodes = list(self.world.tailnet.nodes.values())
        for values in ([node.name for node in nodes], [node.node_key for node in nodes]):
            assert len(set(values)) == len(values)
        for node in nodes:
            for given_once in (*node.addresses, node.stable_id, f"id {node.id}"):
                assert self.owner_of.setdefault(given_once, node.id) == node.id

    @invariant()
    def a_name_never_passes_to_another_owner(self) -> None:
        tailnet = self.world.tailnet
        for node in tailnet.nodes.values():
            former = self.last_holder.get(node.name, node)
            assert former.id == node.id or former.name_owner == node.name_owner
            self.last_holder[node.name] = node
        held = {node.name for node in tailnet.nodes.values()}
        assert self.last_holder.keys() - held == tailnet.retired_names.keys()
        for retired in tailnet.retired_names.values():
            former = self.last_holder[retired.name]
            assert (retired.owner, retired.node_id) == (former.name_owner, former.id)

    @invariant()
    def indexes_agree_with_the_nodes(self) -> None:
        tailnet = self.world.tailnet
        rebuilt = Tailnet.assemble(nodes=tailnet.nodes.values())
        for node in tailnet.nodes.values():
            assert tailnet.node_by_key(node.node_key) is node
            assert tailnet.node_by_name(node.name) is node
            assert tailnet.node_by_address(node.ipv4) is node
            assert set(tailnet.nodes_of_machine(node.machine_key)) == set(rebuilt.nodes_of_machine(node.machine_key))

    def teardown(self) -> None:
        assert replay(self.entries) == self.world.tailnet


TestRandomCommands = RandomCommands.TestCase
TestRandomCommands.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
