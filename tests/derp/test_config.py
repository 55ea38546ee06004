"""Settings are checked before anything starts; the key file is made once."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tailbox.derp.config import DerpConfig, load_or_create_key
from tailbox.errors import ConfigError
from tailbox.randomness import SeededRandom


@pytest.mark.parametrize(("name", "value"), [
    ("stun_port", 70000), ("stun_port", -2), ("data_queue_packets", 0), ("max_connections", 0), ("keep_alive_s", 0.0),
    ("queue_bytes", 1000), ("home_page", "ftp://x"), ("verify_client_url", "coord.test"), ("write_timeout_s", -1.0),
])  # fmt: skip
def test_unusable_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        DerpConfig(**{name: value})


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "relay" / "derper.key"
    key = load_or_create_key(path, random=SeededRandom(1))
    assert load_or_create_key(path, random=SeededRandom(2)) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"PrivateKey": key.reveal()}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"PrivateKey":1}', '{"PrivateKey":"privkey:00"}', "\udcff"])
def test_a_damaged_key_file_is_reported_without_its_content_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "derper.key"
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="relay key file") as caught:
        load_or_create_key(path, random=SeededRandom(1))
    assert "privkey" not in str(caught.value)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "derper.key"
    load_or_create_key(path, random=SeededRandom(1))
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        load_or_create_key(path, random=SeededRandom(1))


def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        load_or_create_key(tmp_path / "file" / "derper.key", random=SeededRandom(1))
