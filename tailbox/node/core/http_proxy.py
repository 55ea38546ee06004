"""The HTTP side of the proxy port: `CONNECT host:port`, and requests in absolute form.

An absolute-form request is rewritten to origin form with `Connection: close` and the rest of the connection is passed
through, so one client connection carries one request: framing stays the two ends' own business, and bytes beyond the
announced body are not taken for a part of it. Source: RFC 9110 §7.6, RFC 9112 §3.2; answers as tailscale
cmd/tailscaled/proxy.go.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import urlsplit

from tailbox.errors import Malformed
from tailbox.node.core.socks5 import ProxyLogin
from tailbox.wire.addresses import parse_ip
from tailbox.wire.socks5 import Destination

MAX_HEAD_BYTES = 64 * 1024  # ours: request line and headers
HEAD_END = b"\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})  # not to be dropped whatever Connection says
HOP_BY_HOP = frozenset({b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade"})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to dial, and what to send there first."""

    destination: Destination
    is_connect: bool
    head: bytes = b""  # the rewritten request head; empty for CONNECT
    body_bytes: int | None = None  # how many bytes of the client's follow; None: until it ends


def find_head_end(data: bytes | bytearray) -> int:
    """Where the body starts, or -1 while the head is incomplete. Raises Malformed for endless heads."""
    end = data.find(HEAD_END)
    if end < 0 and len(data) > MAX_HEAD_BYTES:
        raise Malformed(f"HTTP request head over {MAX_HEAD_BYTES} bytes")
    return end + len(HEAD_END) if end >= 0 else -1


def parse_request(head: bytes, *, login: ProxyLogin | None = None) -> HttpRequest:
    """Read a complete head. Raises Malformed, and PermissionError for a missing or wrong login."""
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not parts[0].isalpha():
        raise Malformed("not an HTTP/1.1 request line")
    method, target = parts[0], _text(parts[1])
    headers = [_header(line) for line in lines[1:]]
    if login is not None and not _is_admitted(headers, login):
        raise PermissionError("proxy login required")
    if method == b"CONNECT":
        return HttpRequest(parse_authority(target, default_port=None), is_connect=True)
    return _forwarded(method, target, headers)


def parse_authority(text: str, *, default_port: int | None) -> Destination:
    """Read `host:port` or `[v6]:port`. Raises Malformed."""
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        raise Malformed("not a host and port") from None
    if not host or (port is None and default_port is None) or "@" in text or "/" in text:
        raise Malformed("not a host and port")
    try:
        return Destination(parse_ip(host), port or default_port or 0)
    except Malformed:
        return Destination(host, port or default_port or 0)


def refusal(status: int, reason: str, why: str = "") -> bytes:
    """A short answer that ends the connection. `why` must not hold line breaks of a stranger's making."""
    clean = "".join(character for character in why if character.isprintable())[:200]
    body = f"{clean or reason}\n".encode()
    extra = f"Tailscale-Connect-Error: {clean}\r\n" if clean and status in (500, 502) else ""
    if status == 407:
        extra = 'Proxy-Authenticate: Basic realm="tailbox"\r\n'
    head = f"HTTP/1.1 {status} {reason}\r\n{extra}Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode("latin-1", "replace") + b"Connection: close\r\n\r\n" + body


def _forwarded(method: bytes, target: str, headers: list[tuple[bytes, bytes]]) -> HttpRequest:
    if not target.lower().startswith("http://"):
        raise Malformed("wanted CONNECT or an absolute http:// address")
    authority, slash, path = target[7:].partition("/")
    authority, query, rest = authority.partition("?")
    destination = parse_authority(authority.rpartition("@")[2], default_port=80)
    origin = f"?{rest}{slash}{path}" if query else path
    is_upgrade = any(name == b"upgrade" for name, _ in headers)
    dropped = (HOP_BY_HOP | _named_by_connection(headers)) - (FRAMING | ({b"upgrade"} if is_upgrade else set()))
    kept = [(name, value) for name, value in headers if name not in dropped]
    lines = [method + b" /" + origin.encode("latin-1") + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in kept if name != b"host"]
    lines.insert(1, b"host: " + authority.rpartition("@")[2].encode("latin-1"))
    lines.append(b"connection: upgrade" if is_upgrade else b"connection: close")
    return HttpRequest(destination, False, b"\r\n".join(lines) + HEAD_END, _body_bytes(headers, is_upgrade))


def _named_by_connection(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Fields that are for us alone, RFC 9110 §7.6.1."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(b","))


def _body_bytes(headers: list[tuple[bytes, bytes]], is_upgrade: bool) -> int | None:
    lengths = {value for name, value in headers if name == b"content-length"}
    is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if len(lengths) > 1 or (lengths and is_chunked):
        raise Malformed("ambiguous request length")
    if is_upgrade or is_chunked:
        return None
    length = lengths.pop() if lengths else b"0"
    if not length.isdigit() or len(length) > 18:
        raise Malformed("bad Content-Length")
    return int(length)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name.strip() != name or any(byte <= 32 or byte >= 127 for byte in name):
        raise Malformed("bad header line")
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise Malformed("bad header value")
    return name.lower(), value.strip()


def _is_admitted(headers: list[tuple[bytes, bytes]], login: ProxyLogin) -> bool:
    for name, value in headers:
        if name == b"proxy-authorization" and value[:6].lower() == b"basic ":
            try:
                user, _, password = base64.b64decode(value[6:], validate=True).partition(b":")
            except binascii.Error:
                return False
            return login.admits(user, password)
    return False


def _text(raw: bytes) -> str:
    text = raw.decode("latin-1")
    if not text or any(character <= " " or character >= "\x7f" for character in text):
        raise Malformed("bad request target")
    return text
