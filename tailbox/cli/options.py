"""Where things are unless somebody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

SOCKET_NAME = "tailboxd.sock"


def default_state_dir() -> Path:
    """`TAILBOX_STATE_DIR`, else `$XDG_DATA_HOME/tailbox`, else `~/.local/share/tailbox`."""
    if chosen := os.environ.get("TAILBOX_STATE_DIR"):
        return Path(chosen).expanduser()
    if data_home := os.environ.get("XDG_DATA_HOME"):
        return Path(data_home).expanduser() / "tailbox"
    return Path.home() / ".local" / "share" / "tailbox"


def node_state_dir(chosen: Path | None) -> Path:
    """The node's part of the state directory; a directory given by hand is the node's own."""
    return chosen if chosen is not None else default_state_dir() / "node"


def socket_path(socket: Path | None, state_dir: Path | None) -> Path:
    """The LocalAPI socket: given, or TS_SOCKET as in the official container, or in the node's state directory."""
    if socket is not None:
        return socket
    if chosen := os.environ.get("TS_SOCKET"):
        return Path(chosen)
    return node_state_dir(state_dir) / SOCKET_NAME
