"""Typed keys: 32 raw bytes that cannot be taken for one another, and their text forms.

| Class | Text form | Use |
|---|---|---|
| MachinePublicKey, MachinePrivateKey | `mkey:`, `privkey:` | the control channel's Noise static keys |
| NodePublicKey, NodePrivateKey | `nodekey:`, `privkey:` | WireGuard identity and relay address |
| DiscoPublicKey, DiscoPrivateKey | `discokey:`, `privkey:` | path discovery |
| ChallengePublicKey | `chalpub:` | early payload of the control channel |
| NetworkLockPublicKey | `nlpub:` | tailnet lock |

The text form is the prefix and 64 hexadecimal digits: lower case written, either case read.
Source: tailscale types/key/{machine,node,disco,chal,nl,util}.go.
"""

from __future__ import annotations

import base64
from typing import ClassVar, Self

from tailbox.errors import Malformed

KEY_BYTES = 32


class _Key:
    """Raw bytes with a type. Equal only to keys of its own class."""

    __slots__ = ("_hash", "raw")
    prefix: ClassVar[str]

    raw: bytes

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise Malformed(f"{type(self).__name__} of {len(raw)} bytes, wanted {KEY_BYTES}")
        self.raw = bytes(raw)
        self._hash = hash((type(self).__name__, self.raw))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises Malformed; the text is not repeated, since it may be secret."""
        prefix, digits = text[: len(cls.prefix)], text[len(cls.prefix) :]
        if prefix != cls.prefix or len(digits) != 2 * KEY_BYTES:
            raise Malformed(f"not a {cls.__name__}: wanted {cls.prefix} and {2 * KEY_BYTES} hex digits")
        try:
            return cls(bytes.fromhex(digits))
        except ValueError:
            raise Malformed(f"not a {cls.__name__}: digits are not hexadecimal") from None

    @classmethod
    def zero(cls) -> Self:
        """The key that Go sends for "none"."""
        return cls(bytes(KEY_BYTES))

    @property
    def is_zero(self) -> bool:
        return not any(self.raw)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    def __hash__(self) -> int:
        return self._hash


class PublicKey(_Key):
    """A key that may be shown."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self.prefix + self.raw.hex()

    def short(self) -> str:
        """The form for logs: `[` + first five base64 characters + `]`."""
        return f"[{base64.b64encode(self.raw)[:5].decode()}]"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.short()})"


class PrivateKey(_Key):
    """A key that prints as `[redacted]`. Clamped at construction, as RFC 7748 §5 has it."""

    __slots__ = ()
    prefix = "privkey:"

    def __init__(self, raw: bytes) -> None:
        super().__init__(_clamped(raw) if len(raw) == KEY_BYTES else raw)

    def reveal(self) -> str:
        """The text form, for the state file and nothing else."""
        return self.prefix + self.raw.hex()

    def __str__(self) -> str:
        return "[redacted]"

    def __repr__(self) -> str:
        return f"{type(self).__name__}([redacted])"


class MachinePublicKey(PublicKey):
    """One per installation; the control channel proves it."""

    __slots__ = ()
    prefix = "mkey:"


class MachinePrivateKey(PrivateKey):
    """The private half of MachinePublicKey."""

    __slots__ = ()


class NodePublicKey(PublicKey):
    """One per login: WireGuard identity and relay address."""

    __slots__ = ()
    prefix = "nodekey:"


class NodePrivateKey(PrivateKey):
    """The private half of NodePublicKey."""

    __slots__ = ()


class DiscoPublicKey(PublicKey):
    """One per process: seals path discovery messages."""

    __slots__ = ()
    prefix = "discokey:"

    def short(self) -> str:
        """The form for logs: `d:` + 16 hex digits."""
        return f"d:{self.raw[:8].hex()}"


class DiscoPrivateKey(PrivateKey):
    """The private half of DiscoPublicKey."""

    __slots__ = ()


class ChallengePublicKey(PublicKey):
    """What the coordinator's early payload carries."""

    __slots__ = ()
    prefix = "chalpub:"


class NetworkLockPublicKey(PublicKey):
    """Ed25519 key of tailnet lock; carried, not used."""

    __slots__ = ()
    prefix = "nlpub:"


def _clamped(raw: bytes) -> bytes:
    """The scalar that X25519 makes of 32 bytes anyway, so that equal keys are equal here, too."""
    return bytes((raw[0] & 248, *raw[1:31], raw[31] & 127 | 64))
