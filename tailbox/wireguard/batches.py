"""Sealing and opening whole trains: the bulk path, and the packet-by-packet form that says what it must equal.

From a few packets up, headers are read and written by numpy as a matrix with a row a packet, the AEAD goes straight
from one contiguous buffer to another, and the loop over packets runs inside `map`. Below that the setup costs more
than it saves. Figures: bench/wireguard.py.

```text
plain   |  row 0  |  row 1  | …        stride 16·k
sealed  |type index counter| row 0 |tag|type index counter| row 1 |tag| …       stride 16·k + 32
```
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tailbox.wire.train import LONGEST_TRAIN_BYTES, LONGEST_TRAIN_PACKETS, MAX_TRAIN_BYTES, Train
from tailbox.wire.wireguard import (
    TRANSPORT_HEADER,
    TRANSPORT_HEADER_BYTES,
    TRANSPORT_OVERHEAD_BYTES,
    MessageType,
    padded_length,
)
from tailbox.wireguard.replay_window import ReplayWindow

SEAL_AS_MATRIX_FROM = 3  # packets; measured
OPEN_AS_MATRIX_FROM = 8  # packets; measured
MAX_LAYOUTS = 16  # ours: strides whose slices are kept ready

FORGED = -1  # in place of a plaintext's length

pack_nonce = struct.Struct("<4xQ").pack  # paper §5.4.6: four zero bytes, then the counter
read_header = struct.Struct("<QQ").unpack_from  # type and receiver index as one word, then the counter


class _Layout:
    """Ready-made slices for trains of one sealed stride, over a workspace."""

    __slots__ = ("plain", "plain_stride", "sealed_bodies", "stride")

    def __init__(self, stride: int) -> None:
        rows = _rows_of(stride)
        self.stride = stride
        self.plain_stride = stride - TRANSPORT_OVERHEAD_BYTES
        starts = range(0, rows * stride, stride)
        self.sealed_bodies = [slice(start + TRANSPORT_HEADER_BYTES, start + stride) for start in starts]
        self.plain = [slice(row * self.plain_stride, (row + 1) * self.plain_stride) for row in range(rows)]


def sealed_length(plain: int) -> int:
    """What a packet of so many bytes takes on the wire."""
    return padded_length(plain) + TRANSPORT_OVERHEAD_BYTES


def _rows_of(sealed_stride: int) -> int:
    """How many packets of so many sealed bytes the workspaces hold."""
    return min(LONGEST_TRAIN_PACKETS, LONGEST_TRAIN_BYTES // sealed_stride)


def sealable_parts(train: Train) -> tuple[Train, ...]:
    """The train, cut where a sealer's buffer ends; nothing if a single packet does not fit a datagram."""
    stride = sealed_length(train.stride)
    if stride > MAX_TRAIN_BYTES:
        return ()
    most = _rows_of(stride)
    if len(train) <= most:
        return (train,)
    data, step = memoryview(train.data), most * train.stride
    return tuple(
        Train(data[start : start + step], min(train.stride, len(data) - start)) for start in range(0, len(data), step)
    )


def seal_packets(cipher: ChaCha20Poly1305, remote_index: int, counter: int, train: Train) -> Train:
    """The train sealed packet by packet, on a buffer of its own. Source: paper §5.4.6."""
    pieces = []
    for packet in train if train.data else (b"",):
        padded = bytes(packet).ljust(padded_length(len(packet)), b"\0")
        pieces.append(TRANSPORT_HEADER.pack(MessageType.TRANSPORT_DATA, remote_index, counter))
        pieces.append(cipher.encrypt(pack_nonce(counter), padded, None))
        counter += 1
    return Train(b"".join(pieces), len(pieces[0]) + len(pieces[1]))


class TrainSealer:
    """Seals trains into one buffer, which the next call overwrites."""

    def __init__(self) -> None:
        self._sealed = memoryview(bytearray(LONGEST_TRAIN_BYTES))
        self._padded = memoryview(bytearray(LONGEST_TRAIN_BYTES))
        self._ordinals = np.arange(LONGEST_TRAIN_PACKETS, dtype="<u8")
        self._layouts: dict[int, tuple[_Layout, list[memoryview], npt.NDArray[np.uint64]]] = {}

    def seal(self, cipher: ChaCha20Poly1305, remote_index: int, counter: int, train: Train) -> Train:
        """`train` must be one of `sealable_parts`, and uses as many counters as it has packets."""
        count = len(train)
        if count < SEAL_AS_MATRIX_FROM:
            return seal_packets(cipher, remote_index, counter, train)
        stride = sealed_length(train.stride)
        layout, bodies, words = self._layouts.get(stride) or self._lay_out(stride)
        words[:count, 0] = MessageType.TRANSPORT_DATA | remote_index << 32
        np.add(self._ordinals[:count], np.uint64(counter), out=words[:count, 1])
        plain = self._padded_rows(train, count, layout)
        last_plain = plain[-1]
        full = layout.plain_stride == len(last_plain)
        rows = count if full else count - 1
        nonces = map(pack_nonce, range(counter, counter + rows))
        for _ in map(cipher.encrypt_into, nonces, plain, repeat(None), bodies[:rows]):
            pass
        length = count * stride
        if not full:
            body = bodies[rows][: len(last_plain) + TRANSPORT_OVERHEAD_BYTES - TRANSPORT_HEADER_BYTES]
            cipher.encrypt_into(pack_nonce(counter + rows), last_plain, None, body)
            length = rows * stride + TRANSPORT_HEADER_BYTES + len(body)
        return Train(self._sealed[:length], stride)

    def _padded_rows(self, train: Train, count: int, layout: _Layout) -> list[memoryview]:
        """The packets as views, each a multiple of 16 bytes long; copied only where padding is needed."""
        stride, padded_stride = train.stride, layout.plain_stride
        view = memoryview(train.data)
        last = len(view) - (count - 1) * stride
        last_padded = padded_length(last)
        if stride == padded_stride:
            rows = list(map(view.__getitem__, layout.plain[:count]))
        else:
            full = len(view) // stride
            matrix = np.frombuffer(self._padded, np.uint8, full * padded_stride).reshape(full, padded_stride)
            matrix[:, :stride] = np.frombuffer(view, np.uint8, full * stride).reshape(full, stride)
            matrix[:, stride:] = 0
            rows = list(map(self._padded.__getitem__, layout.plain[:count]))
        if last != padded_stride and last != stride:
            rows[-1] = memoryview(bytes(view[(count - 1) * stride :]).ljust(last_padded, b"\0"))
        return rows

    def _lay_out(self, stride: int) -> tuple[_Layout, list[memoryview], npt.NDArray[np.uint64]]:
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        layout = _Layout(stride)
        rows = len(layout.plain)
        words = np.frombuffer(self._sealed, "<u8", rows * stride // 8).reshape(rows, stride // 8)[:, :2]
        made = (layout, [self._sealed[body] for body in layout.sealed_bodies], words)
        self._layouts[stride] = made
        return made


def read_headers(train: Train) -> tuple[list[int], list[int]]:
    """First and second eight bytes of every packet as integers; packets too short to have them are left out."""
    data, stride = train.data, train.stride
    if stride < TRANSPORT_HEADER_BYTES:
        return [], []
    full = len(data) // stride
    if full < OPEN_AS_MATRIX_FROM:
        starts = range(0, len(data) - TRANSPORT_HEADER_BYTES + 1, stride)
        pairs = [read_header(data, start) for start in starts]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    heads: list[int]
    counters: list[int]
    if stride % 8 == 0:  # as sealed trains are: read in place
        words = np.frombuffer(data, "<u8", full * stride // 8)
        heads, counters = words[:: stride // 8].tolist(), words[1 :: stride // 8].tolist()
    else:
        matrix = np.frombuffer(data, np.uint8, full * stride).reshape(full, stride)
        heads, counters = matrix[:, :TRANSPORT_HEADER_BYTES].copy().view("<u8").T.tolist()
    if len(data) - full * stride >= TRANSPORT_HEADER_BYTES:
        head, counter = read_header(data, full * stride)
        heads.append(head)
        counters.append(counter)
    return heads, counters


class Opened:
    """What came of opening a run of packets of one session."""

    __slots__ = ("data_packets", "forged", "keepalives", "replayed", "trains")

    def __init__(self) -> None:
        self.trains: list[Train] = []
        self.data_packets = 0
        self.keepalives = 0
        self.forged = 0
        self.replayed = 0

    @property
    def authenticated(self) -> int:
        """How many packets were genuine and new."""
        return self.data_packets + self.keepalives

    def settle(self, window: ReplayWindow, counters: Sequence[int], lengths: list[int]) -> list[tuple[int, int]]:
        """Judge packets already decrypted; returns the spans of rows with data to pass on."""
        count = len(lengths)
        in_order = lengths[-1] > 0 and FORGED not in lengths and _are_consecutive(counters)
        if in_order and window.accept_run(counters[0], count):
            self.data_packets = count
            return [(0, count)]
        spans: list[tuple[int, int]] = []
        start = None
        for row, (counter, length) in enumerate(zip(counters, lengths, strict=True)):
            if self._passes(window, counter, length):
                start = row if start is None else start
            elif start is not None:
                spans.append((start, row))
                start = None
        if start is not None:
            spans.append((start, count))
        return spans

    def _passes(self, window: ReplayWindow, counter: int, length: int) -> bool:
        if length == FORGED:
            self.forged += 1
            return False
        if not window.accept(counter):
            self.replayed += 1
            return False
        self.data_packets += length > 0
        self.keepalives += length == 0
        return length > 0


def open_packets(
    cipher: ChaCha20Poly1305, window: ReplayWindow, packets: Sequence[memoryview], counters: Sequence[int]
) -> Opened:
    """The packets opened one by one, on buffers of their own. All are 32 bytes or more, equal but for the last."""
    plain: list[bytes | None] = []
    for packet, counter in zip(packets, counters, strict=True):
        try:
            plain.append(cipher.decrypt(pack_nonce(counter), packet[TRANSPORT_HEADER_BYTES:], None))
        except InvalidTag:
            plain.append(None)
    opened = Opened()
    lengths = [FORGED if packet is None else len(packet) for packet in plain]
    for start, stop in opened.settle(window, counters, lengths):
        rows = [packet for packet in plain[start:stop] if packet is not None]
        opened.trains.append(Train(rows[0] if len(rows) == 1 else b"".join(rows), len(rows[0])))
    return opened


class TrainOpener:
    """Opens trains into one buffer, which the next train overwrites."""

    def __init__(self) -> None:
        self._plain = memoryview(bytearray(LONGEST_TRAIN_BYTES))
        self._layouts: dict[int, tuple[_Layout, list[memoryview]]] = {}

    def open(
        self,
        cipher: ChaCha20Poly1305,
        window: ReplayWindow,
        train: Train,
        span: tuple[int, int],
        counters: Sequence[int],
    ) -> Opened:
        """Open rows `span` of a train, all of one session and at least 32 bytes long.

        Rows land where they belong in a train of plaintext, so several spans of one train do not disturb each other.
        """
        start, stop = span
        view, stride = memoryview(train.data), train.stride
        layout, plain_views = self._layouts.get(stride) or self._lay_out(stride)
        if stop - start < OPEN_AS_MATRIX_FROM or stop > len(plain_views) or not layout.plain_stride:
            packets = [view[row * stride : (row + 1) * stride] for row in range(start, stop)]
            return open_packets(cipher, window, packets, counters)
        plain = plain_views[start:stop]
        last = min(stride, len(view) - (stop - 1) * stride) - TRANSPORT_OVERHEAD_BYTES
        if last < layout.plain_stride:
            plain[-1] = plain[-1][:last]
        sealed = map(view.__getitem__, layout.sealed_bodies[start:stop])
        lengths = _decrypt_rows(cipher, map(pack_nonce, counters), sealed, plain)
        opened = Opened()
        for first, end in opened.settle(window, counters, lengths):
            begin = (start + first) * layout.plain_stride
            length = (end - first - 1) * layout.plain_stride + lengths[end - 1]
            opened.trains.append(Train(self._plain[begin : begin + length], min(layout.plain_stride, length)))
        return opened

    def _lay_out(self, stride: int) -> tuple[_Layout, list[memoryview]]:
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        layout = _Layout(stride)
        made = (layout, [self._plain[row] for row in layout.plain])
        self._layouts[stride] = made
        return made


def _decrypt_rows(
    cipher: ChaCha20Poly1305, nonces: Iterable[bytes], sealed: Iterable[memoryview], plain: Sequence[memoryview]
) -> list[int]:
    """Decrypt into the rows of `plain`; returns the length of each, FORGED where the tag is wrong.

    A forged packet ends `extend`, but what it had added stays, and the iterators stand behind the forged packet.
    """
    lengths: list[int] = []
    attempts = map(cipher.decrypt_into, nonces, sealed, repeat(None), plain)
    while len(lengths) < len(plain):
        try:
            lengths.extend(attempts)
        except InvalidTag:
            lengths.append(FORGED)
    return lengths


def _are_consecutive(counters: Sequence[int]) -> bool:
    first = counters[0]
    return counters[-1] - first == len(counters) - 1 and list(counters) == list(range(first, first + len(counters)))
