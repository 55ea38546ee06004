"""The metacert rides on the TLS chain and lets a client start fast."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tailbox.derp.core.client import metacert_key
from tailbox.derp.metacert import metacert_pem
from tailbox.runtime.tls import client_context, development_certificate, server_context
from tailbox.wire.derp import Ping, Pong
from tailbox.wire.keys import NodePublicKey

KEY = NodePublicKey(bytes(range(32)))


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_it_names_the_key_and_the_version() -> None:
    certificate = x509.load_pem_x509_certificate(metacert_pem(KEY, unix_now_s=time.time()))
    assert common_name(certificate) == "derpkey" + KEY.raw.hex()
    assert metacert_key(common_name(certificate), certificate.serial_number) == KEY
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert 59 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 60


async def test_a_tls_relay_with_metacert_takes_verified_and_fast_clients(start_relay: Any, tmp_path: Path) -> None:
    certificate = development_certificate(tmp_path, unix_now_s=time.time())
    context = server_context(certificate, extra_chain_pem=metacert_pem(KEY, unix_now_s=time.time()))
    relay = await start_relay(tls=context)
    trusting = client_context(authorities=certificate.chain_file)
    for server_key in (None, relay.key):
        client = await relay.client(1, tls=trusting, server_key=server_key)
        client.send(Ping(b"12345678"))
        assert await client.frame(Pong) == Pong(b"12345678")
