"""Secrets that are shown once: `tskey-auth-<id>-<secret>`, `tskey-api-<id>-<secret>`. Only a hash stays.

The secret has 190 random bits, so one SHA-256, salted by the identifier, needs no stretching.
Source: the forms of Tailscale's API v2 (api-and-console reference §1.2).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from tailbox.coord.core.records import Credential
from tailbox.randomness import RandomSource, integer_below

AUTH_KEY_PREFIX = "tskey-auth-"
API_TOKEN_PREFIX = "tskey-api-"
ID_SUFFIX = "CNTRL"
ID_CHARACTERS = 11
SECRET_CHARACTERS = 32
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # base 58: no look-alikes
MAX_TEXT_CHARACTERS = 256  # ours: longer texts are nobody's credential


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A fresh secret, on its way to whoever asked for it."""

    id: str
    secret_hash: str
    text: str

    def __repr__(self) -> str:
        return f"NewCredential(id={self.id!r})"


def random_text(random: RandomSource, count: int) -> str:
    """That many characters of base 58: 5.8 bits each."""
    return "".join(ALPHABET[integer_below(random, len(ALPHABET))] for _ in range(count))


def new_credential(prefix: str, *, random: RandomSource) -> NewCredential:
    """Draw identifier and secret."""
    credential_id = "k" + random_text(random, ID_CHARACTERS) + ID_SUFFIX
    secret = random_text(random, SECRET_CHARACTERS)
    return NewCredential(credential_id, hash_of(credential_id, secret), f"{prefix}{credential_id}-{secret}")


def hash_of(credential_id: str, secret: str) -> str:
    """What the store keeps."""
    return hashlib.sha256(f"{credential_id}-{secret}".encode()).hexdigest()


def parse_credential(prefix: str, text: str) -> tuple[str, str] | None:
    """(identifier, secret), or None for a text of another form."""
    if len(text) > MAX_TEXT_CHARACTERS or not text.isascii() or not text.startswith(prefix):
        return None
    credential_id, hyphen, secret = text.removeprefix(prefix).partition("-")
    return (credential_id, secret) if hyphen and credential_id and secret else None


def matches(credential: Credential, secret: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(credential.secret_hash, hash_of(credential.id, secret))
