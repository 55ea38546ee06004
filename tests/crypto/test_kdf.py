from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.kdf import BLOCK_BYTES, blake2s, hkdf2, hkdf3, hmac_blake2s, keyed_blake2s_128

KEYS = st.binary(max_size=BLOCK_BYTES)


def test_the_hash_of_rfc_7693() -> None:
    # Appendix B.
    expected = bytes.fromhex("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
    assert blake2s(b"abc") == blake2s(b"a", b"", b"bc") == expected


@given(KEYS, st.binary(max_size=200))
def test_the_mac_is_that_of_rfc_2104(key: bytes, data: bytes) -> None:
    assert hmac_blake2s(key, data) == hmac.digest(key, data, "blake2s")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80))
def test_the_chain_is_hkdf_with_empty_info(chaining_key: bytes, material: bytes) -> None:
    # RFC 5869 §2.2, §2.3, written down once more with the standard library's HMAC.
    secret = hmac.digest(chaining_key, material, "blake2s")
    blocks = [b""]
    for number in (1, 2, 3):
        blocks.append(hmac.digest(secret, blocks[-1] + bytes((number,)), "blake2s"))
    assert hkdf2(chaining_key, material) == tuple(blocks[1:3])
    assert hkdf3(chaining_key, material) == tuple(blocks[1:4])


def test_the_short_mac_is_blake2s_with_key_and_length_of_its_own() -> None:
    key = bytes(range(32))
    mac = keyed_blake2s_128(key, b"message")
    assert mac == hashlib.blake2s(b"message", key=key, digest_size=16).digest()
    assert mac != blake2s(b"message")[:16]
    assert keyed_blake2s_128(bytes(32), b"message") != mac
