"""The underlay: a Path → UDP or DERP, and back. Skeleton of signatures; behaviour follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailbox.clock import Clock
from tailbox.paths.path import Path
from tailbox.randomness import RandomSource
from tailbox.runtime.network import Network
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

if TYPE_CHECKING:
    from tailbox.wire.control.derp_map import DERPMap

OnTrain = Callable[[Train, Path, NodePublicKey | None], None]


class Underlay:
    """Sockets and relay links of one node. It carries trains and decides nothing."""

    def __init__(
        self,
        network: Network,
        clock: Clock,
        on_train: OnTrain,
        *,
        random: RandomSource,
        on_event: Callable[[object], None] = lambda event: None,
        on_peer_gone: Callable[[NodePublicKey, int], None] = lambda peer, region_id: None,
        include_loopback: bool = False,
        plain_http_relays: bool = False,
    ) -> None:
        raise NotImplementedError

    async def start(self, port: int = 0) -> None:
        """Bind UDP sockets of both families, at `port` if it is free, else at any. Raises OSError without IPv4."""

    def send(self, path: Path, peer: NodePublicKey, train: Train) -> None:
        """Send every packet of the train. Never blocks: what finds no room is dropped and counted."""

    def send_datagram(self, endpoint: Endpoint, datagram: bytes) -> None:
        """One datagram that belongs to no peer: a STUN request."""

    def local_endpoints(self) -> tuple[Endpoint, ...]:
        """Addresses of our interfaces with the port of the IPv4 socket."""
        return ()

    def set_private_key(self, private_key: NodePrivateKey) -> None:
        """Log in to relays with this key; open links log in again."""

    def set_derp_map(self, derp_map: DERPMap | None) -> None:
        """Where relays are; links to regions that changed or went are dropped."""

    def set_home(self, region_id: int) -> None:
        """Keep a link to this region open at all times; 0: to none."""

    async def rebind(self) -> None:
        """The network changed: open the UDP sockets anew, on the same port if possible."""

    async def close(self) -> None:
        """Close sockets and links."""
