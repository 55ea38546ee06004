"""Which handshake or session a receiver index names. Indices are ours to choose: random, so that they tell nothing."""

from __future__ import annotations

from tailbox.randomness import RandomSource
from tailbox.wire.keys import NodePublicKey
from tailbox.wireguard.handshake import PendingInitiation
from tailbox.wireguard.session import Session

INDEX_BYTES = 4

Holder = PendingInitiation | Session


class IndexTable:
    """Local index → whose it is, and what it stands for."""

    def __init__(self, random: RandomSource) -> None:
        self._random = random
        self._held: dict[int, tuple[NodePublicKey, Holder]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def unused(self) -> int:
        """A random index that names nothing yet. It does not stay reserved: bind it within the same call."""
        while True:
            index = int.from_bytes(self._random.bytes(INDEX_BYTES), "little")
            if index not in self._held:
                return index

    def bind(self, peer: NodePublicKey, holder: Holder) -> None:
        """Let `holder.local_index` name it, in place of the handshake that it came from."""
        self._held[holder.local_index] = (peer, holder)

    def get(self, index: int) -> tuple[NodePublicKey, Holder] | None:
        return self._held.get(index)

    def release(self, holder: Holder) -> None:
        """Forget the index, unless it names something newer by now."""
        held = self._held.get(holder.local_index)
        if held is not None and held[1] is holder:
            del self._held[holder.local_index]
