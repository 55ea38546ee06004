"""Connections of the tailnet as httpcore wants them, plain and with TLS inside.

TLS runs over memory and not by the loop's `start_tls`, which uvloop offers for sockets of its own only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import httpcore

RECORD_BYTES = 16 * 1024 + 512  # RFC 8446 §5.2: a TLS record and its overhead

T = TypeVar("T")


class TailnetStream(httpcore.AsyncNetworkStream):
    """One connection in the tailnet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        secured = TlsStream(self, ssl_context, server_hostname)
        try:
            async with asyncio.timeout(timeout):
                await secured.shake_hands()
        except TimeoutError as error:
            await self.aclose()
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, httpcore.NetworkError) as error:  # certificates that do not fit are OSErrors
            await self.aclose()
            raise httpcore.ConnectError(str(error)) from error
        return secured

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # httpcore asks before it uses an idle connection again
            # Data on an idle connection is its end, or TLS's word of it. asyncio's readers do not tell what they hold.
            holds = bool(getattr(self._reader, "_buffer", b""))
            return holds or self._reader.at_eof() or self._reader.exception() is not None
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._writer.get_extra_info(names[info]) if info in names else None


class TlsStream(httpcore.AsyncNetworkStream):
    """TLS inside another stream, as its client."""

    def __init__(self, under: TailnetStream, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._under = under
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    async def shake_hands(self) -> None:
        """Raises ssl.SSLError, httpcore.NetworkError."""
        await self._until_done(self._tls.do_handshake, read_timeout=None, write_timeout=None)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._until_done(
                lambda: self._tls.read(max_bytes), read_timeout=timeout, write_timeout=timeout
            )
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # HTTP's own framing tells whether that was the end
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                write = partial(self._tls.write, rest)
                taken = await self._until_done(write, read_timeout=timeout, write_timeout=timeout)
                rest = rest[taken:]
        except ssl.SSLError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Says goodbye and does not wait for an answer."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the answer is outstanding, or the connection is broken
        try:
            await self._flush(1.0)
        except (httpcore.NetworkError, httpcore.TimeoutException):
            pass
        await self._under.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("TLS inside TLS")

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._tls
        if info == "is_readable" and self._incoming.pending:
            return True
        return self._under.get_extra_info(info)

    async def _until_done(
        self, operation: Callable[[], T], *, read_timeout: float | None, write_timeout: float | None
    ) -> T:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._flush(write_timeout)
                data = await self._under.read(RECORD_BYTES, read_timeout)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                await self._flush(write_timeout)  # an alert says why
                raise
            else:
                await self._flush(write_timeout)
                return result

    async def _flush(self, timeout: float | None) -> None:
        if self._outgoing.pending:
            await self._under.write(self._outgoing.read(), timeout)
