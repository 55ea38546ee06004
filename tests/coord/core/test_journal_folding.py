"""Folding leaves what people did, and the state that the journal leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tailbox.coord.core.change import Event, TargetKind
from tailbox.coord.core.journal import NODES, SYSTEM, JournalEntry, RowDelta, TouchedRow, replay
from tailbox.coord.core.journal_folding import fold, is_coarse
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import stable_id_of
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

EVENT = Event(TargetKind.NODE, "UPDATE", "MACHINE_NAME")


def node(number: int, **members: object) -> TailnetNode:
    record = TailnetNode(
        id=number,
        stable_id=stable_id_of(number),
        machine_key=MachinePublicKey(bytes([number]) * 32),
        node_key=NodePublicKey(bytes([number]) * 32),
        user_id=1,
        name=f"n{number}",
        ipv4=f"100.64.0.{number}",
        ipv6=f"fd7a:115c:a1e0::{number:x}",
    )
    return msgspec.structs.replace(record, **members)


class Journal:
    """Entries as a store would write them."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.nodes: dict[int, TailnetNode] = {}

    def write(self, number: int, after: TailnetNode | None, *, events: tuple[Event, ...] = ()) -> None:
        row = TouchedRow(NODES, number, self.nodes.pop(number, None), after)
        if after is not None:
            self.nodes[number] = after
        sequence = len(self.entries) + 1
        self.entries.append(JournalEntry(sequence, float(sequence), SYSTEM, events, (row.delta,)))

    def change(self, number: int, *, events: tuple[Event, ...] = (), **members: object) -> None:
        self.write(number, msgspec.structs.replace(self.nodes[number], **members), events=events)


def folded(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The entries with the folding carried out."""
    folding = fold(entries)
    if folding is None:
        return list(entries)
    rest = [entry for entry in entries if entry.sequence not in folding.folded]
    return sorted([*rest, folding.checkpoint], key=lambda entry: entry.sequence)


def test_presence_is_coarse_and_what_people_do_is_not() -> None:
    update = RowDelta(NODES, 1, {}, {"is_online": True})
    assert is_coarse((), (update,))
    assert not is_coarse((EVENT,), (update,))
    assert not is_coarse((), (update, replace(update, before=None)))
    assert not is_coarse((), (update, replace(update, after=None)))


def test_many_become_one_in_the_place_of_the_last() -> None:
    journal = Journal()
    journal.write(1, node(1), events=(EVENT,))
    for seen in range(10):
        journal.change(1, is_online=seen % 2 == 0, last_seen_unix_s=float(seen))
    journal.change(1, name="other", events=(EVENT,))
    left = folded(journal.entries)
    assert [entry.sequence for entry in left] == [1, 11, 12]
    assert left[1].rows == (RowDelta(NODES, 1, {}, {"last_seen_unix_s": 9.0}),)
    assert replay(left) == replay(journal.entries)


def test_one_is_left_alone() -> None:
    journal = Journal()
    journal.write(1, node(1), events=(EVENT,))
    journal.change(1, is_online=True)
    assert fold(journal.entries) is None
    assert fold(()) is None


def test_what_an_entry_between_has_set_since_stays_set() -> None:
    journal = Journal()
    journal.write(1, node(1), events=(EVENT,))
    journal.change(1, endpoints=("192.0.2.1:1",), is_online=True)
    journal.change(1, endpoints=("192.0.2.2:2",), name="other", events=(EVENT,))
    journal.change(1, is_online=False)
    left = folded(journal.entries)
    assert len(left) == 3
    assert replay(left) == replay(journal.entries)


def test_a_row_that_went_leaves_no_trace_in_the_checkpoint() -> None:
    journal = Journal()
    for number in (1, 2):
        journal.write(number, node(number), events=(EVENT,))
        journal.change(number, is_online=True)
    journal.write(1, None, events=(EVENT,))
    journal.change(2, is_online=False)
    folding = fold(journal.entries)
    assert folding is not None
    assert [row.key for row in folding.checkpoint.rows] == [2]
    assert replay(folded(journal.entries)) == replay(journal.entries)


STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["online", "seen", "endpoints", "name", "delete"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=40,
)


def written(steps: Sequence[tuple[int, str, int, bool]]) -> Journal:
    journal = Journal()
    for number, what, value, is_told in steps:
        events = (EVENT,) if is_told else ()
        if number not in journal.nodes:
            journal.write(number, node(number), events=(EVENT,))
        elif what == "delete":
            journal.write(number, None, events=events)
        else:
            members: dict[str, dict[str, object]] = {
                "online": {"is_online": bool(value), "sessions": value},
                "seen": {"last_seen_unix_s": float(value) or None},
                "endpoints": {"endpoints": tuple(f"192.0.2.1:{port}" for port in range(1, value + 1))},
                "name": {"name": f"name-{number}-{value}"},
            }
            journal.change(number, events=events, **members[what])
    return journal


@given(STEPS, st.data())
def test_the_state_is_the_same_whichever_runs_are_folded(
    steps: Sequence[tuple[int, str, int, bool]], data: st.DataObject
) -> None:
    journal = written(steps)
    entries = list(journal.entries)
    for _ in range(3):
        start = data.draw(st.integers(0, len(entries)))
        end = data.draw(st.integers(start, len(entries)))
        entries = [*entries[:start], *folded(entries[start:end]), *entries[end:]]
    assert dict(replay(entries).nodes) == journal.nodes
    assert [entry for entry in entries if entry.events] == [entry for entry in journal.entries if entry.events]
