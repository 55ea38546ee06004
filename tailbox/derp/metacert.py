"""The metacert: an extra certificate at the end of the relay's TLS chain that saves its clients a round trip.

Its common name is `derpkey` and the relay's public key, its serial number the protocol version. A client that finds it
in a TLS 1.3 handshake knows the key already and sends its login together with the HTTP request (fast start).
Source: tailscale derp/derpserver/derpserver.go (initMetacert), derp/derpconst/derpconst.go; spec: derp.md §3.2.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tailbox.derp.core.client import METACERT_PREFIX
from tailbox.wire.derp import PROTOCOL_VERSION
from tailbox.wire.keys import NodePublicKey

VALIDITY = timedelta(days=30)  # derpserver.go: to both sides of now


def metacert_pem(server_key: NodePublicKey, *, unix_now_s: float) -> bytes:
    """For `runtime.tls.server_context(extra_chain_pem=…)`. Nobody verifies it, so its own key is thrown away."""
    key = Ed25519PrivateKey.generate()
    now = datetime.fromtimestamp(unix_now_s, UTC)
    with warnings.catch_warnings():
        # 71 characters are more than X.520 allows for a common name. That is the format; every client copes.
        warnings.simplefilter("ignore")
        attribute = x509.NameAttribute(NameOID.COMMON_NAME, METACERT_PREFIX + server_key.raw.hex(), _validate=False)
    name = x509.Name([attribute])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(PROTOCOL_VERSION)
        .not_valid_before(now - VALIDITY)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.PEM)
