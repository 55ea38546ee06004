"""The coordinator's own secrets: made once, private, whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tailbox.coord.store.secret_files import NOISE_KEY_FILE, load_secrets
from tailbox.errors import ConfigError
from tailbox.randomness import SeededRandom


def test_secrets_are_made_once(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "state", random=SeededRandom(1))
    assert load_secrets(tmp_path / "state", random=SeededRandom(2)) == first
    path = tmp_path / "state" / NOISE_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip().removeprefix("privkey:") not in repr(first)


def test_a_file_of_an_earlier_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cookie-secret").write_text("whatever")
    load_secrets(tmp_path, random=SeededRandom(1))
    assert (tmp_path / "cookie-secret").read_text() == "whatever"


@pytest.mark.parametrize("text", ["", "nonsense", "privkey:12"])
def test_a_damaged_secret_is_not_replaced(tmp_path: Path, text: str) -> None:
    load_secrets(tmp_path, random=SeededRandom(1))
    (tmp_path / NOISE_KEY_FILE).write_text(text)
    with pytest.raises(ConfigError, match=NOISE_KEY_FILE) as caught:
        load_secrets(tmp_path, random=SeededRandom(1))
    assert "nonsense" not in str(caught.value)
    assert (tmp_path / NOISE_KEY_FILE).read_text() == text


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_secrets(tmp_path, random=SeededRandom(1))
    (tmp_path / NOISE_KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        load_secrets(tmp_path, random=SeededRandom(1))
