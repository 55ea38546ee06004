"""`tailbox keys`: make, list and revoke auth keys and API tokens through the REST API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbox.cli.options import default_state_dir
from tailbox.cli.output import columns, reports_errors, say, show, show_json

if TYPE_CHECKING:
    from tailbox.cli.rest_client import RestClient

DAY_S = 86_400

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Auth keys and API tokens of a coordinator.")

Server = Annotated[
    str | None,
    typer.Option("--server", help="The coordinator's URL; default: TAILBOX_URL, else the one on this machine."),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        help="File with an API token; default: TAILBOX_API_TOKEN itself, else this machine's admin-token.",
    ),
]
StateDir = Annotated[Path | None, typer.Option("--state-dir", help="State directory of a coordinator on this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
@reports_errors
def create(
    reusable: Annotated[bool, typer.Option(help="Any number of nodes may join with it.")] = False,
    ephemeral: Annotated[bool, typer.Option(help="Nodes are removed when they stay away.")] = False,
    preauthorized: Annotated[bool, typer.Option(help="Nodes need no approval.")] = True,
    tags: Annotated[str, typer.Option(help="Comma-separated tags that nodes get: tag:server,tag:ci.")] = "",
    expiry_days: Annotated[int, typer.Option(min=1, max=90, help="Days until nobody can join with it.")] = 90,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    api: Annotated[bool, typer.Option("--api", help="Make an API token instead of an auth key.")] = False,
    server: Server = None,
    token_file: Token = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: the only time that it is shown."""
    body: dict[str, Any] = {"expirySeconds": expiry_days * DAY_S, "description": description}
    if api:
        body["keyType"] = "api"
    else:
        devices: dict[str, Any] = {"reusable": reusable, "ephemeral": ephemeral, "preauthorized": preauthorized}
        devices["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()]
        body["capabilities"] = {"devices": {"create": devices}}
    with open_api(server, token_file, state_dir) as client:
        key = client.request("POST", "/tailnet/-/keys", body)
    if as_json:
        show_json(key)
    else:
        show(key["key"])
        say(f"{key['id']} expires {key['expires']}. It is not shown again.")


@app.command("list")
@reports_errors
def list_keys(
    server: Server = None, token_file: Token = None, state_dir: StateDir = None, as_json: AsJson = False
) -> None:
    """List keys that are still known; their secrets are not."""
    with open_api(server, token_file, state_dir) as client:
        keys = client.request("GET", "/tailnet/-/keys?all=true")["keys"]
    if as_json:
        show_json(keys)
        return
    rows = [["ID", "TYPE", "TRAITS", "CREATED", "EXPIRES", "STATE", "DESCRIPTION"]]
    for key in keys:
        state = "revoked" if key.get("revoked") else "invalid" if key.get("invalid") else "valid"
        expires = "never" if key["expires"].startswith("0001-") else key["expires"]
        kind = key.get("keyType", "auth")
        rows.append([key["id"], kind, traits(key), key["created"], expires, state, key.get("description", "")])
    show(columns(rows))


@app.command("delete")
@reports_errors
def delete(key_id: str, server: Server = None, token_file: Token = None, state_dir: StateDir = None) -> None:
    """Revoke a key: nobody joins with it any more. Nodes that did stay."""
    with open_api(server, token_file, state_dir) as client:
        client.request("DELETE", f"/tailnet/-/keys/{key_id}")
    say(f"{key_id} revoked")


def traits(key: dict[str, Any]) -> str:
    """`reusable, ephemeral, tag:ci`; a dash for keys that are not for machines."""
    create = (key.get("capabilities") or {}).get("devices", {}).get("create")
    if not create:
        return "-"
    words = ["reusable" if create.get("reusable") else "one-off"]
    words += [word for word in ("ephemeral", "preauthorized") if create.get(word)]
    return ", ".join([*words, *(create.get("tags") or [])])


def open_api(server: str | None, token_file: str | None, state_dir: Path | None) -> RestClient:
    """The REST API as the three options name it. Raises CommandFailed."""
    from tailbox.cli.rest_client import open_client  # httpx takes a fifth of a second to import

    token = Path(token_file).read_text().strip() if token_file else None
    chosen = state_dir or default_state_dir()
    below = chosen / "coord"  # where `tailbox serve` keeps the coordinator's part
    return open_client(server=server, token=token, state_dir=below if below.is_dir() else chosen)
