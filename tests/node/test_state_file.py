"""The state file: durable, private, locked, and never overwritten by mistake."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.x25519 import generate
from tailbox.errors import ConfigError, Malformed
from tailbox.node.state_file import (
    MemoryState,
    NodeState,
    StateFile,
    decode_state,
    encode_state,
    logged_out,
    open_state,
)
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import MachinePrivateKey, NodePrivateKey

RANDOM = SeededRandom("state")
STATE = NodeState(
    machine_key=generate(MachinePrivateKey, RANDOM),
    node_key=generate(NodePrivateKey, RANDOM),
    old_node_key=generate(NodePrivateKey, RANDOM),
    login_server="http://127.0.0.1:8080",
    hostname="alpha",
    tailnet="example.net",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "tailscaled.state"


def written(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    store = StateFile.open(path)
    before = path.read_bytes() if path.is_file() else b""
    try:
        with pytest.raises(ConfigError) as caught:
            store.load()
    finally:
        store.close()
    assert not path.is_file() or path.read_bytes() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_saved_is_loaded(path: Path) -> None:
    store = StateFile.open(path)
    assert store.load() is None
    store.save(STATE)
    store.save(replace(STATE, hostname="beta"))
    loaded = store.load()
    store.close()
    assert loaded is not None
    assert loaded.hostname == "beta"
    assert (loaded.machine_key, loaded.node_key, loaded.old_node_key) == (
        STATE.machine_key, STATE.node_key, STATE.old_node_key,
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.glob("*.new")] == []


def test_the_file_is_the_official_daemons(path: Path) -> None:
    store = StateFile.open(path)
    store.save(STATE)
    store.close()
    found = json.loads(path.read_bytes())
    assert set(found) >= {"_machinekey", "_current-profile", "_profiles"}
    # Written by tailscaled 1.x: a profile with preferences that we do not know.
    assert decode_state(path.read_bytes()).login_server == "http://127.0.0.1:8080"


def test_entries_and_preferences_that_are_not_ours_survive() -> None:
    strange = replace(STATE, extra={"_serve/1": b"{}"}, prefs={"ExitNodeID": "x"})
    again = decode_state(encode_state(strange))
    assert again.extra["_serve/1"] == b"{}"
    assert again.prefs["ExitNodeID"] == "x"


def test_logging_out_leaves_the_machine_key() -> None:
    again = decode_state(encode_state(logged_out(STATE)))
    assert again.node_key is None
    assert again.logged_out
    assert again.machine_key == STATE.machine_key


def test_a_second_process_is_kept_out(path: Path) -> None:
    store = StateFile.open(path)
    with pytest.raises(ConfigError, match="in use by another node"):
        StateFile.open(path)
    store.close()
    StateFile.open(path).close()


def test_every_cut_is_refused(path: Path) -> None:
    data = encode_state(STATE)
    for length in range(1, len(data.rstrip()) - 1, 7):
        with pytest.raises(Malformed):
            decode_state(data[:length])
    assert "cut short" in refusal(written(path, data[: len(data) // 2]))


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_state(data)


@given(found=st.dictionaries(st.text(max_size=12), st.one_of(st.text(max_size=12), st.integers(), st.none())))
def test_random_objects_are_refused(found: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode_state(json.dumps(found).encode())


def test_a_newer_schema_is_refused(path: Path) -> None:
    found = json.loads(encode_state(STATE))
    found["_tailbox-schema"] = "OTk="  # 99
    assert "newer version" in refusal(written(path, json.dumps(found).encode()))


def test_a_file_that_others_may_read_is_refused(path: Path) -> None:
    assert "0644" in refusal(written(path, encode_state(STATE), mode=0o644))


def test_a_link_or_a_directory_is_refused(path: Path, tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "elsewhere", encode_state(STATE))
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    refusal(path)
    path.unlink()
    path.mkdir()
    refusal(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_somebody_elses_file_is_refused(path: Path) -> None:
    written(path, encode_state(STATE))
    os.chown(path, 12345, 12345)
    assert "owned by user 12345" in refusal(path)


def test_an_empty_file_is_a_new_node(path: Path) -> None:
    store = StateFile.open(written(path, b""))
    assert store.load() is None
    store.close()


def test_memory_keeps_nothing_on_disk() -> None:
    store = open_state(None)
    assert isinstance(store, MemoryState)
    store.save(STATE)
    assert store.load() is STATE
    store.close()


def test_keys_do_not_show() -> None:
    assert STATE.machine_key.raw.hex() not in repr(STATE)
    assert "privkey" not in repr(STATE)
