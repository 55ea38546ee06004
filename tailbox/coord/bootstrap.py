"""What a coordinator makes at its first start and finds at every later one, in its state directory (mode 0700).

| File | Content |
|---|---|
| `tailnet.sqlite`, `noise-key`, … | the store's own |
| `admin-token` | an API token of the owner, for commands on this machine; a damaged or revoked one is replaced |
| `server-url` | where this coordinator answers, for the same commands |
"""

from __future__ import annotations

import logging
from functools import partial

import msgspec

from tailbox.coord.admin.private_file import read_private, write_private
from tailbox.coord.config import CoordConfig
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core import api_tokens, users
from tailbox.coord.core.change import NO_CHANGE, Outcome
from tailbox.coord.core.records import Role, Settings, User
from tailbox.coord.core.settings import update_settings
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import ConfigError, Unauthorized

ADMIN_TOKEN_FILE = "admin-token"
SERVER_URL_FILE = "server-url"
TOKEN_DESCRIPTION = "commands on this machine"

log = logging.getLogger(__name__)


def seed(tailnet: Tailnet, now_unix_s: float, *, config: CoordConfig) -> Outcome[User]:
    """The owner, made once, and the settings that the configuration decides at every start."""
    owner = next((user for user in tailnet.users.values() if user.role is Role.OWNER), None)
    change = NO_CHANGE
    if owner is None:
        made = users.create_user(tailnet, now_unix_s, login_name=config.owner_login)
        tailnet, change, owner = made.tailnet, made.change, made.result
    wanted = _settings(tailnet, config, is_first_start=not change.is_empty)
    updated = update_settings(tailnet, now_unix_s, settings=wanted)
    return Outcome(updated.tailnet, change.merge(updated.change), owner)


def _settings(tailnet: Tailnet, config: CoordConfig, *, is_first_start: bool) -> Settings:
    """Names and time-outs always follow the configuration; what the console can change does so at first only."""
    current = msgspec.structs.replace(
        tailnet.settings,
        tailnet_name=config.tailnet_name,
        base_domain=config.base_domain,
        ephemeral_timeout_s=config.ephemeral_timeout_s,
    )
    if not is_first_start:
        return current
    return msgspec.structs.replace(
        current,
        is_device_approval_on=config.is_device_approval_required,
        key_duration_days=config.node_key_duration_days,
        dns=msgspec.structs.replace(current.dns, is_magic_dns=config.is_magic_dns_enabled),
    )


async def write_local_files(coordinator: Coordinator, config: CoordConfig, owner: User) -> None:
    """`admin-token` and `server-url`. The token stays while it works. Raises ConfigError."""
    path = config.state_directory / ADMIN_TOKEN_FILE
    try:
        write_private(config.state_directory / SERVER_URL_FILE, config.server_url + "\n")
        if _is_usable(coordinator, (read_private(path) or "").strip()):
            return
        created = await coordinator.apply(
            partial(
                api_tokens.create_api_token,
                user_id=owner.id,
                random=coordinator.random,
                description=TOKEN_DESCRIPTION,
                lifetime_s=None,  # as long-lived as the state directory beside it
            )
        )
        write_private(path, created.text + "\n")
    except OSError as error:
        raise ConfigError("state_directory", str(config.state_directory), error.strerror or str(error)) from None
    log.info("admin token written", extra={"file": str(path)})


def _is_usable(coordinator: Coordinator, token: str) -> bool:
    try:
        api_tokens.authenticate(coordinator.tailnet, coordinator.clock.unix_time(), token)
    except Unauthorized:
        return False
    return True
