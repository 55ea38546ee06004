"""BLAKE2s: hash, MAC, and the HKDF chain of the Noise framework. Source: RFC 7693; RFC 5869; Noise §4.3, §5.1."""

from __future__ import annotations

import hashlib

BLOCK_BYTES = 64

_INNER_PAD = bytes(x ^ 0x36 for x in range(256))
_OUTER_PAD = bytes(x ^ 0x5C for x in range(256))


def blake2s(*parts: bytes) -> bytes:
    """BLAKE2s-256 of the parts, one after another."""
    return hashlib.blake2s(b"".join(parts)).digest()


def keyed_blake2s_128(key: bytes, data: bytes) -> bytes:
    """The 16-byte keyed BLAKE2s that WireGuard calls MAC (paper §5.4)."""
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """RFC 2104 HMAC with BLAKE2s-256; `key` is at most one block, 64 bytes. Half the cost of the hmac module."""
    padded = key.ljust(BLOCK_BYTES, b"\0")
    inner = hashlib.blake2s(padded.translate(_INNER_PAD) + data).digest()
    return hashlib.blake2s(padded.translate(_OUTER_PAD) + inner).digest()


def hkdf2(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Two 32-byte outputs of HKDF with empty info."""
    secret = hmac_blake2s(chaining_key, material)
    first = hmac_blake2s(secret, b"\x01")
    return first, hmac_blake2s(secret, first + b"\x02")


def hkdf3(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    """Three 32-byte outputs of HKDF with empty info."""
    secret = hmac_blake2s(chaining_key, material)
    first = hmac_blake2s(secret, b"\x01")
    second = hmac_blake2s(secret, first + b"\x02")
    return first, second, hmac_blake2s(secret, second + b"\x03")
