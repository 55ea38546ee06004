"""The coordinator's own secret: a file beside the database, never in it. Mode 0600, made whole or not at all."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from tailbox.coord.admin.private_file import read_private, write_private
from tailbox.errors import ConfigError, Malformed
from tailbox.randomness import RandomSource
from tailbox.wire.keys import KEY_BYTES, MachinePrivateKey

NOISE_KEY_FILE = "noise-key"  # losing it strands running clients until they restart


@dataclass(frozen=True, slots=True)
class CoordinatorSecrets:
    """Read at start, or made at the first one."""

    noise_key: MachinePrivateKey

    def __repr__(self) -> str:
        return "CoordinatorSecrets([redacted])"


def load_secrets(directory: Path, *, random: RandomSource) -> CoordinatorSecrets:
    """Raises ConfigError for a file that others may read, or that is not what it should be."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / NOISE_KEY_FILE
    text = _read(path) or _make(path, MachinePrivateKey(random.bytes(KEY_BYTES)).reveal())
    try:
        return CoordinatorSecrets(MachinePrivateKey.parse(text))
    except Malformed:
        raise ConfigError("state_directory", str(path), "not a private key") from None


def _read(path: Path) -> str | None:
    """The text; None if there is no file. Raises ConfigError for one that group or world may read."""
    if not path.exists():
        return None
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError("state_directory", str(path), "others may read it: wanted mode 0600")
    text = read_private(path)
    if not text:
        raise ConfigError("state_directory", str(path), "empty or unreadable")
    return text.strip()


def _make(path: Path, text: str) -> str:
    write_private(path, text + "\n")
    return text
