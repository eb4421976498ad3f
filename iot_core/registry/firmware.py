"""Firmware images: kept when a trusted signer signed them, given out in parts to devices that are to take them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from iot_core.errors import ConflictError, NotFoundError, RequestError
from iot_core.model import firmware_text
from iot_core.registry.audit import Change, record

__all__ = ["Image", "Signer", "add", "image", "images", "may_fetch", "part", "revoke", "signers", "trust"]

_KEY_BYTES: Final = 32
_IMAGE: Final = """
SELECT i.id, i.model, i.version, i.sha256, i.signature, i.size, s.name AS signer, i.added_by, i.added_at
FROM iot.firmware_image i JOIN iot.firmware_signer s ON s.id = i.signer_id
"""
_SIGNERS: Final = "SELECT name, public_key, added_by, added_at, revoked_at FROM iot.firmware_signer ORDER BY id"
_TRUST: Final = """
INSERT INTO iot.firmware_signer (name, public_key, added_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id
"""
_REVOKE: Final = "UPDATE iot.firmware_signer SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL RETURNING id"
_ADD: Final = """
INSERT INTO iot.firmware_image (model, version, sha256, signature, signer_id, size, image, added_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id
"""
_MAY_FETCH: Final = """
SELECT i.size, i.sha256 FROM iot.firmware_update u JOIN iot.firmware_campaign k ON k.id = u.campaign_id
JOIN iot.firmware_image i ON i.id = k.image_id JOIN iot.device d ON d.id = u.device_id
WHERE i.id = $1 AND d.key = $2 AND u.state = 'running'
"""


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose signature under an image counts, until revoked."""

    name: str
    public_key: bytes
    added_by: str
    added_at: datetime
    revoked_at: datetime | None


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A signed image for a model."""

    id: int
    model: str
    version: str
    sha256: bytes
    signature: bytes
    size: int
    signer: str
    added_by: str
    added_at: datetime


async def trust(connection: asyncpg.Connection, name: str, public_key: bytes, *, by: str) -> None:
    """Trust a signer's Ed25519 key (32 bytes). Raises RequestError for what is none, ConflictError for a known one."""
    if len(public_key) != _KEY_BYTES:
        raise RequestError("firmware.bad_key")
    async with connection.transaction():
        if await connection.fetchval(_TRUST, name, public_key, by) is None:
            raise ConflictError("firmware.signer_taken", name=name)
        after = {"name": name, "public_key": public_key.hex()}
        await record(connection, by, "firmware.trust", Change(f"firmware-signer/{name}", None, after))


async def revoke(connection: asyncpg.Connection, name: str, *, by: str) -> None:
    """Take no more images of a signer, and begin no more campaigns with those that are here. Raises NotFoundError."""
    async with connection.transaction():
        if await connection.fetchval(_REVOKE, name) is None:
            raise NotFoundError("firmware.no_signer", name=name)
        await record(connection, by, "firmware.revoke", Change(f"firmware-signer/{name}", {"name": name}, None))


async def signers(connection: asyncpg.Connection) -> list[Signer]:
    """List signers, the revoked ones too."""
    return [msgspec.convert(dict(row), Signer) for row in await connection.fetch(_SIGNERS)]


async def add(
    connection: asyncpg.Connection, model: str, version: str, content: bytes, signature: bytes, *, by: str
) -> Image:
    """Keep an image. Raises RequestError when no trusted signer signed it, ConflictError for a known version."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    sha256 = digest.finalize()
    signer = await _signer(connection, firmware_text(model, version, sha256), signature)
    async with connection.transaction():
        number = await connection.fetchval(_ADD, model, version, sha256, signature, signer, len(content), content, by)
        if number is None:
            raise ConflictError("firmware.version_taken", model=model, version=version)
        after = {"model": model, "version": version, "sha256": sha256.hex()}
        await record(connection, by, "firmware.add", Change(f"firmware/{number}", None, after))
        return await image(connection, number)


async def _signer(connection: asyncpg.Connection, message: bytes, signature: bytes) -> int:
    known = "SELECT id, public_key FROM iot.firmware_signer WHERE revoked_at IS NULL ORDER BY id"
    for row in await connection.fetch(known):
        try:
            Ed25519PublicKey.from_public_bytes(row["public_key"]).verify(signature, message)
        except InvalidSignature:
            continue
        number: int = row["id"]
        return number
    raise RequestError("firmware.not_signed")


async def images(connection: asyncpg.Connection) -> list[Image]:
    """List images, the newest first."""
    return [msgspec.convert(dict(row), Image) for row in await connection.fetch(f"{_IMAGE} ORDER BY i.id DESC")]


async def image(connection: asyncpg.Connection, number: int, *, trusted: bool = False) -> Image:
    """Find an image. Raises NotFoundError; ConflictError when only a `trusted` signer's will do and it is no more."""
    row = await connection.fetchrow(f"{_IMAGE} WHERE i.id = $1", number)
    if row is None:
        raise NotFoundError("firmware.no_image", id=number)
    found = msgspec.convert(dict(row), Image)
    gone = "SELECT revoked_at IS NOT NULL FROM iot.firmware_signer WHERE name = $1"
    if trusted and await connection.fetchval(gone, found.signer):
        raise ConflictError("firmware.signer_revoked", name=found.signer)
    return found


async def may_fetch(connection: asyncpg.Connection, image_id: int, device_key: str) -> tuple[int, bytes] | None:
    """Give size and digest of an image to a device that is being updated with it; None for everybody else."""
    row = await connection.fetchrow(_MAY_FETCH, image_id, device_key)
    return None if row is None else (row["size"], row["sha256"])


async def part(connection: asyncpg.Connection, image_id: int, first: int, length: int) -> bytes:
    """Read `length` bytes of an image from offset `first` on."""
    read: Any = await connection.fetchval(
        "SELECT substring(image FROM $2 FOR $3) FROM iot.firmware_image WHERE id = $1", image_id, first + 1, length
    )
    return bytes(read)
