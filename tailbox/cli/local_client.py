"""HTTP over the node's unix socket, with the standard library alone: `tailbox status` must start fast.

Source: tailscale client/local/local.go for the host name, the headers and the texts of failures.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tailbox.cli.output import fail

LOCAL_HOST = "local-tailscaled.sock"  # upstream refuses other names, as does our node
PREFIX = "/localapi/v0/"


class DaemonUnreachable(Exception):
    """Nobody listens on the socket."""


class LocalApiError(Exception):
    """The node answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__(LOCAL_HOST)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class LocalClient:
    """The LocalAPI of the node behind one socket."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def is_running(self) -> bool:
        """Whether anybody accepts connections on the socket."""
        connection = _UnixConnection(self._path, 2.0)
        try:
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True

    def request(
        self,
        method: str,
        endpoint: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The decoded JSON answer, text if it is not JSON, None if empty. Raises LocalApiError, DaemonUnreachable."""
        connection = self._open(method, endpoint, query, body, timeout_s or self._timeout_s)
        try:
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise DaemonUnreachable(f"{PREFIX}{endpoint}: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise LocalApiError(response.status, _error_text(text))
        return _decoded(text)

    def stream(self, endpoint: str, *, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """The messages of an endless answer, one JSON object a line."""
        connection = self._open("GET", endpoint, query, None, None)
        try:
            response = connection.getresponse()
            if response.status >= 400:
                raise LocalApiError(response.status, _error_text(response.read().decode("utf-8", "replace")))
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise DaemonUnreachable(f"{PREFIX}{endpoint}: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()

    def _open(
        self, method: str, endpoint: str, query: Mapping[str, str] | None, body: object, timeout_s: float | None
    ) -> _UnixConnection:
        connection = _UnixConnection(self._path, timeout_s)
        path = PREFIX + endpoint + (f"?{urlencode(query)}" if query else "")
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body).encode())
        except OSError as error:
            raise DaemonUnreachable(f"{self._path}: {error.strerror or error}") from None
        return connection


def call(client: LocalClient, method: str, endpoint: str, **options: Any) -> Any:
    """`client.request` for commands: failures end the command with upstream's words and exit code."""
    try:
        return client.request(method, endpoint, **options)
    except DaemonUnreachable as error:
        fail(f"Failed to connect to local Tailbox daemon at {error}; not running? Start it with: tailbox up")
    except LocalApiError as error:
        if error.status == 403:
            fail(f"Access denied: {error}\n\nRun the command as the user who started the node.")
        fail(str(error))


def _decoded(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _error_text(text: str) -> str:
    """The `error` member of a JSON body, in any spelling, else the body itself."""
    decoded = _decoded(text)
    if isinstance(decoded, dict):
        for name, value in decoded.items():
            if name.lower() == "error":
                return str(value)
    return text.strip() or "the node gave no reason"
