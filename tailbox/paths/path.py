"""What a path is, and what is known of the peer at its end."""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import DiscoPublicKey


@dataclass(frozen=True, slots=True)
class Direct:
    """UDP datagrams straight to an address."""

    endpoint: Endpoint

    def __str__(self) -> str:
        return str(self.endpoint)


@dataclass(frozen=True, slots=True)
class Relayed:
    """Through the relays of a DERP region."""

    region_id: int

    def __str__(self) -> str:
        return f"derp-{self.region_id}"


Path = Direct | Relayed


@dataclass(frozen=True, slots=True)
class PeerReach:
    """What the network map says of where a peer may be found."""

    disco_key: DiscoPublicKey  # zero: a peer that does not speak disco
    endpoints: tuple[Endpoint, ...] = ()
    home_region: int = 0  # 0: no relay
