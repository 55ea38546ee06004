"""The coordinator's own secrets: made once, private, whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tailbox.coord.store.secret_files import COOKIE_SECRET_FILE, NOISE_KEY_FILE, load_secrets
from tailbox.errors import ConfigError
from tailbox.randomness import SeededRandom


def test_secrets_are_made_once(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "state", random=SeededRandom(1))
    assert load_secrets(tmp_path / "state", random=SeededRandom(2)) == first
    for name in (NOISE_KEY_FILE, COOKIE_SECRET_FILE):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600
    assert first.cookie_secret.hex() not in repr(first)


@pytest.mark.parametrize("name", [NOISE_KEY_FILE, COOKIE_SECRET_FILE])
@pytest.mark.parametrize("text", ["", "nonsense", "privkey:12"])
def test_a_damaged_secret_is_not_replaced(tmp_path: Path, name: str, text: str) -> None:
    load_secrets(tmp_path, random=SeededRandom(1))
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name) as caught:
        load_secrets(tmp_path, random=SeededRandom(1))
    assert "nonsense" not in str(caught.value)
    assert (tmp_path / name).read_text() == text


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_secrets(tmp_path, random=SeededRandom(1))
    (tmp_path / NOISE_KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        load_secrets(tmp_path, random=SeededRandom(1))
