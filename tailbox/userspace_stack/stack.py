"""SKELETON of the public surface; bodies follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tailbox.clock import Deadline
from tailbox.randomness import RandomSource
from tailbox.userspace_stack.events import DropReason, EchoReply, EchoRequested
from tailbox.userspace_stack.limits import StackLimits
from tailbox.userspace_stack.tcp.states import SocketError, State
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.train import Train


class TcpSocket:
    """One TCP connection: buffers towards the application, a state machine towards the network."""

    state: State
    local: Endpoint
    remote: Endpoint
    error: SocketError | None

    @property
    def readable_bytes(self) -> int: ...  # type: ignore[empty-body]
    @property
    def writable_bytes(self) -> int: ...  # type: ignore[empty-body]
    @property
    def at_eof(self) -> bool: ...  # type: ignore[empty-body]
    def send_view(self) -> memoryview: ...  # type: ignore[empty-body]
    def commit(self, count: int) -> None: ...
    def write(self, data: bytes | memoryview) -> int: ...  # type: ignore[empty-body]
    def receive_views(self) -> tuple[memoryview, ...]: ...  # type: ignore[empty-body]
    def consume(self, count: int) -> None: ...
    def read(self, limit: int) -> bytes: ...  # type: ignore[empty-body]
    def shutdown(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...
    def keep_alive(self, *, idle_s: float = 7200.0, interval_s: float = 75.0, probes: int = 9) -> None: ...


class TcpListener:
    """Accepts connections to one port."""

    port: int

    def accept(self) -> TcpSocket | None: ...
    def close(self) -> None: ...


class UdpSocket:
    """A bound UDP port; `remote` is set when it serves a single flow."""

    local: Endpoint
    remote: Endpoint | None

    def send_to(self, payload: bytes | memoryview, remote: Endpoint) -> None: ...
    def receive(self) -> tuple[bytes, Endpoint] | None: ...
    def close(self) -> None: ...


class PendingConnection:
    """A SYN that waits for the forwarder's word; repeated SYNs are absorbed. `is_open` turns False when the peer gives up."""

    local: Endpoint
    remote: Endpoint
    is_open: bool

    def accept(self, now: float) -> TcpSocket: ...  # type: ignore[empty-body]
    def refuse(self, now: float) -> None: ...
    def drop(self) -> None: ...


class PendingFlow:
    """A UDP flow that waits for the forwarder's word; its first datagrams are queued and handed to the socket."""

    local: Endpoint
    remote: Endpoint

    def accept(self, now: float) -> UdpSocket: ...  # type: ignore[empty-body]
    def refuse(self, now: float) -> None: ...  # answers port unreachable
    def drop(self) -> None: ...  # silently


Socket = TcpSocket | TcpListener | UdpSocket
StackEvent = PendingConnection | PendingFlow | EchoReply | EchoRequested


@dataclass(frozen=True, slots=True)
class StackEffects:
    """What one `collect` found to do. The trains live until the next `collect`."""

    to_network: tuple[Train, ...] = ()
    ready: tuple[Socket, ...] = ()
    events: tuple[StackEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    """For status pages and traces."""

    connections: int
    drops: dict[str, int]


class Stack:
    """A host of one tailnet node."""

    drops: Counter[DropReason]

    def __init__(self, *, random: RandomSource, mtu: int = 1280, limits: StackLimits = StackLimits()) -> None: ...  # noqa: B008
    def set_addresses(self, addresses: Collection[IPAddress]) -> None: ...
    def set_forwarding(self, *, own_addresses: bool, other_addresses: bool) -> None: ...
    def connect_tcp(self, remote: Endpoint, *, source: IPAddress | None = None, now: float) -> TcpSocket: ...  # type: ignore[empty-body]
    def listen_tcp(self, port: int, *, ip: IPAddress | None = None, backlog: int = 128) -> TcpListener: ...  # type: ignore[empty-body]
    def bind_udp(self, port: int = 0, *, ip: IPAddress | None = None) -> UdpSocket: ...  # type: ignore[empty-body]
    def send_echo(
        self, destination: IPAddress, *, identifier: int, sequence: int, payload: bytes, now: float
    ) -> None: ...
    def answer_echo(self, request: EchoRequested, *, now: float) -> None: ...
    def receive(self, train: Train, *, now: float) -> None: ...
    def collect(self, *, now: float) -> StackEffects: ...  # type: ignore[empty-body]
    def next_deadline(self) -> Deadline | None: ...
    def handle_deadline(self, *, now: float) -> None: ...
    def snapshot(self) -> StackSnapshot: ...  # type: ignore[empty-body]
