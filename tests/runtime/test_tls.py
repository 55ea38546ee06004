"""Contexts, the development certificate, and pins, over real TLS in memory."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import ssl
import stat
import time
from pathlib import Path

import pytest

from tailbox.errors import AuthenticationError, ConfigError
from tailbox.runtime.tls import (
    READ_BUFFER_BYTES,
    Certificate,
    client_context,
    development_certificate,
    fingerprint,
    is_pin,
    limit_read_buffers,
    pinned_verifier,
    server_context,
    unverified_client_context,
)

NOW = time.time()
DAY_S = 86400.0


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Both ends of a handshake without sockets; returns the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    ours.do_handshake()
    return ours


def test_the_certificate_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = development_certificate(tmp_path / "tls", ["relay.test"], unix_now_s=NOW)
    pin = first.pin
    assert stat.S_IMODE(first.key_file.stat().st_mode) == 0o600
    assert development_certificate(tmp_path / "tls", ["relay.test"], unix_now_s=NOW + DAY_S).pin == pin
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["development.crt", "development.key"]


def test_it_is_made_anew_for_new_names_before_it_expires_and_when_damaged(tmp_path: Path) -> None:
    pins = [development_certificate(tmp_path, ["a.test"], unix_now_s=NOW).pin]
    pins.append(development_certificate(tmp_path, ["b.test", "192.0.2.7"], unix_now_s=NOW).pin)
    pins.append(development_certificate(tmp_path, ["b.test"], unix_now_s=NOW + 340 * DAY_S).pin)
    (tmp_path / "development.key").write_text("garbage")
    pins.append(development_certificate(tmp_path, ["b.test"], unix_now_s=NOW).pin)
    (tmp_path / "development.key").chmod(0o644)
    pins.append(development_certificate(tmp_path, ["b.test"], unix_now_s=NOW).pin)
    assert len(set(pins)) == 5


@pytest.mark.parametrize("name", ["relay.test", "localhost", "127.0.0.1", "::1", "192.0.2.7"])
def test_clients_that_trust_it_may_use_every_name(tmp_path: Path, name: str) -> None:
    certificate = development_certificate(tmp_path, ["relay.test", "192.0.2.7"], unix_now_s=NOW)
    ours = shake_hands(server_context(certificate), client_context(authorities=certificate.chain_file), name)
    assert ours.version() == "TLSv1.3"


def test_other_names_and_other_authorities_are_refused(tmp_path: Path) -> None:
    certificate = development_certificate(tmp_path, ["relay.test"], unix_now_s=NOW)
    server = server_context(certificate)
    for client, name in (
        (client_context(authorities=certificate.chain_file), "other.test"),
        (client_context(), "relay.test"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client, name)


def test_a_pin_needs_no_authority(tmp_path: Path) -> None:
    certificate = development_certificate(tmp_path, ["relay.test"], unix_now_s=NOW)
    ours = shake_hands(server_context(certificate), unverified_client_context(), "relay.test")
    assert certificate.pin == fingerprint(certificate.leaf_der)
    assert is_pin(certificate.pin)
    for name in ("relay.test", "", "203.0.113.9"):
        pinned_verifier(certificate.pin, name, unix_time=lambda: NOW)(ours)
    wrong = "sha256-raw:" + "00" * 32
    for pin, name, now in (
        (wrong, "relay.test", NOW),
        (certificate.pin, "other.test", NOW),
        (certificate.pin, "relay.test", NOW + 400 * DAY_S),
        (certificate.pin, "relay.test", NOW - 2 * DAY_S),
    ):
        with pytest.raises(AuthenticationError):
            pinned_verifier(pin, name, unix_time=lambda now=now: now)(ours)  # type: ignore[misc]


@pytest.mark.parametrize("pin", ["", "sha256-raw:", "sha256-raw:" + "zz" * 32, "ab" * 32])
def test_what_is_no_pin_is_a_config_error(pin: str) -> None:
    with pytest.raises(ConfigError):
        pinned_verifier(pin, "", unix_time=lambda: NOW)


def test_only_http_1_is_offered_and_old_tls_refused(tmp_path: Path) -> None:
    server = server_context(development_certificate(tmp_path, unix_now_s=NOW))
    client = unverified_client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert shake_hands(server, client, "localhost").selected_alpn_protocol() == "http/1.1"
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2


def test_unusable_files_are_config_errors(tmp_path: Path) -> None:
    good = development_certificate(tmp_path / "one", unix_now_s=NOW)
    other = development_certificate(tmp_path / "two", unix_now_s=NOW)
    (tmp_path / "garbage").write_text("garbage")
    for chain, key in (
        (tmp_path / "missing", good.key_file),
        (tmp_path / "garbage", good.key_file),
        (good.chain_file, other.key_file),
    ):
        with pytest.raises(ConfigError):
            server_context(Certificate(chain, key))
    with pytest.raises(ConfigError):
        _ = Certificate(tmp_path / "garbage", good.key_file).pin
    with pytest.raises(ConfigError):
        client_context(authorities=tmp_path / "garbage")
    with pytest.raises(ConfigError):
        development_certificate(tmp_path / "garbage", unix_now_s=NOW)
    with pytest.raises(ConfigError):
        development_certificate(tmp_path, ["bücher.test"], unix_now_s=NOW)


def test_read_buffers_can_be_limited() -> None:
    before = asyncio.sslproto.SSLProtocol.max_size
    try:
        limit_read_buffers()
        assert asyncio.sslproto.SSLProtocol.max_size == READ_BUFFER_BYTES
    finally:
        asyncio.sslproto.SSLProtocol.max_size = before
