"""The whole channel, either end: handshake, records, early payload and HTTP/2 in one object.

Bytes of the connection in, HTTP/2 events out; calls on `http2`, then `bytes_to_send()`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.control_channel.early_payload import EarlyPayloadReader, encode_early_payload
from tailbox.control_channel.handshake import Initiator, Session
from tailbox.control_channel.http2 import ConnectionFailed, Http2Client, Http2Event, Http2Server
from tailbox.control_channel.records import RecordOpener, RecordSealer
from tailbox.errors import AuthenticationError, Malformed
from tailbox.wire.keys import ChallengePublicKey
from tailbox.wire.noise import ErrorMessage, decode_answer


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """Client: the server has proven its key."""

    session: Session


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """Client: the last event. `why` may quote the server's own words, which nothing proves."""

    why: str
    is_refusal: bool  # the server said so, rather than failing to prove its key


ChannelEvent = Http2Event | HandshakeDone | HandshakeFailed


class ServerChannel:
    """The coordinator's end, after `handshake.respond`."""

    def __init__(self, session: Session, *, challenge: ChallengePublicKey | None = None) -> None:
        """`challenge`: what the early payload carries; None sends none, as on WebSockets."""
        self.session = session
        self.http2 = Http2Server()
        self._opener = RecordOpener(session.receiving_key)
        self._sealer = RecordSealer(session.sending_key)
        self._first = encode_early_payload(challenge) if challenge else b""

    def receive_bytes(self, data: bytes) -> list[Http2Event]:
        """Never raises: a violation is the last event."""
        return _receive(self.http2, self._opener, data)

    def bytes_to_send(self) -> bytes:
        plaintext, self._first = self._first + self.http2.bytes_to_send(), b""
        return self._sealer.seal(plaintext)


class ClientChannel:
    """The node's end, from the first byte after the 101."""

    def __init__(self, initiator: Initiator) -> None:
        self.http2 = Http2Client()
        self.session: Session | None = None
        self._initiator = initiator
        self._handshake = bytearray()
        self._opener: RecordOpener | None = None
        self._sealer: RecordSealer | None = None
        self._early = EarlyPayloadReader()
        self._is_failed = False

    @property
    def challenge(self) -> ChallengePublicKey | None:
        """What the early payload carried, once it has arrived."""
        return self._early.challenge

    def receive_bytes(self, data: bytes) -> list[ChannelEvent]:
        """Never raises: a violation is the last event, and later bytes are ignored."""
        if self._is_failed:
            return []
        events: list[ChannelEvent] = []
        if self._opener is None:
            self._handshake += data
            events += self._finish_handshake()
            data = bytes(self._handshake)
        if self._opener is not None:
            events += _receive(self.http2, self._opener, data, self._early)
        return events

    def bytes_to_send(self) -> bytes:
        """Nothing before the handshake is done: the initiation travels in the HTTP head."""
        return self._sealer.seal(self.http2.bytes_to_send()) if self._sealer else b""

    def _finish_handshake(self) -> list[ChannelEvent]:
        try:
            answer = decode_answer(bytes(self._handshake))
            if answer is None:
                return []
            del self._handshake[: answer.consumed]
            if isinstance(answer.message, ErrorMessage):
                return self._refused(answer.message.text, is_refusal=True)
            self.session = self._initiator.finish(answer.message)
        except Malformed as error:
            return self._refused(str(error), is_refusal=False)
        except AuthenticationError:
            return self._refused("the server did not prove the key that it published", is_refusal=False)
        self._opener = RecordOpener(self.session.receiving_key)
        self._sealer = RecordSealer(self.session.sending_key)
        return [HandshakeDone(self.session)]

    def _refused(self, why: str, *, is_refusal: bool) -> list[ChannelEvent]:
        self._is_failed = True
        self._handshake.clear()
        return [HandshakeFailed(why, is_refusal)]


def _receive(
    http2: Http2Server | Http2Client, opener: RecordOpener, data: bytes, early: EarlyPayloadReader | None = None
) -> list[Http2Event]:
    """Records, early payload, HTTP/2: what was good before a violation still counts."""
    plaintext = opener.receive_bytes(data)
    error = opener.error
    if early is not None:
        plaintext = early.receive_bytes(plaintext)
        error = early.error or error
    events = http2.receive_bytes(plaintext) if plaintext else []
    if error is not None and not http2.is_failed:
        http2.close()
        events.append(ConnectionFailed(str(error)))
    return events
