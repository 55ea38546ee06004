"""Reaching a control server: its Noise key, and a connection upgraded to the control protocol.

`/key` is asked for beneath the login URL as given; `/ts2021` always at the host's root. The channel is dialled with the
URL's own scheme first and the other one half a second later, or as soon as the first has failed; whichever is upgraded
first wins. (Upstream always begins with plain HTTP on port 80. The order is ours: behind an https URL port 80 is mostly
a redirect, and nobody is better off by asking it first.) A URL with a loopback or private literal is never tried over
TLS unless it says https. Source: tailscale control/ts2021/client.go, control/controlhttp/client.go.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import h11
import msgspec

from tailbox.errors import ConfigError, Malformed, TailboxError
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.network import Network, TlsOptions
from tailbox.runtime.websocket_client import WebSocketRefused, open_websocket
from tailbox.wire.keys import MachinePublicKey

PROTOCOL = "tailscale-control-protocol"
HANDSHAKE_HEADER = "X-Tailscale-Handshake"
DIAL_TIMEOUT_S = 10.0  # control/controlhttp/client.go: budget of a whole dial
KEY_TIMEOUT_S = 10.0  # ours: the same for /key
SECOND_ATTEMPT_AFTER_S = 0.5  # control/controlhttp/client.go
MAX_KEY_BYTES = 64 * 1024  # control/controlclient/direct.go
MAX_HEAD_BYTES = 64 * 1024  # ours
MAX_QUOTED = 200  # ours: how much of a server's words an error repeats


class ControlError(TailboxError):
    """A control server that cannot be used, for whatever reason."""


class Unreachable(ControlError):
    """No connection, or none that speaks the protocol."""


class WrongKey(ControlError):
    """The server did not prove the key that it published; or it publishes none."""


class Rejected(ControlError):
    """The server understood and refused. `status` is 0 where HTTP did not say it."""

    def __init__(self, what: str, *, status: int, text: str) -> None:
        shown = " ".join(text.split())[:MAX_QUOTED]
        super().__init__(f"{what}: {status} {shown}".rstrip() if status else f"{what}: {shown}")
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class LoginUrl:
    """A login server's URL, taken apart."""

    scheme: str
    host: str
    port: int
    has_port: bool
    path: str  # without a trailing slash

    @classmethod
    def parse(cls, text: str) -> LoginUrl:
        """Raises ConfigError."""
        try:
            url = urlsplit(text.strip())
            port = url.port
        except ValueError as error:
            raise ConfigError("login server", text, str(error)) from None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError("login server", text, "wanted http://host or https://host")
        if url.username or url.password or url.query or url.fragment:
            raise ConfigError("login server", "a URL with more than host, port and path", "remove the rest")
        default = 443 if url.scheme == "https" else 80
        return cls(url.scheme, url.hostname, port or default, port is not None, url.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.has_port else host


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to dial the channel."""

    host: str
    port: int
    is_tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection after its 101, and what came behind it."""

    stream: ByteStream
    early: bytes


def attempts_for(url: LoginUrl) -> tuple[Attempt, ...]:
    """What to dial for the channel, in this order."""
    if url.scheme == "https":
        return Attempt(url.host, url.port, True), Attempt(url.host, 80, False)
    if _is_private(url.host):
        return (Attempt(url.host, url.port, False),)
    return Attempt(url.host, url.port, False), Attempt(url.host, 443, True)


def _is_private(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python's is_private holds more than RFC 1918, fc00::/7 and loopback; 100.64.0.0/10 is not in it.
    return ip.is_private or ip.is_loopback


class ControlDialler:
    """Asks one server for its key and dials its channel."""

    def __init__(self, url: LoginUrl, network: Network, tls: ssl.SSLContext | None) -> None:
        """`tls`: trust for https; None is the system's."""
        self._url = url
        self._network = network
        self._tls = tls

    async def fetch_key(self, version: int) -> MachinePublicKey:
        """Raises Unreachable, Rejected, WrongKey."""
        target = f"{self._url.path}/key?v={version}"
        attempt = Attempt(self._url.host, self._url.port, self._url.scheme == "https")
        request = h11.Request(
            method="GET",
            target=target,
            headers=[("Host", self._url.authority), ("Accept", "application/json"), ("Connection", "close")],
        )
        stream: ByteStream | None = None
        try:
            async with asyncio.timeout(KEY_TIMEOUT_S):
                stream = await self._connect(attempt)
                status, body = await _whole_response(stream, request)
        except (OSError, h11.ProtocolError) as error:  # a timeout is an OSError too
            raise Unreachable(f"{attempt}/key: {_reason(error)}") from None
        finally:
            if stream is not None:
                stream.close()
        if status != 200:
            raise Rejected(f"{attempt}/key", status=status, text=body.decode(errors="replace"))
        return _key_of(body)

    async def dial(self, initiation: bytes, *, websocket: bool = False) -> Upgraded:
        """An upgraded connection; the initiation has been sent. Raises Unreachable, Rejected."""
        errors: list[ControlError] = []
        attempts = attempts_for(self._url)
        pending: set[asyncio.Task[Upgraded]] = set()
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                for number, attempt in enumerate(attempts):
                    pending.add(asyncio.create_task(self._upgrade(attempt, initiation, websocket)))
                    is_last = number == len(attempts) - 1
                    while pending:
                        wait_s = None if is_last else SECOND_ATTEMPT_AFTER_S
                        done, pending = await asyncio.wait(pending, timeout=wait_s, return_when="FIRST_COMPLETED")
                        if (won := _winner(done, errors)) is not None:
                            return won
                        if not is_last:
                            break
        except TimeoutError:
            errors.append(Unreachable(f"{attempts[0]}: no upgrade within {DIAL_TIMEOUT_S:g} s"))
        finally:
            await _give_up(pending)
        # The URL's own scheme says most; a refusal says more than silence.
        raise next((error for error in errors if isinstance(error, Rejected)), errors[0])

    async def _connect(self, attempt: Attempt) -> ByteStream:
        tls = TlsOptions(self._tls or ssl.create_default_context(), attempt.host) if attempt.is_tls else None
        return await self._network.connect_tcp(attempt.host, attempt.port, tls=tls)

    async def _upgrade(self, attempt: Attempt, initiation: bytes, websocket: bool) -> Upgraded:
        stream: ByteStream | None = None
        try:
            stream = await self._connect(attempt)
            handshake = base64.b64encode(initiation).decode()
            if websocket:
                scheme = "wss" if attempt.is_tls else "ws"
                query = f"{HANDSHAKE_HEADER}={quote(handshake, safe='')}"
                url = f"{scheme}://{self._authority(attempt)}/ts2021?{query}"
                return Upgraded(await open_websocket(stream, url, subprotocol=PROTOCOL), b"")
            return await _http_upgrade(stream, self._authority(attempt), handshake, attempt)
        except BaseException as error:
            if stream is not None:
                stream.abort()
            if isinstance(error, WebSocketRefused):
                raise Rejected(f"{attempt}/ts2021", status=error.status, text=str(error)) from None
            if isinstance(error, OSError | h11.ProtocolError):
                raise Unreachable(f"{attempt}: {_reason(error)}") from None
            raise

    def _authority(self, attempt: Attempt) -> str:
        host = f"[{attempt.host}]" if ":" in attempt.host else attempt.host
        return host if attempt.port == (443 if attempt.is_tls else 80) else f"{host}:{attempt.port}"


def _winner(done: set[asyncio.Task[Upgraded]], errors: list[ControlError]) -> Upgraded | None:
    """The upgraded connection among the attempts that have ended, if any. A second one is closed."""
    won: Upgraded | None = None
    for task in done:
        error = task.exception()
        if isinstance(error, ControlError):
            errors.append(error)
        elif error is not None:
            raise error
        elif won is None:
            won = task.result()
        else:
            task.result().stream.abort()
    return won


async def _give_up(pending: set[asyncio.Task[Upgraded]]) -> None:
    for task in pending:
        task.cancel()
    for outcome in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(outcome, Upgraded):
            outcome.stream.abort()


async def _http_upgrade(stream: ByteStream, authority: str, handshake: str, attempt: Attempt) -> Upgraded:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    request = h11.Request(
        method="POST",
        target="/ts2021",
        headers=[
            ("Host", authority),
            ("Upgrade", PROTOCOL),
            ("Connection", "upgrade"),
            (HANDSHAKE_HEADER, handshake),
            ("Content-Length", "0"),
        ],
    )
    stream.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    head = await _next_event(connection, stream)
    if not isinstance(head, h11.InformationalResponse) or head.status_code != 101:
        status = head.status_code if isinstance(head, h11.Response | h11.InformationalResponse) else 0
        body = await _body(connection, stream) if isinstance(head, h11.Response) else b""
        raise Rejected(f"{attempt}/ts2021", status=status, text=body.decode(errors="replace"))
    if dict(head.headers).get(b"upgrade", b"").lower() != PROTOCOL.encode():
        raise Unreachable(f"{attempt}: upgraded to something else")
    return Upgraded(stream, connection.trailing_data[0])


async def _whole_response(stream: ByteStream, request: h11.Request) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    stream.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    head = await _next_event(connection, stream)
    while isinstance(head, h11.InformationalResponse):
        head = await _next_event(connection, stream)
    assert isinstance(head, h11.Response), "h11 gives a response or raises"
    return head.status_code, await _body(connection, stream)


async def _body(connection: h11.Connection, stream: ByteStream) -> bytes:
    body = bytearray()
    while isinstance(event := await _next_event(connection, stream), h11.Data):
        body += event.data
        if len(body) > MAX_KEY_BYTES:
            raise Unreachable(f"response of more than {MAX_KEY_BYTES} bytes")
    return bytes(body)


async def _next_event(connection: h11.Connection, stream: ByteStream) -> h11.Event | None:
    """The next event; None when there is nothing more to read."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.read())
    if isinstance(event, h11.ConnectionClosed):
        raise ConnectionResetError("connection closed without an answer")
    return event if isinstance(event, h11.Event) else None


def _key_of(body: bytes) -> MachinePublicKey:
    try:
        document = msgspec.json.decode(body, type=dict[str, str])
        key = MachinePublicKey.parse(document.get("publicKey", ""))
    except (msgspec.DecodeError, Malformed):
        raise WrongKey("the answer to /key holds no Noise key: is this a control server?") from None
    if key.is_zero:
        raise WrongKey("control server is too old: it has no Noise key")
    return key


def _reason(error: Exception) -> str:
    return "timed out" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
