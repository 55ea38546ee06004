"""MACs and cookies: one end issues, the other shows."""

from __future__ import annotations

import hashlib

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from tailbox.crypto import x25519
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import NodePrivateKey
from tailbox.wire.wireguard import CookieReply, HandshakeInitiation
from tailbox.wireguard.cookies import COOKIE_REFRESH_TIME_S, CookieIssuer, CookieJar

OWN = x25519.node_public(NodePrivateKey(bytes([1] * 32)))
MESSAGE = HandshakeInitiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28).encode()
SOURCE = b"\xc0\0\2\1\x12\x34"


def ends() -> tuple[CookieIssuer, CookieJar]:
    return CookieIssuer(OWN, SeededRandom(1)), CookieJar(OWN)


def test_mac1_shows_that_the_sender_knows_the_receiver() -> None:
    issuer, jar = ends()
    message = jar.add_macs(MESSAGE, now=0.0)
    assert message[:-32] == MESSAGE[:-32]
    assert issuer.has_valid_mac1(message)
    assert not issuer.has_valid_mac1(message[:-17] + bytes([message[-17] ^ 1]) + message[-16:])
    assert not issuer.has_valid_mac1(b"\1" + bytes(147))


def test_a_cookie_makes_the_next_mac2_valid() -> None:
    issuer, jar = ends()
    first = jar.add_macs(MESSAGE, now=0.0)
    assert first[-16:] == bytes(16)
    assert not issuer.has_valid_mac2(first, SOURCE, now=0.0)
    reply = issuer.reply(first, SOURCE, now=0.0)
    assert reply.receiver_index == 0x01020304
    assert jar.accept(reply, now=0.0)
    second = jar.add_macs(MESSAGE, now=5.0)
    assert issuer.has_valid_mac2(second, SOURCE, now=5.0)
    assert not issuer.has_valid_mac2(second, SOURCE[:-1] + b"\x35", now=5.0)
    assert not issuer.has_valid_mac2(second[:-1] + bytes([second[-1] ^ 1]), SOURCE, now=5.0)


def test_cookie_and_secret_live_two_minutes() -> None:
    issuer, jar = ends()
    jar.accept(issuer.reply(jar.add_macs(MESSAGE, now=0.0), SOURCE, now=0.0), now=0.0)
    late = COOKIE_REFRESH_TIME_S
    shown = jar.add_macs(MESSAGE, now=late - 1)
    assert issuer.has_valid_mac2(shown, SOURCE, now=late - 1)
    assert not issuer.has_valid_mac2(shown, SOURCE, now=late)
    assert jar.add_macs(MESSAGE, now=late)[-16:] == bytes(16)


def test_replies_are_bound_to_the_message_they_answer() -> None:
    issuer, jar = ends()
    reply = issuer.reply(jar.add_macs(MESSAGE, now=0.0), SOURCE, now=0.0)
    fresh = CookieJar(OWN)
    assert not fresh.accept(reply, now=0.0)  # never sent anything
    fresh.add_macs(b"\1" + MESSAGE[1:4] + b"other" + MESSAGE[9:], now=0.0)
    assert not fresh.accept(reply, now=0.0)
    assert jar.accept(reply, now=0.0)
    assert not jar.accept(reply, now=0.0)  # once


def test_the_sealed_cookie_is_that_of_the_paper() -> None:
    """§5.4.7, computed with hashlib and libsodium: XAEAD(HASH("cookie--" ‖ S_pub), nonce, cookie, mac1)."""
    issuer, jar = ends()
    message = jar.add_macs(MESSAGE, now=0.0)
    reply = CookieReply.decode(issuer.reply(message, SOURCE, now=0.0).encode())
    key = hashlib.blake2s(b"cookie--" + OWN.raw).digest()
    cookie = crypto_aead_xchacha20poly1305_ietf_decrypt(reply.sealed_cookie, message[-32:-16], reply.nonce, key)
    secret = SeededRandom(1).bytes(32)
    assert cookie == hashlib.blake2s(SOURCE, key=secret, digest_size=16).digest()
    assert jar.accept(reply, now=0.0)
    shown = jar.add_macs(MESSAGE, now=0.0)
    assert shown[-16:] == hashlib.blake2s(shown[:-16], key=cookie, digest_size=16).digest()
