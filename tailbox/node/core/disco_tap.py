"""Shows a tap what disco envelopes seal: the key of a box is shared, so either end opens what either has sealed.

Only an engine with a tap has one of these. It opens copies; path discovery itself never sees what is done here.
"""

from __future__ import annotations

from tailbox.crypto.box import SharedBox
from tailbox.errors import AuthenticationError, WireError
from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.paths.path import Path
from tailbox.wire.disco import Envelope
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, NodePublicKey


class DiscoTap:
    """Records each disco datagram twice: as it travels, and opened."""

    def __init__(self, tap: PacketTap, disco_key: DiscoPrivateKey) -> None:
        self._tap = tap
        self._disco_key = disco_key

    def sent(
        self, peer: NodePublicKey, recipient: DiscoPublicKey | None, datagram: bytes, path: Path, *, now: float
    ) -> None:
        """`recipient`: the peer's disco key; None leaves the envelope closed."""
        self._tap.record(TapPoint.DISCO_SENT, peer, datagram, detail=str(path), now=now)
        self._opened(TapPoint.DISCO_MESSAGE_SENT, peer, recipient, datagram, path, now)

    def received(self, peer: NodePublicKey | None, datagram: bytes, path: Path, *, now: float) -> None:
        self._tap.record(TapPoint.DISCO_RECEIVED, peer, datagram, detail=str(path), now=now)
        try:
            sender = Envelope.decode(datagram).sender
        except WireError:
            return
        self._opened(TapPoint.DISCO_MESSAGE_RECEIVED, peer, sender, datagram, path, now)

    def _opened(
        self,
        point: TapPoint,
        peer: NodePublicKey | None,
        other: DiscoPublicKey | None,
        datagram: bytes,
        path: Path,
        now: float,
    ) -> None:
        if other is None or other.is_zero:
            return
        try:
            message = SharedBox(self._disco_key, other).open(Envelope.decode(datagram).sealed)
        except (AuthenticationError, WireError):
            return  # a stranger's: the engine counts it
        self._tap.record(point, peer, message, detail=str(path), now=now)
