"""LocalAPI's `dial`: a connection into the tailnet through the socket, as `tailscale nc` and `tailscale ssh` use it.

```text
POST …/dial, Upgrade: ts-dial, Dial-Host, Dial-Port, Dial-Network → 101 and the connection's bytes
                                                                  → 400 what is missing, 502 why nobody answers
```
The first end of either side ends both. Source: tailscale ipn/localapi/localapi.go, serveDial.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tailbox.errors import TailboxError
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.upgrade import UpgradeRequest, accept, refuse

if TYPE_CHECKING:
    from tailbox.node.node import Node

PROTOCOL = "ts-dial"
CHUNK_BYTES = 64 * 1024  # ours


async def dial(node: Node, request: UpgradeRequest, stream: ByteStream) -> None:
    """Answer one request, and carry its bytes until either side ends."""
    headers = request.headers
    host, port = headers.get("dial-host", ""), headers.get("dial-port", "")
    if request.method != "POST":
        return stream.write(refuse(405, "POST required\n"))
    if request.protocol != PROTOCOL:
        return stream.write(refuse(400, "bad ts-dial upgrade\n"))
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return stream.write(refuse(400, "missing Dial-Host or Dial-Port header\n"))
    if not headers.get("dial-network", "tcp").startswith("tcp"):
        return stream.write(refuse(400, "only tcp is supported\n"))
    try:
        reader, writer = await node.open_connection(host, int(port))
    except (TailboxError, OSError) as error:
        return stream.write(refuse(502, f"dial failure: {error}\n"))
    stream.write(accept(PROTOCOL))
    tasks = {
        asyncio.create_task(_upload(stream, writer), name="dial: upload"),
        asyncio.create_task(_download(reader, stream), name="dial: download"),
    }
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _upload(stream: ByteStream, writer: asyncio.StreamWriter) -> None:
    while data := await stream.read():
        writer.write(data)
        await writer.drain()


async def _download(reader: asyncio.StreamReader, stream: ByteStream) -> None:
    while data := await reader.read(CHUNK_BYTES):
        stream.write(data)
        await stream.drain()
