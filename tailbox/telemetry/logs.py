"""Logging for programs: one line a record on standard error, fields after the text, secrets cut out."""

from __future__ import annotations

import logging
import re
import sys

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

# Whatever slips into a message or a field: auth keys, API tokens, private keys, sign-in links.
SECRET = re.compile(r"(tskey-[a-z]+-[A-Za-z0-9]+-|privkey:|[?&]token=)[A-Za-z0-9_\-]+")
REDACTED = r"\1[redacted]"

_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """`12:00:01 INFO tailbox.node path changed peer=[abcde] via=direct`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD_FIELDS)
        text = super().format(record)
        return redact(f"{text} {fields}" if fields else text)


def redact(text: str) -> str:
    """The text with the secret part of every key in it replaced."""
    return SECRET.sub(REDACTED, text)


def set_up_logs(verbosity: int) -> None:
    """Send records to standard error: 0 warnings, 1 information, 2 and above everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tailbox").setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
