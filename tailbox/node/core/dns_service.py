"""The DNS server at the service addresses, inside the stack: UDP and TCP on port 53.

Only our own sockets reach it (the data path keeps these addresses in the node), which is how `dig` through the proxy
does. Limits: tailscale net/dns/resolver/tsdns.go.
"""

from __future__ import annotations

from tailbox.node.core.magic_dns import MagicDns
from tailbox.userspace_stack.errors import StackError
from tailbox.userspace_stack.stack import Socket, Stack, TcpListener, TcpSocket, UdpSocket
from tailbox.wire.addresses import SERVICE_IPV4, SERVICE_IPV6

PORT = 53
MAX_TCP_QUERY_BYTES = 4096
MAX_TCP_CLIENTS = 64  # ours
MAX_ANSWERS_A_TURN = 64  # ours: UDP queries answered before others get their turn


class DnsService:
    """Sockets of one stack that answer from one MagicDns."""

    def __init__(self, stack: Stack, names: MagicDns) -> None:
        self._names = names
        self._stack = stack
        self._datagrams: list[UdpSocket] = []
        self._listeners: list[TcpListener] = []
        self._clients: dict[TcpSocket, bytearray] = {}

    def start(self) -> None:
        """Bind; the stack must have the service addresses already. Harmless twice."""
        if self._datagrams:
            return
        for ip in (SERVICE_IPV4, SERVICE_IPV6):
            self._datagrams.append(self._stack.bind_udp(PORT, ip=ip))
            self._listeners.append(self._stack.listen_tcp(PORT, ip=ip))

    def handle_ready(self, socket: Socket) -> bool:
        """Serve a socket if it is one of ours; says whether it was."""
        if isinstance(socket, UdpSocket) and socket in self._datagrams:
            self._answer_datagrams(socket)
        elif isinstance(socket, TcpListener) and socket in self._listeners:
            self._accept(socket)
        elif isinstance(socket, TcpSocket) and socket in self._clients:
            self._serve(socket)
        else:
            return False
        return True

    def _answer_datagrams(self, socket: UdpSocket) -> None:
        for _ in range(MAX_ANSWERS_A_TURN):
            received = socket.receive()
            if received is None:
                return
            query, client = received
            answer = self._names.answer(query)
            if answer is not None:
                try:
                    socket.send_to(answer, client)
                except StackError:
                    continue  # the client is gone, or its address unusable: DNS clients ask again

    def _accept(self, listener: TcpListener) -> None:
        while (client := listener.accept()) is not None:
            if len(self._clients) >= MAX_TCP_CLIENTS:
                client.abort()
                continue
            self._clients[client] = bytearray()
            self._serve(client)

    def _serve(self, client: TcpSocket) -> None:
        """Messages have a two-byte length in front, RFC 1035 §4.2.2."""
        buffer = self._clients[client]
        buffer += client.read(MAX_TCP_QUERY_BYTES + 2 - len(buffer))
        while len(buffer) >= 2:
            size = int.from_bytes(buffer[:2], "big")
            if size > MAX_TCP_QUERY_BYTES:
                return self._end(client, abort=True)
            if len(buffer) < 2 + size:
                break
            answer = self._names.answer(bytes(buffer[2 : 2 + size]), over_udp=False)
            del buffer[: 2 + size]
            if answer is None or client.writable_bytes < len(answer) + 2:
                return self._end(client, abort=True)
            client.write(len(answer).to_bytes(2, "big") + answer)
        if client.error is not None or client.at_eof:
            self._end(client, abort=client.error is not None)
        return None

    def _end(self, client: TcpSocket, *, abort: bool) -> None:
        del self._clients[client]
        if abort:
            client.abort()
        else:
            client.close()
