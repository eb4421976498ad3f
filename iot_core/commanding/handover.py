"""New secrets on their way to devices: opened when a command leaves, in force when the device shows that it has one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from iot_core.errors import CommandRejected, DeviceUnreachable
from iot_core.registry import pending
from iot_core.store.connection import AWAY, RETRY

if TYPE_CHECKING:
    import asyncpg

    from iot_core.model import Command
    from iot_core.store.vault import Vault

__all__ = ["Handover"]

log = structlog.get_logger()

_AGAIN_S: Final = 1.0


class Handover:
    """Knows how to open what is sealed. `overheard`: anybody can listen on the broker, so nothing secret goes there."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, *, overheard: bool) -> None:
        self._pool = pool
        self._vault = vault
        self._overheard = overheard

    async def to_send(self, command: Command, device_key: str) -> Command:
        """Put the secret into a command that goes out by the broker.

        Raises CommandRejected, NotFoundError when none waits any more, DeviceUnreachable while the store is away.
        """
        if self._overheard:
            raise CommandRejected("secret.overheard", key=device_key)
        try:
            return await self.to_give(command, device_key)
        except AWAY as exc:
            raise DeviceUnreachable("broker.not_sent", device=device_key) from exc

    async def to_give(self, command: Command, device_key: str) -> Command:
        """Put the secret into a command that a device fetches by itself. Raises as `pending.clear`."""
        async with self._pool.acquire() as connection:
            secret = await pending.clear(connection, self._vault, device_key)
        return replace(command, params={"secret": secret})

    async def shown(self, device_key: str, proof: str) -> None:
        """Let a secret take over whose digest its device gave; waits for a store that is away."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    if not await pending.shown(connection, self._vault, device_key, proof):
                        log.info("secret.not_shown", device=device_key)
            except (*AWAY, *RETRY) as exc:
                log.warning("secret.store_away", reason=type(exc).__name__)
                await asyncio.sleep(_AGAIN_S)
            else:
                return
