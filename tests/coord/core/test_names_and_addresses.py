"""Names and addresses: what is made of a hostname, and that nothing is given twice under any sequence of commands."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tailbox.coord.core.addressing import LAST_NUMBER, next_addresses
from tailbox.coord.core.devices import delete_device, rename_device, set_device_ipv4
from tailbox.coord.core.journal import SYSTEM as SYSTEM_ACTOR
from tailbox.coord.core.journal import JournalEntry, replay, touched_rows
from tailbox.coord.core.names import LABEL, free_name, label_from_hostname
from tailbox.coord.core.presence import close_session, open_session
from tailbox.coord.core.records import Counters, Settings
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, RequestError
from tailbox.wire.addresses import CHROMEOS_IPV4, SERVICE_IPV4, SERVICE_IPV6, is_tailnet_address
from tests.coord.core.world import World


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
    assert free_name(world.tailnet, "x" * 63, node_id=9) == "x" * 61 + "-1"
    assert free_name(world.tailnet, "x" * 63, node_id=1) == "x" * 63


def test_a_long_domain_leaves_less_room() -> None:
    tailnet = Tailnet(settings=Settings(base_domain="d" * 230 + ".internal"))
    assert len(free_name(tailnet, "x" * 63, node_id=1)) + 1 + len(tailnet.settings.base_domain) <= 253


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
        self.reusable = self.world.auth_key(is_reusable=True).text
        self.record()

    def record(self) -> None:
        """What the coordinator and the store do between them."""
        world = self.world
        rows = touched_rows(self.known, world.tailnet, world.change)
        deltas = tuple(row.delta for row in rows)
        self.entries.append(JournalEntry(len(self.entries) + 1, world.now, SYSTEM_ACTOR, world.change.events, deltas))
        self.known = world.tailnet

    @rule(machine=st.integers(1, 4), key=st.integers(1, 6), old=st.none() | st.integers(1, 6), name=st.text(max_size=3))
    def register(self, machine: int, key: int, old: int | None, name: str) -> None:
        self.world.register(machine, key, auth=self.reusable, old=old, hostname=name)
        self.record()

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
