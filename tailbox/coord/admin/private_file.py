"""Files that only their owner may read, replaced as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

MODE = 0o600


def write_private(path: Path, text: str) -> None:
    """Write with mode 0600, flush to disk, rename into place. Raises OSError and leaves the old file as it was."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_private(path: Path, *, limit: int = 65536) -> str | None:
    """The text, or None if the file is missing, too long or not text."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        return raw.decode() if len(raw) <= limit else None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
