"""STUN on UDP, IPv4 and IPv6: tells Tailscale's and our clients which address they come from.

Only requests that carry Tailscale's tag and checksum are answered, with at most four bytes more than they brought. The
other mode answers any binding request, also those of RFC 3489 without the cookie: a public STUN server, for those who
want one. Sockets are drained many datagrams a wake-up, then others get their turn.
Source: tailscale net/stunserver/stunserver.go; spec: derp.md §15, paths.md §1.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailbox.errors import WireError
from tailbox.runtime.network import Network, SocketAddress, UdpSocket
from tailbox.wire.addresses import Endpoint
from tailbox.wire.stun import BindingRequest, BindingResponse, answer_any

DATAGRAMS_A_WAKE_UP = 64  # reliability-and-security.md §2.10
RECEIVE_BYTES = 2048  # ours: longer datagrams are cut, and are no requests then

log = logging.getLogger(__name__)


@dataclass(slots=True)
class StunCounters:
    """By upstream's labels."""

    dispositions: Counter[str] = field(default_factory=Counter)  # success, not_stun, read_error, write_error
    families: Counter[str] = field(default_factory=Counter)  # ipv4, ipv6; of those answered


class StunResponder:
    """Owns the sockets. `start` inside a running event loop."""

    def __init__(self, network: Network, *, port: int, answers_any: bool = False) -> None:
        self.counters = StunCounters()
        self._network = network
        self._port = port
        self._answers_any = answers_any
        self._sockets: list[UdpSocket] = []
        self._buffer = bytearray(RECEIVE_BYTES)

    @property
    def ports(self) -> Sequence[int]:
        """Of each socket, once started."""
        return [int(opened.getsockname()[1]) for opened in self._sockets]

    def start(self) -> None:
        """Listen on both families, or on the one that there is. Raises OSError if there is none."""
        failure: OSError | None = None
        port = self._port
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                opened = self._network.open_udp(family, port)
            except OSError as error:
                failure = error
                continue
            port = int(opened.getsockname()[1])
            self._sockets.append(opened)
            self._network.watch_readable(opened, lambda opened=opened: self._drain(opened))  # type: ignore[misc]
        if failure is not None and not self._sockets:
            raise failure
        if failure is not None:
            log.info("STUN on one address family only", extra={"why": failure.strerror})

    def close(self) -> None:
        for opened in self._sockets:
            self._network.watch_readable(opened, None)
            opened.close()
        self._sockets.clear()

    def _drain(self, opened: UdpSocket) -> None:
        dispositions = self.counters.dispositions
        for _ in range(DATAGRAMS_A_WAKE_UP):
            try:
                size, _, _, source = opened.recvmsg_into((self._buffer,))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                dispositions["read_error"] += 1  # an ICMP error for an earlier answer, say
                continue
            answer = self._answer(bytes(self._buffer[:size]), source)
            if answer is None:
                dispositions["not_stun"] += 1
                continue
            try:
                opened.sendto(answer, source)
            except OSError:
                dispositions["write_error"] += 1
                continue
            dispositions["success"] += 1
            self.counters.families["ipv6" if ":" in source[0] else "ipv4"] += 1

    def _answer(self, datagram: bytes, source: SocketAddress) -> bytes | None:
        try:
            mapped = Endpoint(ipaddress.ip_address(source[0].partition("%")[0]), source[1])
            if self._answers_any:
                return answer_any(datagram, mapped)
            return BindingResponse(BindingRequest.decode(datagram).transaction_id, mapped).encode()
        except (WireError, ValueError):
            return None
