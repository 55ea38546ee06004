"""MAC1, MAC2 and cookies: what a handshake costs the asker before it costs us. Source: paper §5.3, §5.4.4, §5.4.7.

mac1 shows that the sender knows whom it talks to; we stay silent otherwise. Under load, mac2 must show a cookie that
we gave to the sender's very address, so that it cannot be spoofed.
"""

from __future__ import annotations

import hmac

from tailbox.crypto import aead
from tailbox.crypto.kdf import keyed_blake2s_128
from tailbox.errors import AuthenticationError
from tailbox.randomness import RandomSource
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.wireguard import MAC_BYTES, MACS_BYTES, NO_MAC, CookieReply
from tailbox.wireguard.handshake import cookie_key, mac1_key

COOKIE_REFRESH_TIME_S = 120.0  # paper §5.4.7: the secret's life and the cookie's

_SECRET_BYTES = 32
_SENDER_INDEX = slice(4, 8)  # in both handshake messages


class CookieIssuer:
    """The receiving end: checks both MACs and gives cookies out."""

    __slots__ = ("_cookie_key", "_mac1_key", "_random", "_secret", "_secret_until")

    def __init__(self, own: NodePublicKey, random: RandomSource) -> None:
        self._mac1_key = mac1_key(own)
        self._cookie_key = cookie_key(own)
        self._random = random
        self._secret = b""
        self._secret_until = float("-inf")

    def has_valid_mac1(self, message: bytes) -> bool:
        expected = keyed_blake2s_128(self._mac1_key, message[:-MACS_BYTES])
        return hmac.compare_digest(expected, message[-MACS_BYTES:-MAC_BYTES])

    def has_valid_mac2(self, message: bytes, source: bytes, *, now: float) -> bool:
        """Whether the message shows the cookie that `source` was given."""
        if now >= self._secret_until:
            return False
        cookie = keyed_blake2s_128(self._secret, source)
        return hmac.compare_digest(keyed_blake2s_128(cookie, message[:-MAC_BYTES]), message[-MAC_BYTES:])

    def reply(self, message: bytes, source: bytes, *, now: float) -> CookieReply:
        """A cookie for `source`, readable only by whoever sent this very message."""
        if now >= self._secret_until:
            self._secret = self._random.bytes(_SECRET_BYTES)
            self._secret_until = now + COOKIE_REFRESH_TIME_S
        nonce = self._random.bytes(aead.XNONCE_BYTES)
        cookie = keyed_blake2s_128(self._secret, source)
        sealed = aead.xseal(self._cookie_key, nonce, cookie, message[-MACS_BYTES:-MAC_BYTES])
        return CookieReply(int.from_bytes(message[_SENDER_INDEX], "little"), nonce, sealed)


class CookieJar:
    """The sending end, one per peer: adds both MACs and keeps the cookie that the peer gave us."""

    __slots__ = ("_cookie", "_cookie_key", "_cookie_until", "_last_mac1", "_mac1_key")

    def __init__(self, peer: NodePublicKey) -> None:
        self._mac1_key = mac1_key(peer)
        self._cookie_key = cookie_key(peer)
        self._last_mac1: bytes | None = None
        self._cookie = b""
        self._cookie_until = float("-inf")

    def add_macs(self, message: bytes, *, now: float) -> bytes:
        """The message with its last 32 bytes filled in."""
        body = message[:-MACS_BYTES]
        self._last_mac1 = mac1 = keyed_blake2s_128(self._mac1_key, body)
        body += mac1
        return body + (keyed_blake2s_128(self._cookie, body) if now < self._cookie_until else NO_MAC)

    def accept(self, reply: CookieReply, *, now: float) -> bool:
        """Keep the cookie for the next message. False if it does not answer our last one."""
        if self._last_mac1 is None:
            return False
        try:
            cookie = aead.xopen(self._cookie_key, reply.nonce, reply.sealed_cookie, self._last_mac1)
        except AuthenticationError:
            return False
        self._last_mac1 = None  # one reply per message; §6.6 has the next message wait for its timer
        self._cookie = cookie
        self._cookie_until = now + COOKIE_REFRESH_TIME_S
        return True
