"""TLS of the API: a given certificate, or one of our own made on demand and recognised by its fingerprint."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iot_core.errors import ConfigError
from iot_core.settings import Api
from iot_core.state import write_private

__all__ = ["Tls", "is_loopback", "loaded", "tls_of"]

log = structlog.get_logger()

_YEARS: Final = 10
_LOOK_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tls:
    """What the API shows: files of certificate and key, the rules made of them, and the certificate's SHA-256."""

    certificate: Path
    key: Path
    context: ssl.SSLContext
    fingerprint: str
    own: bool

    async def follow(self) -> None:
        """Take a renewed certificate for new connections, for ever; one that is damaged is not taken."""
        seen = self.certificate.stat().st_mtime_ns
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                now = self.certificate.stat().st_mtime_ns
                if now != seen:
                    self.context.load_cert_chain(self.certificate, self.key)
                    log.info("api.certificate_renewed", fingerprint=_fingerprint(self.certificate))
                    seen = now
            except (OSError, ValueError) as exc:
                log.warning("api.certificate_not_taken", reason=str(exc))


def tls_of(api: Api, state: Path) -> Tls | None:
    """Choose TLS: given files, else our own wherever others can listen; None in clear.

    `tls = "off"` is the one way to listen beyond this machine in clear: somebody said so. Raises ConfigError.
    """
    if api.certificate or api.key:
        if not (api.certificate and api.key):
            raise ConfigError(
                "config.invalid", file="iot.toml", line="?", key="api.key", expected="certificate and key"
            )
        return loaded(Path(api.certificate), Path(api.key), own=False)
    if api.tls == "off" or (api.tls == "auto" and is_loopback(api.host)):
        return None
    certificate, key = state / "api.crt", state / "api.key"
    if not (certificate.exists() and key.exists()):
        _make(certificate, key, api.host)
    return loaded(certificate, key, own=True)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can come."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def loaded(certificate: Path, key: Path, *, own: bool) -> Tls:
    """Read a certificate and its key (PEM; one file may hold both). Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        return Tls(certificate, key, context, _fingerprint(certificate), own)
    except (OSError, ValueError) as exc:
        raise ConfigError(
            "start.bad_certificate", file=certificate, detail=getattr(exc, "reason", None) or exc
        ) from exc


def _fingerprint(certificate: Path) -> str:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return hashlib.sha256(found.public_bytes(serialization.Encoding.DER)).digest().hex(":").upper()


def _make(certificate: Path, key: Path, host: str) -> None:
    """Make a key (P-256) and a certificate signed by itself, for the names of this machine."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"iot-core {socket.gethostname()}"[:64])])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(socket.gethostname())]
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(own, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    write_private(key, own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    write_private(certificate, made.public_bytes(pem))
