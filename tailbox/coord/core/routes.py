"""Subnet routes and exit routes: announced by the node, approved by an administrator, served by one node each.

Source: control reference §9.2. The health probe of several candidates is not here: the first online one serves.
"""

from __future__ import annotations

from collections.abc import Mapping

from tailbox.coord.core.devices import EXIT_ROUTES
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet


def enabled_routes(node: TailnetNode) -> tuple[str, ...]:
    """Announced and approved, without the exit routes."""
    return tuple(route for route in node.approved_routes if route in node.announced_routes and route not in EXIT_ROUTES)


def is_exit_node(node: TailnetNode) -> bool:
    """Whether both exit routes are announced and approved: clients want the pair."""
    return all(route in node.announced_routes and route in node.approved_routes for route in EXIT_ROUTES)


def primary_routes(tailnet: Tailnet) -> Mapping[int, tuple[str, ...]]:
    """What each node serves: of the authorised candidates for a prefix the first online one, else the first."""
    server_of: dict[str, TailnetNode] = {}
    for node in sorted(tailnet.nodes.values(), key=_by_id):
        if not node.approved_routes or not node.is_authorized:
            continue
        for route in enabled_routes(node):
            current = server_of.get(route)
            if current is None or (node.is_online and not current.is_online):
                server_of[route] = node
    served: dict[int, tuple[str, ...]] = {}
    for route, node in server_of.items():
        served[node.id] = (*served.get(node.id, ()), route)
    return served


def _by_id(node: TailnetNode) -> int:
    return node.id
