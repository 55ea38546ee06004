"""The index table."""

from __future__ import annotations

from tailbox.wire.keys import NodePublicKey
from tailbox.wireguard.handshake import TransportKeys
from tailbox.wireguard.indices import IndexTable
from tailbox.wireguard.session import Session

PEER = NodePublicKey(bytes([7] * 32))


class Scripted:
    """Randomness that repeats itself, as real randomness one day will."""

    def __init__(self, *values: int) -> None:
        self._values = list(values)

    def bytes(self, count: int) -> bytes:
        return self._values.pop(0).to_bytes(count, "little")

    def uniform(self, low: float, high: float) -> float:
        return low


def session(index: int) -> Session:
    return Session(TransportKeys(bytes(32), bytes(32), index, 1), initiated_by_us=True, now=0.0)


def test_indices_in_use_are_not_given_again() -> None:
    table = IndexTable(Scripted(5, 5, 5, 6))
    first = table.unused()
    table.bind(PEER, session(first))
    assert (first, table.unused()) == (5, 6)


def test_an_index_names_the_newest_holder() -> None:
    table = IndexTable(Scripted())
    older, newer = session(5), session(5)
    table.bind(PEER, older)
    table.bind(PEER, newer)
    table.release(older)
    assert table.get(5) == (PEER, newer)
    table.release(newer)
    table.release(newer)
    assert table.get(5) is None
    assert len(table) == 0
