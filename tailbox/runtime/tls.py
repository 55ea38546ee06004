"""TLS: contexts for both ends, a development certificate made at first start, and certificates pinned by their hash.

A pin is `sha256-raw:` and the SHA-256 of the leaf certificate, as a DERP map's `CertName` carries it. With a pin the
certificate needs no authority, but only one may be presented besides the relay's metacert, and it must be in date.
Source: tailscale net/tlsdial/tlsdial.go, cmd/derper/{cert,ipcert}.go; spec: derp.md §3.
"""

from __future__ import annotations

import asyncio.sslproto
import hashlib
import hmac
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tailbox.errors import AuthenticationError, ConfigError

PIN_PREFIX = "sha256-raw:"
LIFETIME = timedelta(days=365)  # cmd/derper/ipcert.go
RENEW_BEFORE = timedelta(days=30)  # ours: a development certificate this close to its end is made anew
CLOCK_SLACK = timedelta(hours=1)  # ours: clocks of clients that run late
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")
READ_BUFFER_BYTES = 16 * 1024  # ours: one TLS record; asyncio's default of 256 KiB a connection serves nobody here
METACERT_MARK = b"derpkey"  # derpconst.go
COMMON_NAME_CHARACTERS = 64  # X.520 ub-common-name

CERTIFICATE_FILE = "development.crt"
KEY_FILE = "development.key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain, leaf first, and where its private key is. Both PEM."""

    chain_file: Path
    key_file: Path

    @property
    def leaf_der(self) -> bytes:
        """Raises ConfigError if the file holds no certificate."""
        return _load_leaf(self.chain_file).public_bytes(serialization.Encoding.DER)

    @property
    def pin(self) -> str:
        """`sha256-raw:` and 64 hex digits: what `CertName` of a DERP node may say."""
        return fingerprint(self.leaf_der)


def fingerprint(leaf_der: bytes) -> str:
    """The pin of a certificate."""
    return PIN_PREFIX + hashlib.sha256(leaf_der).hexdigest()


def development_certificate(folder: Path, names: Sequence[str] = (), *, unix_now_s: float) -> Certificate:
    """A self-signed certificate for `names` and this machine, kept in `folder` from the first start on.

    It is made anew when it lacks a name, is about to expire or its key was not kept private; its pin changes then.
    Raises ConfigError if the folder cannot be written.
    """
    wanted = tuple(dict.fromkeys((*names, *ALWAYS_NAMED)))
    certificate = Certificate(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    now = datetime.fromtimestamp(unix_now_s, UTC)
    if _is_usable(certificate, wanted, now):
        return certificate
    key = ec.generate_private_key(ec.SECP256R1())
    made = _self_signed(key, wanted, now)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(certificate.key_file, private)
        write_private(certificate.chain_file, made.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ConfigError("certificate folder", str(folder), error.strerror or "cannot be written") from None
    return certificate


def server_context(certificate: Certificate, *, extra_chain_pem: bytes = b"") -> ssl.SSLContext:
    """For listening: TLS 1.2 or later, HTTP/1.1 only, because upgrades exist nowhere else.

    `extra_chain_pem` is sent after the chain: a relay's metacert. Raises ConfigError if the files do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        chain = certificate.chain_file.read_bytes()
        with tempfile.NamedTemporaryFile(prefix="tailbox-chain-") as joined:  # OpenSSL takes chains from files only
            joined.write(chain.rstrip() + b"\n" + extra_chain_pem)
            joined.flush()
            context.load_cert_chain(joined.name, certificate.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("TLS certificate", str(certificate.chain_file), _reason(error)) from None
    return context


def client_context(*, authorities: Path | None = None) -> ssl.SSLContext:
    """For connecting with the usual checks, by the system's authorities or those of one file. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("TLS authorities", str(authorities), _reason(error)) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def unverified_client_context() -> ssl.SSLContext:
    """For connecting without any check: to be followed by `pinned_verifier`, or for tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_pin(text: str) -> bool:
    """Whether a `CertName` is a pin and not a host name."""
    return text.startswith(PIN_PREFIX)


def pinned_verifier(pin: str, server_name: str, *, unix_time: Callable[[], float]) -> Callable[[ssl.SSLObject], None]:
    """The check to run after the handshake of an unverified context; it raises AuthenticationError.

    `server_name`: what was sent as SNI and must be named by the certificate; empty or an address: not checked, since
    the hash says more. Raises ConfigError for something that is no pin.
    """
    digits = pin.removeprefix(PIN_PREFIX).lower()
    if not is_pin(pin) or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ConfigError("certificate pin", pin, f"wanted {PIN_PREFIX} and 64 hex digits")

    def verify(connection: ssl.SSLObject) -> None:
        leaf = connection.getpeercert(binary_form=True)
        if leaf is None or not hmac.compare_digest(hashlib.sha256(leaf).hexdigest(), digits):
            raise AuthenticationError
        if any(not _is_metacert(other) for other in peer_chain(connection)[1:]):
            raise AuthenticationError
        certificate = x509.load_der_x509_certificate(leaf)
        now = datetime.fromtimestamp(unix_time(), UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise AuthenticationError
        if server_name and not _is_address(server_name) and not _names(certificate, server_name):
            raise AuthenticationError

    return verify


def peer_chain(connection: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that the other end presented, DER, leaf first. Before Python 3.13 only the leaf can be had."""
    unverified = getattr(connection, "get_unverified_chain", None)
    if unverified is not None:
        return tuple(unverified())
    leaf = connection.getpeercert(binary_form=True)
    return () if leaf is None else (leaf,)


def limit_read_buffers() -> None:
    """Let TLS connections of asyncio share the memory of a record each instead of 256 KiB. Once, at the start.

    uvloop has buffers of its own, which cannot be changed.
    """
    asyncio.sslproto.SSLProtocol.max_size = READ_BUFFER_BYTES


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _self_signed(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:COMMON_NAME_CHARACTERS])])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _is_usable(certificate: Certificate, names: Sequence[str], now: datetime) -> bool:
    try:
        leaf = _load_leaf(certificate.chain_file)
        key = serialization.load_pem_private_key(certificate.key_file.read_bytes(), password=None)
        is_private = not certificate.key_file.stat().st_mode & 0o077
    except (ConfigError, OSError, ValueError, TypeError):
        return False
    if not is_private:
        return False
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != leaf.public_key():
        return False
    in_date = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - RENEW_BEFORE
    return in_date and all(_names(leaf, name) for name in names)


def _names(certificate: x509.Certificate, name: str) -> bool:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    wanted = _general_name(name)
    if isinstance(wanted, x509.IPAddress):
        return wanted in list(named)
    hosts = [host.lower() for host in named.get_values_for_type(x509.DNSName)]
    lowered = name.lower().rstrip(".")
    return lowered in hosts or f"*.{lowered.partition('.')[2]}" in hosts


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise ConfigError("host name", name, "not a name for a certificate") from None


def _is_metacert(der: bytes) -> bool:
    """The extra certificate of relays, told by its common name; its length breaks X.520, of which readers warn."""
    return METACERT_MARK in der


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _load_leaf(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise ConfigError("TLS certificate", str(path), _reason(error)) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
