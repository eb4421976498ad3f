"""A small certificate authority of our own: for the broker's server certificate and for devices' client certificates.

    STATE/authority/ca.key    the private key, 0600; never in the database, so that a copy of that makes no devices
    iot.authority             the certificate that devices trust
    iot.certificate           what was issued to whom; revoked ones and those of retired devices stand in the CRL

A client certificate's common name is the device's key: that is who it signs in as.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.registry.audit import Change, record
from iot_core.state import make_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

__all__ = ["Authority", "Certificate", "Issued", "own_names"]

_LIFE: Final = timedelta(days=20 * 365)
_SERVER_LIFE: Final = timedelta(days=800)
_RENEW_BEFORE: Final = timedelta(days=60)
_MOST_DAYS: Final = 15 * 365
_BACKDATED: Final = timedelta(minutes=10)
"""Devices' clocks go slow: a certificate of this second would not be valid yet for them."""

_GET: Final = "SELECT certificate FROM iot.authority"
_SET: Final = "INSERT INTO iot.authority (certificate) VALUES ($1)"
_DEVICE: Final = "SELECT id FROM iot.device WHERE key = $1 AND retired_at IS NULL"
_ISSUE: Final = "INSERT INTO iot.certificate (serial, device_id, not_after) VALUES ($1, $2, $3)"
_LET_IN: Final = """
UPDATE iot.unit SET revoked_at = NULL WHERE device_id = $1 AND mounted_to IS NULL AND revoked_at IS NOT NULL
"""
_LIST: Final = """
SELECT certificate.serial, device.key AS device, certificate.issued_at, certificate.not_after,
    coalesce(certificate.revoked_at, device.retired_at) AS revoked_at
FROM iot.certificate JOIN iot.device ON device.id = certificate.device_id
WHERE ($1::text IS NULL OR device.key = $1) AND ($2::integer[] IS NULL OR device.area_id = ANY($2))
ORDER BY certificate.issued_at DESC, certificate.serial LIMIT 10000
"""
_DEVICE_OF: Final = """
SELECT device.key FROM iot.certificate JOIN iot.device ON device.id = certificate.device_id WHERE serial = $1
"""
_REVOKE: Final = """
UPDATE iot.certificate SET revoked_at = now() FROM iot.device
WHERE device.id = certificate.device_id AND certificate.serial = $1 AND certificate.revoked_at IS NULL
RETURNING device.key
"""
_REVOKED: Final = """
SELECT certificate.serial, device.key AS device, coalesce(certificate.revoked_at, device.retired_at) AS revoked_at
FROM iot.certificate JOIN iot.device ON device.id = certificate.device_id
WHERE (certificate.revoked_at IS NOT NULL OR device.retired_at IS NOT NULL) AND certificate.not_after > now()
ORDER BY certificate.serial
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What was issued; the certificate of a retired device counts as revoked."""

    serial: str
    device: str
    issued_at: datetime
    not_after: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new certificate in PEM; `key` is None where the device made its own."""

    serial: str
    certificate: str
    key: str | None
    not_after: datetime


class Authority:
    """Signs. `folder` holds the private key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def _key_file(self) -> Path:
        return self._folder / "ca.key"

    async def certificate(self, connection: asyncpg.Connection) -> str | None:
        """Give its own certificate in PEM, None where there is none yet."""
        found: str | None = await connection.fetchval(_GET)
        return found

    async def ensure(self, connection: asyncpg.Connection, *, by: str, name: str = "iot-core") -> str:
        """Give its own certificate; make it and its key if there is none."""
        async with connection.transaction():
            await connection.execute("LOCK TABLE iot.authority IN EXCLUSIVE MODE")
            if (found := await self.certificate(connection)) is not None:
                self._key()  # the database was moved without it: better said now than at the first device
                return found
            key = ec.generate_private_key(ec.SECP256R1())
            made = _sign(_builder(_name(name), _name(name), key.public_key(), _LIFE), _Role.AUTHORITY, key)
            make_folder(self._folder)
            write_private(self._key_file, _key_pem(key).encode())
            certificate = _pem(made)
            await connection.execute(_SET, certificate)
            await record(connection, by, "ca.init", Change("ca/iot-core", after={"name": name}))
        return certificate

    async def issue(
        self, connection: asyncpg.Connection, device_key: str, *, days: int, csr: str | None, by: str
    ) -> Issued:
        """Issue a client certificate; without a request of the device's own also its key, given only here.

        Raises NotFoundError without such a device or authority, RequestError for a request that is none.
        """
        if not 1 <= days <= _MOST_DAYS:
            raise RequestError("ca.bad_days", days=days, most=_MOST_DAYS)
        async with connection.transaction():
            device_id = await connection.fetchval(_DEVICE, device_key)
            if device_id is None:
                raise NotFoundError("registry.no_device", key=device_key)
            own = await self._own(connection)
            public, private = _asked(csr) if csr is not None else _made()
            built = _builder(_name(device_key), own.subject, public, timedelta(days=days))
            made = _sign(built, _Role.CLIENT, self._key())
            serial = f"{made.serial_number:x}"
            await connection.execute(_ISSUE, serial, device_id, made.not_valid_after_utc)
            await connection.execute(_LET_IN, device_id)
            after = {"certificate": serial, "until": made.not_valid_after_utc}
            await record(connection, by, "ca.issue", Change(f"device/{device_key}", after=after))
        return Issued(serial=serial, certificate=_pem(made), key=private, not_after=made.not_valid_after_utc)

    @staticmethod
    async def certificates(
        connection: asyncpg.Connection, device_key: str | None = None, within: frozenset[int] | None = None
    ) -> list[Certificate]:
        """List what was issued, the newest first; `within`: for devices in these areas."""
        areas = None if within is None else list(within)
        return [Certificate(**row) for row in await connection.fetch(_LIST, device_key, areas)]

    @staticmethod
    async def device_of(connection: asyncpg.Connection, serial: str) -> str | None:
        """Say for which device the certificate with this number was issued."""
        found: str | None = await connection.fetchval(_DEVICE_OF, _number(serial))
        return found

    async def revoke(self, connection: asyncpg.Connection, serial: str, *, by: str) -> None:
        """Revoke a certificate. Raises NotFoundError where no live one has this number."""
        async with connection.transaction():
            device = await connection.fetchval(_REVOKE, _number(serial))
            if device is None:
                raise NotFoundError("ca.no_certificate", serial=serial)
            await record(connection, by, "ca.revoke", Change(f"device/{device}", after={"revoked": serial}))

    async def revoked(self, connection: asyncpg.Connection) -> dict[str, tuple[str, datetime]]:
        """Give the numbers of revoked certificates, each with its device and when."""
        return {row["serial"]: (row["device"], row["revoked_at"]) for row in await connection.fetch(_REVOKED)}

    async def crl(self, connection: asyncpg.Connection) -> str:
        """Write the list of revoked certificates, in PEM."""
        own, now = await self._own(connection), datetime.now(UTC)
        # A broker refuses everybody once the list is out of date; it is written anew whenever something changes.
        built = x509.CertificateRevocationListBuilder(own.subject, now - _BACKDATED, now + _LIFE)
        for serial, (_, at) in (await self.revoked(connection)).items():
            one = x509.RevokedCertificateBuilder(int(serial, 16), at)
            built = built.add_revoked_certificate(one.build())
        return built.sign(self._key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    async def server(
        self, connection: asyncpg.Connection, names: Sequence[str], file_name: str = "server.pem"
    ) -> tuple[str, str]:
        """Give certificate and key for a server reached by these names; kept until one changes or it grows old."""
        own, file = await self._own(connection), self.kept(file_name)
        kept = _kept_server(file, own, names)
        if kept is not None:
            return kept
        public, private = _made()
        assert private is not None
        built = _builder(_name(names[0]), own.subject, public, _SERVER_LIFE)
        alternatives = x509.SubjectAlternativeName([_alternative(each) for each in names])
        made = _pem(_sign(built.add_extension(alternatives, critical=False), _Role.SERVER, self._key()))
        write_private(file, (made + private).encode())
        return made, private

    def kept(self, file_name: str) -> Path:
        """Say where a server's certificate and key are kept, in one file."""
        return self._folder / file_name

    async def _own(self, connection: asyncpg.Connection) -> x509.Certificate:
        found = await self.certificate(connection)
        if found is None:
            raise NotFoundError("ca.none")
        return x509.load_pem_x509_certificate(found.encode())

    def _key(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except OSError:
            raise ConflictError("ca.no_key", file=self._key_file) from None
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key


def _kept_server(file: Path, own: x509.Certificate, names: Sequence[str]) -> tuple[str, str] | None:
    try:
        both = file.read_text(encoding="ascii")
        found = x509.load_pem_x509_certificate(both.encode())
        said = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found.verify_directly_issued_by(own)
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None
    if found.not_valid_after_utc - _RENEW_BEFORE < datetime.now(UTC):
        return None
    if list(said) != [_alternative(each) for each in names]:
        return None
    certificate, mark, key = both.partition("-----BEGIN PRIVATE KEY-----")
    return certificate, mark + key


def _number(serial: str) -> str:
    """Write a number as it is kept: people copy it with colons and zeros."""
    return serial.lower().replace(":", "").lstrip("0")


class _Role:
    """What a certificate may be used for: extended key usage, None for the authority itself."""

    AUTHORITY = None
    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def own_names(host: str) -> list[str]:
    """List the names by which this machine's broker may be reached."""
    names = ["localhost", "127.0.0.1", socket.gethostname()]
    if host not in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        names.insert(0, host)
    return list(dict.fromkeys(names))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _sign(
    built: x509.CertificateBuilder, role: x509.ObjectIdentifier | None, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    is_authority = role is None
    built = built.add_extension(
        x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True
    )
    if role is not None:
        built = built.add_extension(x509.ExtendedKeyUsage([role]), critical=False)
    usage = x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    built = built.add_extension(usage, critical=True)
    built = built.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    if is_authority:
        built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return built.sign(key, hashes.SHA256())


def _asked(csr: str) -> tuple[ec.EllipticCurvePublicKey, None]:
    """Take a device's own key out of its request; what else it asks for is ours to say."""
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        signed = request.is_signature_valid
    except (ValueError, TypeError):
        raise RequestError("ca.bad_request") from None
    public = request.public_key()
    if not signed or not isinstance(public, ec.EllipticCurvePublicKey):
        raise RequestError("ca.bad_request")
    return public, None


def _made() -> tuple[ec.EllipticCurvePublicKey, str | None]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.public_key(), _key_pem(key)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
