"""Scripted segments: every state against every kind of segment, and the rules of RFC 9293 and RFC 5961 one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.stack import PendingConnection, SocketError, Stack, State, TcpListener, TcpSocket
from tailbox.wire.addresses import Endpoint
from tailbox.wire.ip import IPHeader, Protocol, build_packet
from tailbox.wire.tcp import NO_OPTIONS, TcpFlag, TcpOptions, TcpSegment
from tailbox.wire.train import Train
from tests.userspace_stack.conftest import ADDRESSES, make_stack

US, PEER = ADDRESSES[4]
ACK, SYN, FIN, RST, PSH = TcpFlag.ACK, TcpFlag.SYN, TcpFlag.FIN, TcpFlag.RST, TcpFlag.PSH
PEER_ISS = 0xFFFFFFF0  # so that everything wraps around soon
PEER_PORT = 5555


@dataclass
class Script:
    """A stack, and a peer that sends whatever the test says."""

    stack: Stack = field(default_factory=lambda: make_stack(US, 3))
    now: float = 100.0
    socket: TcpSocket | None = None
    listener: TcpListener | None = None
    port: int = 80
    iss: int = 0  # ours
    sent: int = 1  # sequence numbers the peer has used
    options: TcpOptions = field(default_factory=lambda: TcpOptions(1240, 7, True))

    def send(
        self,
        flags: TcpFlag,
        *,
        at: int = 0,
        ack: int = 0,
        payload: bytes = b"",
        window: int | None = None,
        options: TcpOptions = NO_OPTIONS,
        raw_sequence: int | None = None,
    ) -> list[TcpSegment]:
        """`at` and `ack` count from what is expected next; returns our answers."""
        sequence = PEER_ISS + self.sent + at if raw_sequence is None else raw_sequence
        acknowledgment = self.iss + 1 + ack if flags & ACK else 0
        if window is None:
            window = 0xFFFF if flags & SYN else 1000
        segment = TcpSegment(
            PEER_PORT, self.port, sequence % 2**32, acknowledgment % 2**32, flags, window, 0, options, payload
        )
        packet = build_packet(PEER, US, Protocol.TCP, segment.encode(PEER, US))
        self.stack.receive(Train.of(packet), now=self.now)
        return self.collect()

    def collect(self) -> list[TcpSegment]:
        answers = []
        for train in self.stack.collect(now=self.now).to_network:
            for packet in train:
                header = IPHeader.decode(packet)
                answers.append(TcpSegment.decode(bytes(packet[header.header_bytes :]), US, PEER))
        return answers

    def wait(self, seconds: float) -> list[TcpSegment]:
        """Let time pass, timer by timer."""
        answers, end = self.collect(), self.now + seconds
        while (deadline := self.stack.next_deadline()) and deadline.at <= end:
            self.now = max(self.now, deadline.at)
            self.stack.handle_deadline(now=self.now)
            answers += self.collect()
        self.now = end
        return answers

    @property
    def tcp(self) -> TcpSocket:
        assert self.socket is not None
        return self.socket

    # Ways into each state

    def connect(self) -> Script:
        self.socket = self.stack.connect_tcp(Endpoint(PEER, PEER_PORT), now=self.now)
        (syn,) = self.collect()
        self.port, self.iss = syn.source_port, syn.sequence
        assert syn.flags == SYN
        return self

    def establish(self) -> Script:
        self.connect()
        (ack,) = self.send(SYN | ACK, at=-1, options=self.options)
        assert ack.flags == ACK
        return self

    def receive_syn(self) -> Script:
        self.listener = self.stack.listen_tcp(80)
        (answer,) = self.send(SYN, at=-1, options=self.options)
        assert answer.flags == SYN | ACK
        self.iss = answer.sequence
        self.socket = next(iter(self.stack._table.connections.values()))
        return self

    def fin_wait_1(self) -> Script:
        self.establish().tcp.shutdown()
        assert [s.flags for s in self.collect()] == [FIN | ACK]
        return self

    def fin_wait_2(self) -> Script:
        self.fin_wait_1().send(ACK, ack=1)
        return self

    def close_wait(self) -> Script:
        self.establish().send(FIN | ACK)
        self.sent += 1
        return self

    def closing(self) -> Script:
        self.fin_wait_1().send(FIN | ACK)
        self.sent += 1
        return self

    def last_ack(self) -> Script:
        self.close_wait().tcp.shutdown()
        self.collect()
        return self

    def time_wait(self) -> Script:
        self.fin_wait_2().send(FIN | ACK, ack=1)
        self.sent += 1
        return self


REACH: dict[State, Callable[[], Script]] = {
    State.SYN_SENT: lambda: Script().connect(),
    State.SYN_RECEIVED: lambda: Script().receive_syn(),
    State.ESTABLISHED: lambda: Script().establish(),
    State.FIN_WAIT_1: lambda: Script().fin_wait_1(),
    State.FIN_WAIT_2: lambda: Script().fin_wait_2(),
    State.CLOSE_WAIT: lambda: Script().close_wait(),
    State.CLOSING: lambda: Script().closing(),
    State.LAST_ACK: lambda: Script().last_ack(),
    State.TIME_WAIT: lambda: Script().time_wait(),
}
SYNCHRONIZED = [state for state in REACH if state not in (State.SYN_SENT, State.SYN_RECEIVED)]
FIN_OUT = {State.FIN_WAIT_1: 0, State.FIN_WAIT_2: 1, State.CLOSING: 0, State.LAST_ACK: 0, State.TIME_WAIT: 1}


@pytest.mark.parametrize("state", REACH)
def test_every_state_is_reached(state: State) -> None:
    script = REACH[state]()
    assert script.tcp.state is state
    assert script.tcp.error is None


# Every state × every kind of segment: state afterwards, flags of the answer (None: no answer)
E, SS, SR, F1, F2 = State.ESTABLISHED, State.SYN_SENT, State.SYN_RECEIVED, State.FIN_WAIT_1, State.FIN_WAIT_2
CW, CL, LA, TW, C = State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT, State.CLOSED


@dataclass(frozen=True)
class Kind:
    flags: TcpFlag
    at: int = 0
    ack: int = 0
    payload: bytes = b""


KINDS = {
    "syn": Kind(SYN, 5),
    "ack": Kind(ACK),
    "ack beyond": Kind(ACK, ack=5000),
    "fin": Kind(FIN | ACK),
    "rst exact": Kind(RST),
    "rst in window": Kind(RST, 7),
    "rst outside": Kind(RST, 1 << 30),
    "data": Kind(ACK, payload=b"data"),
    "data old": Kind(ACK, -4, payload=b"data"),
    "data ahead": Kind(ACK, 4, payload=b"data"),
    "data beyond": Kind(ACK, 1 << 30, payload=b"data"),
    "no flags": Kind(TcpFlag(0)),
}
TABLE: dict[State, dict[str, tuple[State, TcpFlag | None]]] = {
    SS: {
        "syn": (SR, SYN | ACK),
        "ack": (SS, RST),  # of what we did not send: see "ack exact" below
        "ack beyond": (SS, RST),
        "fin": (SS, RST),
        "rst exact": (SS, None),
        "rst in window": (SS, None),
        "rst outside": (SS, None),
        "data": (SS, RST),
        "data old": (SS, RST),
        "data ahead": (SS, RST),
        "data beyond": (SS, RST),
        "no flags": (SS, None),
    },
    SR: {
        "syn": (SR, ACK),
        "ack": (E, None),
        "ack beyond": (SR, RST),
        "fin": (CW, ACK),
        "rst exact": (C, None),
        "rst in window": (SR, ACK),
        "rst outside": (SR, None),
        "data": (E, None),
        "data old": (SR, ACK),
        "data ahead": (E, ACK),
        "data beyond": (SR, ACK),
        "no flags": (SR, None),
    },
}
_ORDINARY: dict[str, tuple[State | None, TcpFlag | None]] = {
    "syn": (None, ACK),
    "ack": (None, None),
    "ack beyond": (None, ACK),
    "rst exact": (C, None),
    "rst in window": (None, ACK),
    "rst outside": (None, None),
    "data old": (None, ACK),
    "data beyond": (None, ACK),
    "no flags": (None, None),
}
for _state, _fin, _data, _ahead in (
    (E, (CW, ACK), (E, None), (E, ACK)),
    (F1, (CL, ACK), (F1, None), (F1, ACK)),
    (F2, (TW, ACK), (F2, None), (F2, ACK)),
    (CW, (CW, None), (CW, ACK), (CW, ACK)),
    (CL, (CL, None), (CL, ACK), (CL, ACK)),
    (LA, (LA, None), (LA, ACK), (LA, ACK)),
    (TW, (TW, None), (TW, ACK), (TW, ACK)),
):
    TABLE[_state] = {kind: (after or _state, answer) for kind, (after, answer) in _ORDINARY.items()}
    TABLE[_state] |= {"fin": _fin, "data": _data, "data ahead": _ahead}
TABLE[TW]["rst exact"] = (TW, None)  # RFC 1337
TABLE[TW]["syn"] = (C, RST | ACK)  # newer, so TIME-WAIT is over (RFC 6191), and nobody listens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", REACH)
def test_each_state_answers_each_segment_as_the_standard_says(state: State, kind: str) -> None:
    script = REACH[state]()
    sent = KINDS[kind]
    # In SYN-SENT the peer acknowledges what we never sent; later, all that we sent, a FIN included.
    ack = sent.ack or (900 if state is SS else FIN_OUT.get(state, 0))
    answers = script.send(sent.flags, at=sent.at, ack=ack, payload=sent.payload)
    after, flags = TABLE[state][kind]
    assert script.tcp.state is after
    assert [answer.flags for answer in answers if not answer.flags & FIN] == ([] if flags is None else [flags])
    if flags == ACK:
        assert answers[0].acknowledgment == script.tcp.rcv_nxt % 2**32


# Opening


def test_a_syn_offers_segment_size_window_scale_and_sack() -> None:
    script = Script()
    script.stack.connect_tcp(Endpoint(PEER, 80), now=0.0)
    (syn,) = script.collect()
    assert syn.options == TcpOptions(1240, 7, True)
    assert syn.window == 65535  # never scaled in a SYN


def test_a_connection_without_options_uses_the_default_segment_size_and_no_scale() -> None:
    script = Script(options=NO_OPTIONS).establish()
    script.tcp.write(bytes(5000))
    segments = script.collect()
    assert {len(segment.payload) for segment in segments[:-1]} == {536}
    assert script.tcp.snd_wnd == 0xFFFF  # the SYN's window, and scale 0
    assert segments[0].window == 65535


def test_a_tiny_segment_size_is_raised_and_a_huge_one_cut() -> None:
    for announced, used in ((0, 88), (9000, 1240), (1000, 1000)):
        script = Script(options=TcpOptions(announced, 7, True)).establish()
        assert script.tcp.segment_bytes == used


def test_a_refused_connection_says_so() -> None:
    script = Script().connect()
    script.send(RST | ACK, at=-1)
    assert script.tcp.state is C
    assert script.tcp.error is SocketError.REFUSED
    assert script.tcp.at_eof


def test_a_syn_is_repeated_with_backoff_and_given_up() -> None:
    script = Script().connect()
    repeats = script.wait(200)
    assert [segment.flags for segment in repeats] == [SYN] * 6
    assert script.tcp.error is SocketError.TIMED_OUT


def test_simultaneous_open_establishes_the_connection() -> None:
    script = Script().connect()
    (answer,) = script.send(SYN, at=-1, options=script.options)
    assert answer.flags == SYN | ACK
    assert script.tcp.state is SR
    script.send(SYN | ACK, at=-1, options=script.options)
    assert script.tcp.state is E


def test_a_repeated_syn_gets_the_same_answer() -> None:
    script = Script().receive_syn()
    (again,) = script.send(SYN, at=-1, options=script.options)
    assert (again.flags, again.sequence) == (SYN | ACK, script.iss)


def test_a_half_open_connection_is_forgotten_after_a_while() -> None:
    script = Script().receive_syn()
    script.wait(60)
    assert script.tcp.state is C
    assert script.stack._table.half_open == 0


def test_a_full_backlog_drops_syns_and_recovers() -> None:
    stack = make_stack(US, 1)
    listener = stack.listen_tcp(80, backlog=2)
    for port in range(1, 5):
        segment = TcpSegment(port, 80, 7, flags=SYN).encode(PEER, US)
        stack.receive(Train.of(build_packet(PEER, US, Protocol.TCP, segment)), now=0.0)
    assert len(stack.collect(now=0.0).to_network) == 2
    assert stack.drops[DropReason.BACKLOG_FULL] == 2
    listener.close()
    assert not stack._table.connections


def test_an_accepted_connection_and_its_listener_become_ready() -> None:
    script = Script().receive_syn()
    script.stack.receive(_packet(script, ACK), now=script.now)
    assert script.listener in script.stack.collect(now=script.now).ready
    assert script.listener is not None
    assert script.listener.accept() is script.socket
    assert script.listener.accept() is None


def _packet(script: Script, flags: TcpFlag, at: int = 0) -> Train:
    segment = TcpSegment(PEER_PORT, script.port, (PEER_ISS + script.sent + at) % 2**32, script.iss + 1, flags, 1000)
    return Train.of(build_packet(PEER, US, Protocol.TCP, segment.encode(PEER, US)))


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN, TcpFlag(0), SYN])
def test_a_segment_for_nobody_is_reset(flags: TcpFlag) -> None:
    script = Script()
    (answer,) = script.send(flags, payload=b"abc")
    assert answer.flags & RST
    if flags & ACK:
        assert answer.sequence == 1
    else:
        used = 3 + bool(flags & SYN) + bool(flags & FIN)
        assert answer.acknowledgment == (PEER_ISS + 1 + used) % 2**32


def test_a_reset_for_nobody_is_not_answered() -> None:
    assert Script().send(RST) == []


# Blind attackers, RFC 5961


def test_challenges_are_limited_per_connection() -> None:
    script = Script().establish()
    assert len(script.send(SYN, at=9)) == 1
    assert script.send(SYN, at=9) == []
    script.now += 0.6
    assert len(script.send(RST, at=9)) == 1


def test_an_acknowledgment_too_old_or_too_new_is_challenged() -> None:
    script = Script().establish()
    assert [s.flags for s in script.send(ACK, ack=1)] == [ACK]
    script.now += 1
    assert [s.flags for s in script.send(ACK, ack=-(1 << 28))] == [ACK]
    assert script.stack.drops[DropReason.UNACCEPTABLE] == 2


# Data


def test_data_is_acknowledged_late_and_every_second_segment() -> None:
    script = Script().establish()
    assert script.send(ACK, payload=bytes(1240)) == []
    script.sent += 1240
    (ack,) = script.send(ACK, payload=bytes(1240))
    assert ack.acknowledgment == (PEER_ISS + script.sent + 1240) % 2**32
    script.sent += 1240
    assert script.send(ACK, payload=b"x") == []
    (late,) = script.wait(0.05)
    assert late.flags == ACK


def test_out_of_order_data_is_reported_and_the_hole_filled() -> None:
    script = Script().establish()
    (report,) = script.send(ACK, at=100, payload=bytes(50))
    start = (PEER_ISS + 1 + 100) % 2**32
    assert report.options.sack_blocks == ((start, start + 50),)
    assert script.tcp.readable_bytes == 0
    (ack,) = script.send(ACK, payload=bytes(100))
    assert ack.acknowledgment == start + 50
    assert ack.options == NO_OPTIONS
    assert script.tcp.readable_bytes == 150


def test_a_fin_out_of_order_waits_for_the_data_before_it() -> None:
    script = Script().establish()
    script.send(FIN | ACK, at=4, payload=b"late")
    assert script.tcp.state is E
    script.send(ACK, payload=b"data")
    assert script.tcp.state is CW
    assert script.tcp.read(100) == b"datalate"
    assert script.tcp.at_eof


def test_data_beyond_the_window_is_cut() -> None:
    script = Script().establish()
    for offset in range(0, 66000, 1200):
        script.send(ACK, at=offset, payload=bytes(1200))
    assert script.tcp.readable_bytes == 65536


def test_a_full_buffer_closes_the_window_and_reading_opens_it() -> None:
    script = Script().establish()
    for offset in range(0, 66000, 1200):
        script.send(ACK, at=offset, payload=bytes(1200))
    answers = script.wait(0.1)
    assert answers[-1].window == 0
    script.sent += 65536
    (probe_answer,) = script.send(ACK, payload=b"?")
    assert probe_answer.window == 0
    script.tcp.consume(1000)
    assert script.collect() == []  # not worth telling: silly window avoidance
    script.tcp.consume(64000)
    (update,) = script.collect()
    assert update.window >= 64000 >> 7


def test_a_reset_counts_even_at_a_closed_window() -> None:
    script = Script().establish()
    for offset in range(0, 66000, 1200):
        script.send(ACK, at=offset, payload=bytes(1200))
    script.sent += 65536
    script.send(RST)
    assert script.tcp.error is SocketError.RESET
    assert script.tcp.readable_bytes == 65536  # what arrived may still be read
    script.tcp.read(1 << 20)
    assert script.tcp.at_eof
    assert script.stack.snapshot().buffer_bytes == 0


def test_urgent_data_is_read_inline() -> None:
    script = Script().establish()
    script.send(ACK | TcpFlag.URG, payload=b"urgent")
    assert script.tcp.read(100) == b"urgent"


def test_bad_checksums_are_counted_and_dropped() -> None:
    script = Script().establish()
    packet = bytearray(_packet(script, RST).data)
    packet[-1] ^= 1
    script.stack.receive(Train.of(bytes(packet)), now=script.now)
    assert script.stack.drops[DropReason.BAD_CHECKSUM] == 1
    assert script.tcp.state is E


# Sending


def acknowledged(segments: list[TcpSegment]) -> int:
    return sum(len(segment.payload) for segment in segments)


def test_the_window_is_obeyed_and_half_windows_are_worth_sending() -> None:
    script = Script().establish()
    script.send(ACK, window=3)  # 384 bytes
    script.tcp.write(bytes(5000))
    assert acknowledged(script.collect()) == 0  # below half of the largest window seen: wait
    (sent,) = script.wait(1.5)[:1]  # the persist timer overrides
    assert len(sent.payload) == 384


def test_a_closed_window_is_probed_until_it_opens() -> None:
    script = Script().establish()
    script.send(ACK, window=0)
    script.tcp.write(b"data")
    assert script.collect() == []
    script.wait(3)
    for _ in range(40):  # far longer than any retry limit
        assert script.wait(60) != []
        script.send(ACK, window=0)
    assert script.tcp.state is E
    (sent,) = script.send(ACK, window=1000)
    assert sent.payload == b"data"


def test_a_lost_segment_is_sent_again_after_three_duplicates() -> None:
    script = Script(options=TcpOptions(1240, 7, False)).establish()
    script.tcp.write(bytes(1240 * 8))
    assert len(script.collect()) == 8
    assert script.send(ACK) == []  # changes the window: no duplicate
    assert script.send(ACK) == []
    assert script.send(ACK) == []
    (again,) = script.send(ACK)
    assert again.sequence == script.iss + 1


def test_selective_acknowledgements_show_what_was_lost() -> None:
    script = Script().establish()
    script.tcp.write(bytes(1240 * 10))
    script.collect()
    base = script.iss + 1
    report = TcpOptions(sack_blocks=((base + 1240 * 3, base + 1240 * 6),))
    again = script.send(ACK, ack=1240, options=report)
    assert {segment.sequence for segment in again} == {base + 1240, base + 1240 * 2}


def test_blocks_that_make_no_sense_are_ignored() -> None:
    script = Script().establish()
    script.tcp.write(bytes(1240 * 4))
    script.collect()
    for block in ((0, 5), (script.iss + 1, script.iss + 1 + 10**6), (script.iss + 900, script.iss + 100)):
        assert script.send(ACK, options=TcpOptions(sack_blocks=(block,))) == []
    assert script.tcp.recovery.sacked == []


def test_a_timeout_sends_again_with_backoff_and_finally_gives_up() -> None:
    script = Script().establish()
    script.tcp.write(b"data")
    script.collect()
    again = script.wait(2000)
    assert {segment.payload for segment in again} == {b"data"}
    assert len(again) >= 15
    assert script.tcp.error is SocketError.TIMED_OUT
    assert script.tcp.state is C


def test_the_tail_of_a_flight_is_probed_before_the_timeout() -> None:
    script = Script()
    script.connect()
    script.now += 0.02
    script.send(SYN | ACK, at=-1, options=script.options)
    script.tcp.write(bytes(1240 * 3))
    script.collect()
    (probe,) = script.wait(0.1)
    assert probe.sequence == script.iss + 1 + 1240 * 2


def test_optimistic_acknowledgements_do_not_open_the_window() -> None:
    script = Script().establish()
    script.tcp.write(bytes(50_000))
    script.collect()
    before = script.tcp.congestion.window
    script.send(ACK, ack=40_000_000)
    assert script.tcp.congestion.window == before
    assert script.tcp.snd_una == script.iss + 1


def test_the_last_segment_is_pushed_and_carries_the_fin() -> None:
    script = Script().establish()
    script.tcp.write(bytes(3000))
    script.tcp.shutdown()
    segments = script.collect()
    assert [segment.flags for segment in segments] == [ACK, ACK, ACK | PSH | FIN]


# Ending


def test_half_closed_connections_go_on_in_the_other_direction() -> None:
    script = Script().close_wait()
    script.tcp.write(b"still here")
    (data,) = script.collect()
    assert data.payload == b"still here"
    script.tcp.shutdown()
    (fin,) = script.collect()
    assert fin.flags & FIN


def test_time_wait_ends_after_two_lifetimes_and_answers_a_repeated_fin() -> None:
    script = Script().time_wait()
    script.wait(50)
    (again,) = script.send(FIN | ACK, at=-1, ack=1)
    assert again.flags == ACK
    script.wait(50)
    assert script.tcp.state is TW
    script.wait(11)
    assert script.tcp.state is C
    assert script.stack.next_deadline() is None


def test_a_newer_syn_ends_time_wait_early() -> None:
    script = Script().time_wait()
    script.stack.listen_tcp(script.port)
    (answer,) = script.send(SYN, at=1000, options=script.options)
    assert answer.flags == SYN | ACK


def test_abort_sends_a_reset_and_forgets() -> None:
    script = Script().establish()
    script.tcp.write(bytes(5000))
    script.tcp.abort()
    (reset,) = script.collect()
    assert reset.flags & RST
    assert script.tcp.error is SocketError.ABORTED
    assert not script.stack._table.connections
    assert script.stack.snapshot().buffer_bytes == 0


def test_a_closed_socket_discards_a_bounded_amount() -> None:
    script = Script().establish()
    script.tcp.close()
    script.collect()
    script.send(ACK, ack=1)
    answers: list[TcpSegment] = []
    for _ in range(1000):
        answers = script.send(ACK, ack=1, payload=bytes(1240))
        script.sent += 1240
        if script.tcp.state is C:
            break
    assert answers
    assert answers[-1].flags & RST
    assert script.tcp.discarded > 1 << 20


def test_an_orphan_in_fin_wait_2_is_forgotten() -> None:
    script = Script().establish()
    script.tcp.close()
    script.collect()
    script.send(ACK, ack=1)
    assert script.tcp.state is F2
    script.wait(61)
    assert script.tcp.state is C


def test_keep_alive_is_off_unless_asked_for_and_then_ends_dead_connections() -> None:
    script = Script().establish()
    assert script.wait(100_000) == []
    script.tcp.keep_alive(idle_s=10, interval_s=5, probes=3)
    script.send(ACK)
    probes = script.wait(12)
    assert [(probe.sequence, probe.payload) for probe in probes] == [(script.iss, b"")]
    script.send(ACK)
    assert script.tcp.state is E
    script.wait(100)
    assert script.tcp.error is SocketError.TIMED_OUT


# Forwarding


def test_a_forwarded_syn_waits_for_the_word_and_repetitions_are_absorbed() -> None:
    script = Script()
    script.stack.set_forwarding(own_addresses=True, other_addresses=True)
    packet = TcpSegment(PEER_PORT, 80, 7, flags=SYN, options=script.options).encode(PEER, US)
    train = Train.of(build_packet(PEER, US, Protocol.TCP, packet))
    pending: list[object] = []
    for _ in range(3):
        script.stack.receive(train, now=1.0)
        effects = script.stack.collect(now=1.0)
        assert effects.to_network == ()
        pending += effects.events
    assert len(pending) == 1
    assert isinstance(pending[0], PendingConnection)
    socket = pending[0].accept(now=2.0)
    (answer,) = script.collect()
    assert answer.flags == SYN | ACK
    assert socket.state is SR
    assert not pending[0].is_open


def test_a_refused_forward_is_reset_and_a_withdrawn_one_closes() -> None:
    script = Script()
    script.stack.set_forwarding(own_addresses=True, other_addresses=False)
    pending = _pending(script)
    pending.refuse(now=1.0)
    (reset,) = script.collect()
    assert reset.flags == RST | ACK
    pending = _pending(script)
    script.send(RST)
    assert not pending.is_open
    assert script.stack._table.half_open == 0


def test_a_forgotten_forward_expires() -> None:
    script = Script()
    script.stack.set_forwarding(own_addresses=True, other_addresses=False)
    pending = _pending(script)
    script.wait(61)
    assert not pending.is_open
    assert script.stack.snapshot().pending_connections == 0


def _pending(script: Script) -> PendingConnection:
    segment = TcpSegment(PEER_PORT, script.port, PEER_ISS, flags=SYN, options=script.options).encode(PEER, US)
    script.stack.receive(Train.of(build_packet(PEER, US, Protocol.TCP, segment)), now=script.now)
    (event,) = script.stack.collect(now=script.now).events
    assert isinstance(event, PendingConnection)
    return event
