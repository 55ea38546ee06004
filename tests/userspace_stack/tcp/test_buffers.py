"""Both ring buffers against obviously correct models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.userspace_stack.memory_budget import MemoryBudget
from tailbox.userspace_stack.tcp.receive_buffer import ReceiveBuffer
from tailbox.userspace_stack.tcp.send_buffer import SendBuffer

STREAM = np.random.default_rng(7).bytes(4096)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("store"), st.integers(0, 80), st.integers(1, 60)),
            st.tuples(st.just("rows"), st.integers(0, 80), st.integers(1, 60)),
            st.tuples(st.just("consume"), st.integers(0, 99), st.just(0)),
            st.tuples(st.just("grow"), st.integers(64, 200), st.just(0)),
        ),
        max_size=80,
    )
)
def test_reassembly_equals_a_bitmap(actions: list[tuple[str, int, int]]) -> None:
    budget = MemoryBudget(1 << 20)
    buffer = ReceiveBuffer(64, 160, budget)
    present = bytearray(len(STREAM))  # the model: which bytes of the stream have arrived
    consumed, end = 0, 0
    for kind, first, second in actions:
        if kind in ("store", "rows"):
            size = min(second, buffer.window - first)
            if size < 1 or end + first + size > len(STREAM):
                continue
            piece = STREAM[end + first : end + first + size]
            rows = np.frombuffer(piece, np.uint8).reshape(1, size) if kind == "rows" else None
            gained = buffer.store(first, None if rows is not None else memoryview(piece), rows, size)
            present[end + first : end + first + size] = b"\1" * size
            before = end
            while end < len(STREAM) and present[end]:
                end += 1
            assert gained == end - before
        elif kind == "consume":
            count = min(first, buffer.readable)
            buffer.consume(count)
            consumed += count
        else:
            buffer.grow(first)
        assert b"".join(buffer.views()) == STREAM[consumed:end]
        assert buffer.end == end
        assert buffer.window == buffer.capacity - (end - consumed)
        islands = {p for s, e in buffer.islands for p in range(s, e)}
        assert islands == {p for p in range(end, len(STREAM)) if present[p]}
        assert all(a[1] < b[0] for a, b in zip(buffer.islands, buffer.islands[1:], strict=False))
    buffer.drop()
    assert budget.used_bytes == 0


def test_selective_blocks_begin_with_the_latest_island() -> None:
    buffer = ReceiveBuffer(1000, 1000, MemoryBudget(1 << 20))
    for ahead in (100, 300, 500, 700, 310):
        buffer.store(ahead, memoryview(b"x" * 10), None, 10)
    assert buffer.selective_blocks(3) == [(300, 320), (100, 110), (500, 510)]


def test_islands_are_bounded() -> None:
    buffer = ReceiveBuffer(1000, 1000, MemoryBudget(1 << 20), max_islands=4)
    for ahead in range(2, 100, 2):
        buffer.store(ahead, memoryview(b"x"), None, 1)
    assert len(buffer.islands) == 4
    assert buffer.store(0, memoryview(b"xx"), None, 2) == 3
    assert buffer.readable == 3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "commit", "release", "grow", "view"]), st.integers(0, 200)), max_size=80
    )
)
def test_the_send_buffer_is_a_queue_of_bytes(actions: list[tuple[str, int]]) -> None:
    budget = MemoryBudget(1 << 20)
    buffer = SendBuffer(64, 160, budget)
    model = b""
    written = 0
    for kind, number in actions:
        if kind == "write":
            data = STREAM[written % 1000 :][:number]
            count = buffer.write(data)
            assert count == min(number, buffer.capacity - len(model))
            model += data[:count]
            written += count
        elif kind == "commit":
            view = buffer.free_view()
            count = min(number, len(view))
            data = STREAM[written % 1000 :][:count]
            view[:count] = data
            buffer.commit(count)
            model += data
            written += count
        elif kind == "release":
            count = min(number, len(model))
            buffer.release(count)
            model = model[count:]
        elif kind == "grow":
            buffer.grow(number)
        assert buffer.stored == len(model)
        assert buffer.free == buffer.capacity - len(model)
        offset = min(number, len(model))
        assert buffer.view(offset, len(model) - offset) == model[offset:]
        assert bool(len(buffer.free_view())) == bool(buffer.free)
    buffer.drop()
    assert budget.used_bytes == 0


def test_storage_comes_with_the_first_byte() -> None:
    budget = MemoryBudget(1 << 20)
    SendBuffer(1 << 16, 1 << 20, budget)
    ReceiveBuffer(1 << 16, 1 << 20, budget)
    assert budget.used_bytes == 0


def test_the_budget_stops_growth_and_then_new_flows() -> None:
    budget = MemoryBudget(1000)
    buffer = SendBuffer(400, 4000, budget)
    buffer.write(b"x")
    assert buffer.grow(700)
    assert not buffer.grow(800)
    assert buffer.capacity == 700
    assert budget.allows_new_flows
    budget.take(200)
    assert not budget.allows_new_flows


def test_calls_out_of_range_are_our_own_mistakes() -> None:
    budget = MemoryBudget(1 << 20)
    with pytest.raises(ValueError, match="committed"):
        SendBuffer(10, 10, budget).commit(11)
    with pytest.raises(ValueError, match="consumed"):
        ReceiveBuffer(10, 10, budget).consume(1)
