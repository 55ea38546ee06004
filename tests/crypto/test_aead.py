from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.aead import NONCE_BYTES, TAG_BYTES, XNONCE_BYTES, open_sealed, seal, xopen, xseal
from tailbox.errors import AuthenticationError

Seal = Callable[[bytes, bytes, bytes, bytes], bytes]

KEY = bytes(range(0x80, 0xA0))
ASSOCIATED = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
PLAINTEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip "
    b"for the future, sunscreen would be it."
)
BOTH = pytest.mark.parametrize(
    ("seals", "opens", "nonce_bytes"), [(seal, open_sealed, NONCE_BYTES), (xseal, xopen, XNONCE_BYTES)]
)

# RFC 8439 §2.8.2.
RFC_8439_NONCE = bytes.fromhex("070000004041424344454647")
RFC_8439_SEALED = bytes.fromhex(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b29"
    "05d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b"
    "61161ae10b594f09e26a7e902ecbd0600691"
)
# draft-irtf-cfrg-xchacha-03, appendix A.3.1.
XCHACHA_NONCE = bytes(range(0x40, 0x58))
XCHACHA_SEALED = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216"
    "cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13"
    "b52ec0875924c1c7987947deafd8780acf49"
)


def test_the_vector_of_rfc_8439() -> None:
    assert seal(KEY, RFC_8439_NONCE, PLAINTEXT, ASSOCIATED) == RFC_8439_SEALED
    assert open_sealed(KEY, RFC_8439_NONCE, RFC_8439_SEALED, ASSOCIATED) == PLAINTEXT


def test_the_vector_of_the_xchacha_draft() -> None:
    assert xseal(KEY, XCHACHA_NONCE, PLAINTEXT, ASSOCIATED) == XCHACHA_SEALED
    assert xopen(KEY, XCHACHA_NONCE, XCHACHA_SEALED, ASSOCIATED) == PLAINTEXT


@BOTH
@given(plaintext=st.binary(max_size=100), associated=st.binary(max_size=40))
def test_what_was_sealed_opens(seals: Seal, opens: Seal, nonce_bytes: int, plaintext: bytes, associated: bytes) -> None:
    sealed = seals(KEY, bytes(nonce_bytes), plaintext, associated)
    assert len(sealed) == len(plaintext) + TAG_BYTES
    assert opens(KEY, bytes(nonce_bytes), sealed, associated) == plaintext


@BOTH
def test_any_changed_byte_is_noticed(seals: Seal, opens: Seal, nonce_bytes: int) -> None:
    sealed = seals(KEY, bytes(nonce_bytes), b"text", b"header")
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 0x40
        with pytest.raises(AuthenticationError):
            opens(KEY, bytes(nonce_bytes), bytes(changed), b"header")


@BOTH
def test_every_truncation_is_refused(seals: Seal, opens: Seal, nonce_bytes: int) -> None:
    sealed = seals(KEY, bytes(nonce_bytes), b"text", b"")
    for length in range(len(sealed)):
        with pytest.raises(AuthenticationError):
            opens(KEY, bytes(nonce_bytes), sealed[:length], b"")


@BOTH
def test_another_key_nonce_or_header_opens_nothing(seals: Seal, opens: Seal, nonce_bytes: int) -> None:
    nonce, other_nonce = bytes(nonce_bytes), bytes(nonce_bytes - 1) + b"\1"
    sealed = seals(KEY, nonce, b"text", b"header")
    for key, used, associated in ((bytes(32), nonce, b"header"), (KEY, other_nonce, b"header"), (KEY, nonce, b"")):
        with pytest.raises(AuthenticationError):
            opens(key, used, sealed, associated)
