"""c2n: requests of the coordinator to the node, raw HTTP/1.x in and out.

Only `/echo` has an answer; known paths that we do not serve and unknown ones get the codes that upstream gives. Source:
tailscale ipn/ipnlocal/c2n.go; control reference §4.4.
"""

from __future__ import annotations

MAX_HEAD_BYTES = 64 * 1024


def answer_c2n(request: bytes) -> bytes:
    """The raw response to a raw request. Never raises."""
    head, separator, body = request.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split(b" ")
    if not separator or len(words) != 3 or len(head) > MAX_HEAD_BYTES:
        return _response(400, "Bad Request", b"malformed request\n")
    path = words[1].partition(b"?")[0]
    if path == b"/echo":
        return _response(200, "OK", body)
    if path in (b"/logtail/flush", b"/sockstats", b"/netfilter-kind"):
        return _response(204, "No Content", b"")
    return _response(400, "Bad Request", b"unknown c2n path\n")


def _response(status: int, reason: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
