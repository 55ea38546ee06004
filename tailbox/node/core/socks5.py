"""The server's side of one SOCKS5 control connection: greeting, credentials, request, one reply.

Bytes in, events out; the shell dials, and calls `succeed` or `fail` once. After that the connection is a plain stream,
or the leash of a UDP association. Source: RFC 1928, RFC 1929; limits as tailscale net/socks5/socks5.go.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum

from tailbox.errors import LocalProtocolError, WireError
from tailbox.wire.socks5 import (
    Command,
    Credentials,
    Destination,
    Greeting,
    Method,
    Reply,
    ReplyCode,
    Request,
    credentials_verdict,
    method_selection,
)


class State(Enum):
    """Where the conversation is."""

    AWAITING_GREETING = "greeting"
    AWAITING_CREDENTIALS = "credentials"
    AWAITING_REQUEST = "request"
    DECIDING = "deciding"  # the shell dials
    OPEN = "open"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProxyLogin:
    """The one user and password that may use a proxy."""

    user: bytes = field(repr=False)
    password: bytes = field(repr=False)

    def admits(self, user: bytes, password: bytes) -> bool:
        """In constant time."""
        same_user = hmac.compare_digest(user, self.user)
        return hmac.compare_digest(password, self.password) and same_user


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ConnectWanted:
    """Dial, then `succeed` or `fail`."""

    destination: Destination


@dataclass(frozen=True, slots=True)
class AssociateWanted:
    """Open a UDP relay, then `succeed` with its address. The client's claim of its own address is ignored."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The client spoke nonsense or may not come in; close once what was sent is out."""

    why: str


SocksEvent = Send | ConnectWanted | AssociateWanted | Failed


class SocksServer:
    """One client's control connection."""

    def __init__(self, *, login: ProxyLogin | None = None) -> None:
        self.state = State.AWAITING_GREETING
        self._login = login
        self._buffer = b""

    def receive_bytes(self, data: bytes) -> list[SocksEvent]:
        """Never raises. Bytes past the request wait in `early_bytes`."""
        self._buffer += data
        events: list[SocksEvent] = []
        while True:
            try:
                found = self._step()
            except WireError as error:
                found = self._refuse(str(error))
            if not found:
                return events
            events += found

    @property
    def early_bytes(self) -> bytes:
        """What the client sent after its request, before the reply: the stream's first bytes."""
        return self._buffer if self.state in (State.DECIDING, State.OPEN) else b""

    def succeed(self, bound: Destination) -> bytes:
        """The reply that opens the stream. Raises LocalProtocolError."""
        return self._reply(Reply(ReplyCode.SUCCEEDED, bound), State.OPEN)

    def fail(self, code: ReplyCode = ReplyCode.GENERAL_FAILURE) -> bytes:
        """The reply that ends the conversation. Raises LocalProtocolError."""
        return self._reply(Reply(code), State.FAILED)

    def _reply(self, reply: Reply, state: State) -> bytes:
        if self.state is not State.DECIDING:
            raise LocalProtocolError(f"a reply while {self.state.value}")
        self.state = state
        return reply.encode()

    def _step(self) -> list[SocksEvent]:
        if self.state is State.AWAITING_GREETING:
            return self._on_greeting()
        if self.state is State.AWAITING_CREDENTIALS:
            return self._on_credentials()
        if self.state is State.AWAITING_REQUEST:
            return self._on_request()
        return []

    def _on_greeting(self) -> list[SocksEvent]:
        found = Greeting.decode(self._buffer)
        if found is None:
            return []
        greeting, taken = found
        self._buffer = self._buffer[taken:]
        wanted = Method.NO_AUTHENTICATION if self._login is None else Method.USER_AND_PASSWORD
        if wanted not in greeting.methods:
            return [Send(method_selection(Method.NONE_ACCEPTABLE)), *self._refuse("no acceptable method")]
        self.state = State.AWAITING_REQUEST if self._login is None else State.AWAITING_CREDENTIALS
        return [Send(method_selection(wanted))]

    def _on_credentials(self) -> list[SocksEvent]:
        found = Credentials.decode(self._buffer)
        if found is None:
            return []
        credentials, taken = found
        self._buffer = self._buffer[taken:]
        welcome = self._login is not None and self._login.admits(credentials.user, credentials.password)
        if not welcome:
            return [Send(credentials_verdict(welcome=False)), *self._refuse("wrong user or password")]
        self.state = State.AWAITING_REQUEST
        return [Send(credentials_verdict(welcome=True))]

    def _on_request(self) -> list[SocksEvent]:
        try:
            found = Request.decode(self._buffer)
        except WireError as error:
            answer = Reply(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED).encode() if self._buffer[0] == 5 else b""
            return [Send(answer), *self._refuse(str(error))] if answer else self._refuse(str(error))
        if found is None:
            return []
        request, taken = found
        self._buffer = self._buffer[taken:]
        if request.command == Command.CONNECT:
            self.state = State.DECIDING
            return [ConnectWanted(request.destination)]
        if request.command == Command.UDP_ASSOCIATE:
            self.state = State.DECIDING
            return [AssociateWanted()]
        refusal = Send(Reply(ReplyCode.COMMAND_NOT_SUPPORTED).encode())
        return [refusal, *self._refuse(f"command {request.command}")]

    def _refuse(self, why: str) -> list[SocksEvent]:
        self.state = State.FAILED
        self._buffer = b""
        return [Failed(why)]
