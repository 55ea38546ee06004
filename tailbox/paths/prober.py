"""Sends pings, pongs and call-me-maybes, and remembers which pings are in flight.

A call-me-maybe tells the peer our addresses. Those of a NAT age, so when they are older than 27 s a STUN round is asked
for first; if it does not come about within a second, the old ones are told. Source: paths.md §6.5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from tailbox.errors import AuthenticationError
from tailbox.paths.disco_seal import DiscoSeal
from tailbox.paths.events import DiscoDropReason, FreshEndpointsWanted, PingPurpose
from tailbox.paths.outbox import Outbox
from tailbox.paths.path import Direct, Path
from tailbox.paths.peer_path import PeerPath
from tailbox.paths.probes import Probe, Probes
from tailbox.randomness import RandomSource
from tailbox.wire.addresses import Endpoint
from tailbox.wire.disco import TRANSACTION_BYTES, CallMeMaybe, DiscoMessage, Ping, Pong
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

ENDPOINTS_FRESH_S = 27.0  # magicsock.go endpointsFreshEnoughDuration
CALL_ANYWAY_AFTER_S = 1.0  # ours: what a STUN round gets before old endpoints are told after all
CALL_SPACING_S = 5.0  # ours: call-me-maybes to a peer of which no address is known
RELAY_MAGIC_IP = IPv4Address("127.3.3.40")  # tailcfg DerpMagicIP: in a pong, "by relay"; the port is the region


class Prober:
    """The sending half of path discovery."""

    def __init__(
        self, seal: DiscoSeal, node_key: NodePublicKey, random: RandomSource, drops: Counter[DiscoDropReason]
    ) -> None:
        self.node_key = node_key
        self.probes = Probes()
        self.call_anyway_at: float | None = None
        self._seal = seal
        self._random = random
        self._drops = drops
        self._own_endpoints: tuple[Endpoint, ...] = ()
        self._own_endpoints_at = float("-inf")
        self._calls_waiting: dict[NodePublicKey, None] = {}

    def ping(self, peer: PeerPath, path: Path, purpose: PingPurpose, now: float, outbox: Outbox) -> None:
        """Send one ping, and expect its pong."""
        transaction = self._random.bytes(TRANSACTION_BYTES)
        message = Ping(transaction, self.node_key)
        if not self._send(message, peer.key, peer.reach.disco_key, path, outbox):
            return
        self.probes.add(transaction, Probe(peer.key, path, now, purpose))
        if isinstance(path, Direct) and (candidate := peer.candidates.get(path.endpoint)) is not None:
            candidate.pinged_at = now

    def pong(
        self, ping: Ping, source: Path, recipient: NodePublicKey, disco_key: DiscoPublicKey, outbox: Outbox
    ) -> None:
        """Answer to where the ping came from, over the transport that brought it."""
        seen = source.endpoint if isinstance(source, Direct) else Endpoint(RELAY_MAGIC_IP, source.region_id)
        self._send(Pong(ping.transaction, seen), recipient, disco_key, source, outbox)

    def search(self, peer: PeerPath, purpose: PingPurpose, now: float, outbox: Outbox) -> None:
        """A discovery round: ping every address not pinged lately, and have the peer do the same."""
        peer.searched_at = now
        peer.expire_candidates(now=now)
        due = peer.candidates.due(now=now)
        for candidate in due:
            self.ping(peer, Direct(candidate.endpoint), purpose, now, outbox)
        knows_no_address = not len(peer.candidates) and now - peer.called_at >= CALL_SPACING_S
        if due or knows_no_address:
            self._call(peer, now, outbox)

    def set_own_endpoints(self, endpoints: Sequence[Endpoint], *, now: float) -> None:
        self._own_endpoints = tuple(endpoints)
        self._own_endpoints_at = now

    def doubt_own_endpoints(self) -> None:
        """The network changed: what we know of our addresses is old, whatever its age."""
        self._own_endpoints_at = float("-inf")

    def forget(self, key: NodePublicKey) -> None:
        self._calls_waiting.pop(key, None)

    def send_waiting_calls(self, peers: Mapping[NodePublicKey, PeerPath], outbox: Outbox) -> None:
        """Our endpoints are as fresh as they will be: tell them to whom they were kept from."""
        self.call_anyway_at = None
        waiting, self._calls_waiting = self._calls_waiting, {}
        for key in waiting:
            if (peer := peers.get(key)) is not None:
                self._send_call(peer, outbox)

    def _call(self, peer: PeerPath, now: float, outbox: Outbox) -> None:
        if peer.relay() is None:
            return
        peer.called_at = now
        if now - self._own_endpoints_at < ENDPOINTS_FRESH_S:
            self._send_call(peer, outbox)
            return
        self._calls_waiting[peer.key] = None
        if self.call_anyway_at is None:
            self.call_anyway_at = now + CALL_ANYWAY_AFTER_S
            outbox.events.append(FreshEndpointsWanted())

    def _send_call(self, peer: PeerPath, outbox: Outbox) -> None:
        relay = peer.relay()
        if relay is not None and self._own_endpoints:
            self._send(CallMeMaybe(self._own_endpoints), peer.key, peer.reach.disco_key, relay, outbox)

    def _send(
        self, message: DiscoMessage, recipient: NodePublicKey, disco_key: DiscoPublicKey, path: Path, outbox: Outbox
    ) -> bool:
        try:
            datagram = self._seal.seal(message, disco_key)
        except AuthenticationError:  # a key of low order, from the network map
            self._drops[DiscoDropReason.NOT_AUTHENTIC] += 1
            return False
        outbox.datagrams.append((path, recipient, datagram))
        return True
