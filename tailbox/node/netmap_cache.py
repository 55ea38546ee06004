"""The last netmap on disk, so that a node that starts while the coordinator is away still knows its peers.

One file beside the state file: 0600, replaced atomically, of one node key at one coordinator. It holds what the
coordinator said and no secret of ours. What cannot be read is no netmap: the coordinator sends another one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as change

from tailbox.errors import Malformed
from tailbox.node.core.netmap import Netmap, NetmapReducer
from tailbox.runtime.tls import write_private
from tailbox.wire.control.json import WireStruct, decode, encode
from tailbox.wire.control.map import MapResponse
from tailbox.wire.keys import NodePublicKey

FILE_NAME = "netmap.cached.json"
SCHEMA = 1  # ours; another number is another program's
MAX_BYTES = 64 * 1024 * 1024  # ours


class CachedNetmap(WireStruct, frozen=True, kw_only=True):
    """The file's content."""

    schema: int = 0
    login_server: str = ""
    node_key: NodePublicKey | None = None
    clock_skew_s: float = 0.0
    map: MapResponse


class NetmapCache:
    """One node's file; without a directory there is none."""

    def __init__(self, state_dir: Path | None, login_server: str) -> None:
        self._path = state_dir / FILE_NAME if state_dir else None
        self._login_server = login_server

    @property
    def is_kept(self) -> bool:
        return self._path is not None

    def load(self, node_key: NodePublicKey, *, now_unix_s: float) -> Netmap | None:
        """The netmap of this very key, nobody being known to be online. None: no file, or none of use."""
        try:
            if self._path is None or self._path.stat().st_size > MAX_BYTES:
                return None
            found = decode(CachedNetmap, self._path.read_bytes())
        except (OSError, Malformed):
            return None
        if (found.schema, found.login_server, found.node_key) != (SCHEMA, self._login_server, node_key):
            return None
        reducer = NetmapReducer()
        if reducer.apply(found.map, now_unix_s=now_unix_s) is not None or reducer.netmap is None:
            return None
        if reducer.netmap.self_node.key != node_key:
            return None
        peers = {number: change(peer, online=None) for number, peer in reducer.netmap.peers.items()}
        return replace(reducer.netmap, peers=peers, clock_skew_s=found.clock_skew_s)

    def save(self, netmap: Netmap) -> None:
        """Replace the file. Raises OSError."""
        if self._path is None:
            return
        message = MapResponse(
            node=netmap.self_node,
            peers=tuple(netmap.peers.values()),
            derp_map=netmap.derp_map,
            dns_config=netmap.dns,
            domain=netmap.domain,
            user_profiles=tuple(netmap.users.values()),
            packet_filter=netmap.rules,
        )
        whole = CachedNetmap(
            schema=SCHEMA,
            login_server=self._login_server,
            node_key=netmap.self_node.key,
            clock_skew_s=netmap.clock_skew_s,
            map=message,
        )
        write_private(self._path, encode(whole))

    def remove(self) -> None:
        """The login ended: nothing of the tailnet stays."""
        if self._path is not None:
            try:
                os.unlink(self._path)
            except OSError:
                pass  # there was none; or the directory is read-only, and the key that it is for is gone anyway
