"""Curve25519: key generation, derivation, Diffie–Hellman. Source: RFC 7748 §5, §6.1."""

from __future__ import annotations

from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tailbox.errors import AuthenticationError
from tailbox.randomness import RandomSource
from tailbox.wire.keys import (
    KEY_BYTES,
    DiscoPrivateKey,
    DiscoPublicKey,
    MachinePrivateKey,
    MachinePublicKey,
    NodePrivateKey,
    NodePublicKey,
    PrivateKey,
)

Private = TypeVar("Private", bound=PrivateKey)


def generate(kind: type[Private], random: RandomSource) -> Private:
    """A new private key of the given class."""
    return kind(random.bytes(KEY_BYTES))


def public_bytes(private: bytes) -> bytes:
    """The 32-byte public key of 32 private bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchange(private: bytes, public: bytes) -> bytes:
    """The 32-byte shared secret. Raises AuthenticationError for points of low order (RFC 7748 §6.1)."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise AuthenticationError from None


def machine_public(private: MachinePrivateKey) -> MachinePublicKey:
    return MachinePublicKey(public_bytes(private.raw))


def node_public(private: NodePrivateKey) -> NodePublicKey:
    return NodePublicKey(public_bytes(private.raw))


def disco_public(private: DiscoPrivateKey) -> DiscoPublicKey:
    return DiscoPublicKey(public_bytes(private.raw))
