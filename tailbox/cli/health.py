"""`tailbox healthcheck`: ask every role on this machine how it is."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

from tailbox.cli.local_client import DaemonUnreachable, LocalApiError, LocalClient
from tailbox.cli.output import fail, show

TIMEOUT_S = 4.0
LISTEN_FILE = "listen-url"  # written by `tailbox serve`: where its /healthz answers


def check(url: str, state_dir: Path, socket: Path) -> None:
    """Raises CommandFailed unless everything found is well and something was found."""
    listening = state_dir / LISTEN_FILE
    asked = []
    if url or listening.exists():
        target = url or listening.read_text().strip() + "/healthz"
        _ask_http(target)
        asked.append(target)
    if not url and socket.exists():
        _ask_node(socket)
        asked.append(str(socket))
    if not asked:
        fail(f"nothing runs here: neither {listening} nor {socket} exists")
    show(f"well: {', '.join(asked)}")


def _ask_http(url: str) -> None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/healthz")
        response = connection.getresponse()
        text = response.read(2000).decode("utf-8", "replace")
    except OSError as error:
        fail(f"{url}: {error}")
    finally:
        connection.close()
    if response.status != 200:
        fail(f"{url}: {response.status} {text}")


def _ask_node(socket: Path) -> None:
    try:
        status = LocalClient(socket, timeout_s=TIMEOUT_S).request("GET", "status", query={"peers": "false"})
    except (DaemonUnreachable, LocalApiError) as error:
        fail(str(error))
    if not status.get("TailscaleIPs"):
        fail(f"node has no tailnet address yet: {status['BackendState']}")
