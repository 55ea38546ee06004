"""What a node's map stream shows: the bridge from the pure netmap functions to the payloads of messages.

A view is a whole MapResponse. All renderers share one Cartographer, so that peers are drawn once for every viewer and
the difference of two views finds unchanged peers by identity; and they share the peers' JSON, since after a restart
every node asks for a whole map at once.
"""

from __future__ import annotations

import msgspec

from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.netmap import Cartographer
from tailbox.coord.core.netmap_delta import diff
from tailbox.errors import NotFound
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.json import encode
from tailbox.wire.control.map import MapResponse
from tailbox.wire.control.node import Node
from tailbox.wire.control.timestamp import Timestamp


class _PeerJson:
    """The JSON of peers as they were last drawn: one text for each node, whoever looks."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._texts: dict[int, tuple[Node, msgspec.Raw]] = {}

    def encode(self, view: MapResponse) -> bytes:
        """The whole map as JSON."""
        texts = tuple(self._text_of(peer) for peer in view.peers)
        if len(self._texts) > 2 * len(self._coordinator.tailnet.nodes):  # most are of nodes that are gone
            self._texts.clear()
        return encode(msgspec.structs.replace(view, peers=texts))

    def _text_of(self, peer: Node) -> msgspec.Raw:
        known = self._texts.get(peer.id)
        if known is not None and known[0] is peer:
            return known[1]
        text = msgspec.Raw(encode(peer))
        self._texts[peer.id] = (peer, text)
        return text


class NetmapRenderer:
    """Makes renderers for nodes."""

    def __init__(self, coordinator: Coordinator, derp_map: DERPMap) -> None:
        self.derp_map = derp_map
        self._coordinator = coordinator
        self._cartographer = Cartographer(derp_map=derp_map)
        self._peer_json = _PeerJson(coordinator)

    def for_node(self, node_id: int) -> NodeRenderer:
        """The renderer of one stream."""
        return NodeRenderer(self._coordinator, self._cartographer, self._peer_json, node_id)


class NodeRenderer:
    """One viewer's maps."""

    def __init__(
        self, coordinator: Coordinator, cartographer: Cartographer, peer_json: _PeerJson, node_id: int
    ) -> None:
        self._coordinator = coordinator
        self._cartographer = cartographer
        self._peer_json = peer_json
        self._node_id = node_id

    def view(self) -> MapResponse | None:
        """The whole map as of now; None once the node is gone."""
        now_unix_s = self._coordinator.clock.unix_time()
        try:
            return self._cartographer.netmap(self._coordinator.tailnet, self._node_id, now_unix_s=now_unix_s)
        except NotFound:
            return None

    def first(self, view: MapResponse) -> bytes:
        """The first message is the view itself."""
        return self._peer_json.encode(view)

    def difference(self, old: MapResponse, new: MapResponse) -> bytes | None:
        """The delta, or None if nothing that this viewer sees has changed."""
        delta = diff(old, new)
        return None if delta is None else encode(delta)

    def farewell(self, last: MapResponse) -> bytes:
        """The node itself with a key that has just ended: without it a deleted client polls in vain for ever."""
        assert last.node is not None, "a whole map has its own node"
        ended = Timestamp.from_unix(self._coordinator.clock.unix_time() - 1.0)
        return encode(MapResponse(node=msgspec.structs.replace(last.node, key_expiry=ended)))
