"""Tailbox: a Tailscale-compatible mesh network in pure Python.

Packages, lowest row first: `wire` and `crypto` (formats, primitives); `control_channel`, `wireguard`,
`userspace_stack`, `paths`, `policy` (engines); `coord`, `derp`, `node` (roles); `cli`, `notebook`, `sandbox`.
ARCHITECTURE.md has the whole picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailbox.node.node import Node as Node

__version__ = "0.1.0"
__all__ = ["Node", "__version__"]


def __getattr__(name: str) -> object:
    """Load the node API on first use, so that `import tailbox` stays cheap."""
    if name == "Node":
        from tailbox.node.node import Node

        return Node
    raise AttributeError(f"module 'tailbox' has no attribute {name!r}")
