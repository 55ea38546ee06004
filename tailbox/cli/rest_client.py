"""The coordinator's REST API for commands: where it is, which token to show, and what its refusals say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from tailbox.cli.output import fail

ADMIN_TOKEN_FILE = "admin-token"  # written by the coordinator at its first start, for commands on its own machine
SERVER_URL_FILE = "server-url"  # written at every start: where the coordinator of this state directory answers


class RestClient:
    """Calls below `/api/v2`, authorised by a token."""

    def __init__(self, server_url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=server_url.rstrip("/") + "/api/v2", auth=(token, ""), timeout=30.0, trust_env=False
        )

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def request(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises CommandFailed with the server's own words."""
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            fail(f"cannot reach {self._client.base_url.copy_with(path='')}: {str(error) or type(error).__name__}")
        if response.is_error:
            fail(f"{response.status_code}: {_message(response)}")
        return response.json() if response.content else None


def open_client(*, server: str | None, token: str | None, state_dir: Path) -> RestClient:
    """The API named by the arguments, else by the environment, else by a coordinator's state directory.

    Raises CommandFailed if nothing says where the server is, or no token is to be had.
    """
    server = server or os.environ.get("TAILBOX_URL") or _read(state_dir / SERVER_URL_FILE)
    token = token or os.environ.get("TAILBOX_API_TOKEN") or _read(state_dir / ADMIN_TOKEN_FILE)
    if not server:
        fail(f"no coordinator known: give --server URL, or --state-dir of a coordinator ({state_dir} has none)")
    if not token:
        fail("no API token: set TAILBOX_API_TOKEN, or run as the coordinator's user on its machine")
    return RestClient(server, token)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or response.reason_phrase
