"""A network of the test's own: this thread, and every process and thread that it starts, see loopback and nothing else.

The namespace has no name and no link to the outside, so programs that look for the public service on failure find
nobody, and nothing stays behind when the last process of the test is gone. Source: unshare(2), setns(2).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

CLONE_NEWNET = 0x40000000  # sched.h
LOCAL_ADDRESSES = ("10.77.0.1/24", "fd77::1/64")  # what looks like a local network, with nobody on it

_libc = ctypes.CDLL(None, use_errno=True)


def reason_to_skip() -> str:
    """Why no namespace can be made here, "" if one can."""
    if os.geteuid() != 0:
        return "needs root for a network namespace"
    return "" if shutil.which("ip") else "not installed: ip"


class IsolatedNetwork:
    """A context: inside, sockets are the new namespace's, for this thread and what it starts."""

    def __enter__(self) -> Self:
        """Raises OSError where namespaces are not allowed."""
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            os.close(self._outside)
            raise OSError(number, os.strerror(number))
        _ip("link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        result = _libc.setns(self._outside, CLONE_NEWNET)
        os.close(self._outside)
        assert result == 0, "cannot get back to the network outside"

    def add_local_network(self) -> None:
        """An interface with addresses that are not loopback and no route out: programs deem themselves online."""
        _ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        for address in LOCAL_ADDRESSES:
            _ip("address", "add", address, "dev", "lan0", *(["nodad"] if ":" in address else []))
        _ip("link", "set", "lan0", "up")
        _ip("link", "set", "lan1", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
