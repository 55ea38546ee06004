"""Which flows we started, so that their answers may come in.

A bounded table, least recently used first out, without time-outs: it is refreshed by look-ups and survives changes of
the rules. Source: tailscale net/flowtrack/flowtrack.go, wgengine/filter/filter.go.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_FLOWS = 512  # wgengine/filter/filter.go lruMax

FlowKey = tuple[int, bytes, bytes, int, int]  # protocol, source, destination, source port, destination port, inbound


class FlowTable:
    """Inbound tuples that answer what we sent."""

    def __init__(self, *, capacity: int = MAX_FLOWS) -> None:
        self._capacity = capacity
        self._flows: OrderedDict[FlowKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def expect(self, key: FlowKey) -> None:
        """Let this inbound tuple pass from now on."""
        flows = self._flows
        if key in flows:
            flows.move_to_end(key)
            return
        flows[key] = None
        if len(flows) > self._capacity:
            flows.popitem(last=False)

    def is_expected(self, key: FlowKey) -> bool:
        """Whether this inbound tuple answers something; keeps it fresh."""
        if key not in self._flows:
            return False
        self._flows.move_to_end(key)
        return True
