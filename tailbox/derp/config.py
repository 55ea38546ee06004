"""Settings of the relay, and its key file.

The key file is upstream's: `{"PrivateKey":"privkey:<64 hex digits>"}`, mode 0600.
Source: tailscale cmd/derper/derper.go; spec: derp.md §17, reliability-and-security.md §2.3.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from tailbox.crypto.x25519 import generate
from tailbox.derp.core.connection import DuplicatePolicy
from tailbox.errors import ConfigError, Malformed
from tailbox.randomness import RandomSource
from tailbox.runtime.tls import write_private
from tailbox.wire.keys import NodePrivateKey

MIN_BURST_BYTES = 64 * 1024 + 32  # derpserver.go: one whole frame must fit


@dataclass(frozen=True, slots=True)
class DerpConfig:
    """What an operator may set. The defaults are those of reliability-and-security.md §2.3 where upstream has none."""

    stun_port: int = 3478  # UDP; 0: any free port, −1: no STUN
    answers_any_stun: bool = False  # also requests of other programs; such answers are larger than their requests
    home_page: str = "page"  # what `/` shows: "page", "blank", "none" (somebody else's route), or a URL to go to

    verify_client_url: str = ""  # asked by POST who may connect; empty: nobody is asked
    verify_client_url_fail_open: bool = False  # upstream's default is true; ours remembers admitted keys instead

    data_queue_packets: int = 64  # for a client that does not keep up; upstream 32, but a packet train has up to 64
    disco_queue_packets: int = 32
    queue_bytes: int = 256 * 1024  # both queues of one client
    total_queue_bytes: int = 256 * 1024 * 1024  # all queues
    duplicates: DuplicatePolicy = DuplicatePolicy.LAST_WRITER

    keep_alive_s: float = 60.0
    keep_alive_jitter_s: float = 5.0
    silent_client_timeout_s: float = 130.0  # for clients that answer pings; the others are quiet by right
    greeting_timeout_s: float = 10.0  # to write ServerKey and read ClientInfo
    write_timeout_s: float = 2.0  # without any progress

    max_connections: int = 10_000
    max_logins_under_way: int = 512
    accepts_per_s: float = 200.0  # 0: no limit
    accepts_per_address_per_s: float = 20.0  # 0: no limit; bursts of ten times as many
    rate_limit_bytes_per_s: int = 12_500_000  # what one client may send; 0: no limit
    rate_limit_burst_bytes: int = 1024 * 1024
    advertises_rate_limit: bool = False  # clients then drop what is too much, where TCP would hold them back

    bootstrap_dns_names: tuple[str, ...] = ()  # whose addresses `/bootstrap-dns` tells

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not -1 <= self.stun_port <= 65535:
            raise ConfigError("stun_port", self.stun_port, "wanted -1 to 65535")
        for name in ("data_queue_packets", "disco_queue_packets", "max_connections", "max_logins_under_way"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "wanted at least 1")
        for name in ("keep_alive_s", "greeting_timeout_s", "write_timeout_s", "silent_client_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "wanted more than 0 seconds")
        if self.queue_bytes < MIN_BURST_BYTES:
            raise ConfigError("queue_bytes", self.queue_bytes, f"one packet needs {MIN_BURST_BYTES}")
        if self.home_page not in ("page", "blank", "none") and not self.home_page.startswith(("http://", "https://")):
            raise ConfigError("home_page", self.home_page, "wanted page, blank, none or a URL")
        if self.verify_client_url and not self.verify_client_url.startswith(("http://", "https://")):
            raise ConfigError("verify_client_url", self.verify_client_url, "wanted a URL")


def load_or_create_key(path: Path, *, random: RandomSource) -> NodePrivateKey:
    """The relay's identity, made at the first start. Raises ConfigError; a damaged file is never replaced."""
    try:
        text = path.read_text()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return _create_key(path, random)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("relay key file", str(path), type(error).__name__) from None
    if mode & 0o077:
        raise ConfigError("relay key file", str(path), f"mode {mode:04o} lets others read it, wanted 0600")
    try:
        fields = json.loads(text)
        return NodePrivateKey.parse(fields["PrivateKey"])
    except (ValueError, KeyError, TypeError, AttributeError, Malformed):
        raise ConfigError("relay key file", str(path), "does not hold a PrivateKey") from None


def _create_key(path: Path, random: RandomSource) -> NodePrivateKey:
    key = generate(NodePrivateKey, random)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, json.dumps({"PrivateKey": key.reveal()}).encode() + b"\n")
    except OSError as error:
        raise ConfigError("relay key file", str(path), error.strerror or "cannot be written") from None
    return key
