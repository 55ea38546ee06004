"""What news from the coordinator costs a node: a whole netmap, one peer more, and patches of one peer.

Shown is the time that the node's event loop is busy: decoding apart, from the message to the engine's new view.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from tailbox.crypto.x25519 import node_public
from tailbox.node.core.engine import Engine
from tailbox.node.core.netmap import NetmapReducer
from tailbox.node.core.netmap_follower import NetmapFollower
from tailbox.node.core.netmap_view import ViewPreferences
from tailbox.randomness import SeededRandom
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.control.json import decode, encode
from tailbox.wire.control.map import MapResponse, PeerChange
from tailbox.wire.control.node import Node
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, NodePrivateKey, NodePublicKey

NOW_UNIX_S = 1_800_000_000.0
RANDOM = SeededRandom("netmap")


def node(number: int) -> Node:
    high, low = divmod(number, 250)
    return Node(
        id=number,
        stable_id=f"n{number}",
        name=f"node{number}.tail.example.",
        key=NodePublicKey(RANDOM.bytes(32)),
        disco_key=DiscoPublicKey(RANDOM.bytes(32)),
        addresses=(f"100.64.{high}.{low}/32", f"fd7a:115c:a1e0::{number:x}/128"),
        endpoints=(f"192.0.2.{low}:41641", f"10.0.{high}.{low}:41641"),
        home_derp=1,
        machine_authorized=True,
        online=True,
    )


class Receiver:
    """What a node does with messages, without the network around it."""

    def __init__(self) -> None:
        key = NodePrivateKey(RANDOM.bytes(32))
        self._reducer = NetmapReducer()
        engine = Engine(
            key,
            DiscoPrivateKey(RANDOM.bytes(32)),
            node_public(key),
            transmit=lambda path, peer, train: None,
            random=RANDOM,
            unix_offset_s=0.0,
        )
        self.follower = NetmapFollower(engine)

    def take(self, message: MapResponse) -> None:
        assert self._reducer.apply(message, now_unix_s=NOW_UNIX_S) is None
        assert self._reducer.netmap is not None
        self.follower.apply(self._reducer.netmap, ViewPreferences(), now_unix_s=NOW_UNIX_S, now=1.0)


def measured(name: str, repeat: int, work: Callable[[int], None]) -> None:
    times = []
    for number in range(repeat):
        started = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - started) * 1e3)
    print(f"{name:24} {statistics.median(times):9.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=5000, help="of the netmap")
    parser.add_argument("--repeat", type=int, default=9, help="the medians count")
    options = parser.parse_args()
    everything = NetPortRange(ip="*", ports=PortRange(first=0, last=65535))
    first = MapResponse(
        node=node(1),
        peers=tuple(node(number) for number in range(2, options.peers + 2)),
        packet_filter=(FilterRule(src_ips=("*",), dst_ports=(everything,)),),
    )
    encoded = encode(first)
    measured("decode the first message", 1, lambda number: _ignore(decode(MapResponse, encoded)))
    receiver = Receiver()
    measured("first netmap", 1, lambda number: receiver.take(first))
    measured("same netmap again", options.repeat, lambda number: receiver.take(first))
    more = [MapResponse(peers_changed=(node(options.peers + 2 + number),)) for number in range(options.repeat)]
    measured("one peer more", options.repeat, lambda number: receiver.take(more[number]))
    moved = [PeerChange(node_id=77, endpoints=(f"192.0.2.9:{number + 1}",)) for number in range(options.repeat)]
    measured("one peer moved", options.repeat, lambda n: receiver.take(MapResponse(peers_changed_patch=(moved[n],))))
    measured(
        "one peer gone offline", options.repeat, lambda n: receiver.take(MapResponse(online_change={78: n % 2 > 0}))
    )
    print(f"whole views: {receiver.follower.whole_views}")


def _ignore(value: object) -> None:
    pass


if __name__ == "__main__":
    main()
