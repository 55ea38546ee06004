"""The states of a TCP connection and which follows which. Source: RFC 9293 §3.3.2, figure 5."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """RFC 9293's names. LISTEN is a listener's, never a connection's."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


class Cause(Enum):
    """What moves a connection from one state to the next, resets and timeouts apart."""

    SYN_ARRIVED = "SYN arrived"
    SYN_ACK_ARRIVED = "SYN, ACK arrived"
    SYN_ACKNOWLEDGED = "our SYN was acknowledged"
    CLOSE_CALLED = "close called"
    FIN_ARRIVED = "FIN arrived"
    FIN_ACKNOWLEDGED = "our FIN was acknowledged"
    DIED = "reset, aborted or timed out"


NEXT_STATE: Mapping[tuple[State, Cause], State] = {
    (State.SYN_SENT, Cause.SYN_ARRIVED): State.SYN_RECEIVED,  # simultaneous open
    (State.SYN_SENT, Cause.SYN_ACK_ARRIVED): State.ESTABLISHED,
    (State.SYN_RECEIVED, Cause.SYN_ACKNOWLEDGED): State.ESTABLISHED,
    (State.SYN_RECEIVED, Cause.CLOSE_CALLED): State.FIN_WAIT_1,
    (State.SYN_RECEIVED, Cause.FIN_ARRIVED): State.CLOSE_WAIT,
    (State.ESTABLISHED, Cause.CLOSE_CALLED): State.FIN_WAIT_1,
    (State.ESTABLISHED, Cause.FIN_ARRIVED): State.CLOSE_WAIT,
    (State.FIN_WAIT_1, Cause.FIN_ACKNOWLEDGED): State.FIN_WAIT_2,
    (State.FIN_WAIT_1, Cause.FIN_ARRIVED): State.CLOSING,
    (State.FIN_WAIT_2, Cause.FIN_ARRIVED): State.TIME_WAIT,
    (State.CLOSE_WAIT, Cause.CLOSE_CALLED): State.LAST_ACK,
    (State.CLOSING, Cause.FIN_ACKNOWLEDGED): State.TIME_WAIT,
    (State.LAST_ACK, Cause.FIN_ACKNOWLEDGED): State.CLOSED,
    **{(state, Cause.DIED): State.CLOSED for state in State},
}

SYNCHRONIZED = frozenset(
    {
        State.ESTABLISHED,
        State.FIN_WAIT_1,
        State.FIN_WAIT_2,
        State.CLOSE_WAIT,
        State.CLOSING,
        State.LAST_ACK,
        State.TIME_WAIT,
    }
)  # both ends know both initial sequence numbers
MAY_RECEIVE_DATA = frozenset({State.SYN_RECEIVED, State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
MAY_SEND_DATA = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})


class SocketError(Enum):
    """Why a connection ended other than by FINs from both ends."""

    REFUSED = "connection refused"
    RESET = "connection reset by peer"
    TIMED_OUT = "connection timed out"
    UNREACHABLE = "destination unreachable"
    ABORTED = "aborted here"
