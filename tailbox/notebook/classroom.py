"""A whole tailnet in the kernel's process: coordinator, relay and nodes, on loopback and in memory.

`Classroom.start` makes the servers and the nodes; nobody has joined yet. The views (`controls`, `topology`, `netmap`,
`packets`) are widgets that follow what happens. All works without a display, too: the methods are plain coroutines.

The room begins with a closed firewall between the nodes, so that everything is relayed. `open_firewall` lets them find
direct paths.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tailbox.node.core.status import BackendState, NodeStatus, PeerStatus
from tailbox.node.node import Node
from tailbox.notebook.firewall import Firewall, FirewalledNetwork
from tailbox.notebook.packet_trace import Journey, PacketTrace
from tailbox.notebook.refresher import Refresher
from tailbox.notebook.topology import Edge, NodeMark, draw
from tailbox.server import ServerConfig, Tailnet, start_server

if TYPE_CHECKING:
    from ipywidgets import Widget

    from tailbox.node.core.status import PingResult

HELLO = "Hello from {name}!\n"
PAGE_PORT = 80
ACQUAINTED_TIMEOUT_S = 15.0  # ours: until nodes that joined know each other's home relay
DIRECT_TIMEOUT_S = 20.0  # ours: addresses are pinged again after 5 s, so three rounds
LOOK_AGAIN_S = 0.02
PING_AGAIN_S = 0.5


@dataclass(slots=True)
class Pupil:
    """One node of the classroom and what is known of its pings."""

    name: str
    node: Node
    latencies_ms: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return self.node.status().state.text


class Classroom:
    """The tailnet of one lesson."""

    def __init__(self, tailnet: Tailnet, directory: Path, names: list[str]) -> None:
        self.tailnet = tailnet
        self.trace = PacketTrace()
        self.firewall = Firewall()
        self.refresher = Refresher()
        self._network = FirewalledNetwork(self.firewall)
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._forget_directory = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._names = names
        self._pupils: dict[str, Pupil] = {}

    @classmethod
    async def start(cls, names: Iterable[str] = ("alpha", "beta", "gamma")) -> Self:
        """Start coordinator, relay and nodes on free ports of loopback. Nobody has joined yet."""
        directory = Path(tempfile.mkdtemp(prefix="tailbox-classroom-"))
        try:
            tailnet = await start_server(ServerConfig.for_this_process(directory / "server"))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        room = cls(tailnet, directory, list(names))
        try:
            for name in room._names:
                await room._add(name)
        except BaseException:
            await room.close()
            raise
        return room

    async def close(self) -> None:
        """Stop everything and remove what was on disk. Harmless twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.refresher.close()
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(pupil.node.close() for pupil in self._pupils.values()))
        await self.tailnet.stop()
        self._forget_directory()  # at the latest when the interpreter ends, for rooms that nobody closes

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    # What a lesson does.

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def node(self, name: str) -> Node:
        """Raises KeyError for a node that is not in the room."""
        return self._pupils[name].node

    async def join(self, name: str) -> None:
        """Bring a node into the tailnet, with an auth key of its own, and wait until the others know where it is."""
        node = self.node(name)
        if node.state is not BackendState.RUNNING:
            node.login(auth_key=await self.tailnet.create_auth_key(description=f"classroom {name}"))
            await node.wait_running()
        async with asyncio.timeout(ACQUAINTED_TIMEOUT_S):
            while not self._are_acquainted(name):  # noqa: ASYNC110 - a state of several nodes, without an event of its own
                await asyncio.sleep(LOOK_AGAIN_S)

    async def join_all(self) -> None:
        await asyncio.gather(*(self.join(name) for name in self._names))

    async def leave(self, name: str) -> None:
        """Log the node out; it can join again."""
        if self.node(name).status().self_status is not None:
            await self.node(name).logout()
        self._pupils[name].latencies_ms.clear()

    def open_firewall(self) -> None:
        """Let UDP through: pings find direct paths from now on."""
        self.firewall.is_closed = False

    def close_firewall(self) -> None:
        """Drop UDP between nodes: direct paths are given up once their pings stay unanswered for 6.5 s."""
        self.firewall.is_closed = True

    async def wait_direct(self, source: str, target: str) -> PingResult:
        """Ping until a pong comes straight from the target. Raises TimeoutError."""
        async with asyncio.timeout(DIRECT_TIMEOUT_S):
            while True:
                result = await self.ping(source, target)
                if result.endpoint:
                    return result
                await asyncio.sleep(PING_AGAIN_S)

    async def ping(self, source: str, target: str) -> PingResult:
        """One disco ping; its latency shows in the picture."""
        result = await self.node(source).ping(target)
        if not result.error:
            self._pupils[source].latencies_ms[target] = result.latency_s * 1000
        return result

    async def fetch(self, source: str, target: str) -> str:
        """Read the target's page through the tailnet, as plain HTTP."""
        reader, writer = await self.node(source).open_connection(target, PAGE_PORT)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        return answer.decode("utf-8", "replace")

    def follow(self, text: str = "GET /") -> Journey:
        """The way of the last message with this text, from the sender's application to the receiver's.

        Raises NotFound if none was sent while the trace was recording."""
        return self.trace.follow(text)

    # What a lesson looks at.

    def marks(self) -> list[NodeMark]:
        """The nodes of the picture."""
        if self._is_closed:
            return [NodeMark(name, "Closed") for name in self._names]
        return [
            NodeMark(pupil.name, pupil.state, next(iter(pupil.node.status().addresses), ""))
            for pupil in self._pupils.values()
        ]

    def edges(self) -> list[Edge]:
        """Each pair of nodes that see each other, once, with the path of the first."""
        if self._is_closed:
            return []
        found = []
        for index, name in enumerate(self._names):
            peers = {peer.short_name: peer for peer in self._pupils[name].node.status().peers}
            for other in self._names[index + 1 :]:
                if other in peers:
                    found.append(Edge(name, other, path_of(peers[other]), self._latency_ms(name, other)))
        return found

    def netmap_of(self, name: str) -> NodeStatus | None:
        """What a node knows of itself and the others; None once the room is closed."""
        return None if self._is_closed else self.node(name).status()

    def picture(self) -> str:
        """The topology as SVG."""
        return draw(self.marks(), self.edges(), relay="relay")

    def show(self) -> Widget:
        """Controls, picture, netmaps and packet trace together."""
        from tailbox.notebook.views import room_view

        return room_view(self)

    def controls(self) -> Widget:
        """A join and a leave button for each node, and what they said."""
        from tailbox.notebook.views import controls_view

        return controls_view(self)

    def topology(self) -> Widget:
        """The picture, redrawn while it is shown."""
        from tailbox.notebook.views import topology_view

        return topology_view(self)

    def netmap(self, name: str) -> Widget:
        """What one node has been told of the others, as a table."""
        from tailbox.notebook.views import netmap_view

        return netmap_view(self, name)

    def packets(self) -> Widget:
        """The packet trace: steps on the left, the layers of the chosen one on the right."""
        from tailbox.notebook.views import trace_view

        return trace_view(self)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a button's task until it ends; closing the room ends it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _are_acquainted(self, name: str) -> bool:
        """Whether this node and every other one that is up know each other's home relay: without, packets are lost."""
        up = [pupil for pupil in self._pupils.values() if pupil.node.state is BackendState.RUNNING]
        mine = self._pupils[name]
        pairs = [(mine, other) for other in up if other is not mine] + [
            (other, mine) for other in up if other is not mine
        ]
        return all(_knows_relay(one.node, other.node) for one, other in pairs)

    def _latency_ms(self, name: str, other: str) -> float | None:
        there, back = self._pupils[name].latencies_ms, self._pupils[other].latencies_ms
        return there.get(other, back.get(name))

    async def _add(self, name: str) -> None:
        node = Node(
            login_server=self.tailnet.url,
            hostname=name,
            forward_to="",
            network=self._network,
            tap=self.trace.tap_for(name),
            include_loopback=True,
        )
        await node.start()
        self._pupils[name] = Pupil(name, node)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _answer(name, reader, writer)

        await node.start_server(answer, PAGE_PORT)


def _knows_relay(node: Node, other: Node) -> bool:
    own = other.status()
    return any(peer.key == own.key and peer.relay and peer.is_online for peer in node.status().peers)


def path_of(peer: PeerStatus) -> str:
    """`direct ADDRESS` once traffic goes that way, `relayed by REGION` while it does not, "" without traffic."""
    if peer.current_address:
        return f"direct {peer.current_address}"
    return f"relayed by {peer.relay}" if peer.has_session and peer.relay else ""


async def _answer(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
        body = HELLO.format(name=name).encode()
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
        pass  # a visitor that went away
    finally:
        writer.close()
