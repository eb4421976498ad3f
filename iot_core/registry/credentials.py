"""Who may speak for a device: random secrets, the accounts of mounted units, and a cached check of both."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iot_core.errors import StoreUnavailable
from iot_core.model import is_key
from iot_core.registry.directory import CHANNEL
from iot_core.registry.passwords import check_secret
from iot_core.registry.pending import PENDING, promote
from iot_core.store.connection import AWAY, listening, outlasting

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "Authenticator", "Sender", "accounts", "bridges", "may_sign_in", "new_secret", "senders",
]  # fmt: skip

_SECRET_BYTES: Final = 20
_CACHED: Final = 50_000
_RETRY_S: Final = 1.0

# Of several mounted units of one device with a secret, the newest speaks.
# One text, made by the database: a city has 100,000 lines, and ingest turns on the loop that would put them together.
_ACCOUNTS: Final = """
SELECT coalesce(string_agg(line, E'\n'), '') FROM (
    SELECT DISTINCT ON (device.key) device.key || ':' || unit.secret_hash AS line
    FROM iot.unit JOIN iot.device ON device.id = unit.device_id
    WHERE unit.mounted_to IS NULL AND unit.secret_hash IS NOT NULL AND device.retired_at IS NULL
    ORDER BY device.key, unit.mounted_from DESC, unit.id DESC
) account
"""
_HASH: Final = f"""
SELECT unit.id, unit.secret_hash, {PENDING} AS next_hash
FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE device.key = $1 AND unit.mounted_to IS NULL AND unit.secret_hash IS NOT NULL AND device.retired_at IS NULL
ORDER BY unit.mounted_from DESC, unit.id DESC LIMIT 1
"""
_SENDERS: Final = """
SELECT device.key, unit.profile, unit.address, gateway.key AS gateway
FROM iot.unit JOIN iot.device ON device.id = unit.device_id LEFT JOIN iot.device AS gateway
    ON gateway.id = device.gateway_id
WHERE unit.mounted_to IS NULL AND device.retired_at IS NULL AND unit.address NOT LIKE 'iot:%'
ORDER BY device.key, unit.id
"""


_BRIDGES: Final = """
SELECT device.key, bridge.topic FROM iot.bridge JOIN iot.device ON device.id = bridge.device_id
WHERE device.retired_at IS NULL ORDER BY device.key, bridge.topic
"""
_LIVE: Final = """
SELECT EXISTS (SELECT FROM iot.unit JOIN iot.device ON device.id = unit.device_id
    WHERE device.key = $1 AND unit.mounted_to IS NULL AND device.retired_at IS NULL AND unit.secret_hash IS NOT NULL)
"""


def new_secret() -> str:
    """Make a device secret: nearly 160 random bits, in letters that survive a label, a URL and a spreadsheet."""
    while not (made := secrets.token_urlsafe(_SECRET_BYTES))[0].isalnum():
        pass  # it would look like an option, or a formula
    return made


async def accounts(conn: asyncpg.Connection) -> str:
    """Write every device that may log in as Mosquitto's password file does: a line `KEY:HASH` for each."""
    found: str = await conn.fetchval(_ACCOUNTS)
    return found


@dataclass(frozen=True, slots=True)
class Sender:
    """A mounted unit that speaks on its vendor's topics, and the logins that may carry its words."""

    device_key: str
    profile: str
    address: str
    gateway: str | None = None


async def senders(conn: asyncpg.Connection) -> list[Sender]:
    """List mounted units that do not speak the native protocol."""
    return [Sender(row["key"], row["profile"], row["address"], row["gateway"]) for row in await conn.fetch(_SENDERS)]


async def bridges(conn: asyncpg.Connection) -> list[tuple[str, str]]:
    """List which devices' logins may speak below which topics."""
    return [(row["key"], row["topic"]) for row in await conn.fetch(_BRIDGES)]


async def may_sign_in(conn: asyncpg.Connection, device_key: str) -> bool:
    """Say whether a device has a secret at all: one that was retired or revoked has no rights either."""
    found: bool = await conn.fetchval(_LIVE, device_key)
    return found


class Authenticator:
    """Checks device secrets. Answers come from a cache only while `watch` listens for changes of the registry.

    app:     group.create_task(authenticator.watch())
    driver:  await authenticate("aq-001", secret)
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._cache: _Cache | None = None

    async def __call__(self, device_key: str, secret: str) -> bool:
        """Say whether `secret` is this device's. Raises StoreUnavailable when that is not known and nobody answers."""
        if not is_key(device_key):
            return False
        if self.remembers(device_key, secret):
            return True
        cache = self._cache
        known = await self._known(device_key, cache)
        if known is None:
            return False
        if not check_secret(secret, known.hashed):
            return known.following is not None and await self._took_over(device_key, secret, known)
        if cache is not None:
            cache.right[device_key] = _digest(secret)
        return True

    async def _took_over(self, device_key: str, secret: str, known: _Known) -> bool:
        """Let a pending secret that was shown take over: whoever has it needs the old one no more."""
        assert known.following is not None
        if not check_secret(secret, known.following):
            return False
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await promote(connection, known.unit_id, known.following, key=device_key, by=device_key)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        return True

    def remembers(self, device_key: str, secret: str) -> bool:
        """Say whether this was found right since the registry last changed."""
        cache = self._cache
        return cache is not None and hmac.compare_digest(cache.right.get(device_key, b""), _digest(secret))

    async def watch(self) -> None:
        """Forget what changed, for ever. Without a connection that listens, nothing is answered from the cache."""
        while True:
            with outlasting():
                await self._listen()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with listening(self._pool, CHANNEL) as notices:
            try:
                while True:
                    # A new object, not a cleared one: a check under way writes into the cache that it began with.
                    self._cache = _Cache()
                    await notices.next()
            finally:
                self._cache = None

    async def _known(self, device_key: str, cache: _Cache | None) -> _Known | None:
        if cache is not None and device_key in cache.known:
            return cache.known[device_key]
        try:
            row = await self._pool.fetchrow(_HASH, device_key)
        except AWAY as exc:
            raise StoreUnavailable(type(exc).__name__) from exc
        known = None if row is None else _Known(row["id"], row["secret_hash"], row["next_hash"])
        if cache is not None:
            if len(cache.known) >= _CACHED:  # senders choose the keys, so they do not choose the size
                cache.known.clear()
            cache.known[device_key] = known
        return known


@dataclass(frozen=True, slots=True)
class _Known:
    """What the registry knows of a device's secrets: a hash, and that of a pending one."""

    unit_id: int
    hashed: str
    following: str | None


def _digest(secret: str) -> bytes:
    """Only this is remembered, so that memory holds no secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class _Cache:
    """What is known since the registry last changed."""

    def __init__(self) -> None:
        self.known: dict[str, _Known | None] = {}
        self.right: dict[str, bytes] = {}
