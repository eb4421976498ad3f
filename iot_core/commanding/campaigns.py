"""Runs firmware campaigns: an update is a command `firmware` to a native device, which fetches the image by itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from iot_core.registry import campaigns, commands, firmware
from iot_core.registry.campaigns import CHANNEL, Campaign
from iot_core.registry.commands import New
from iot_core.store.connection import RETRY, outlasting, wake_on

if TYPE_CHECKING:
    import asyncpg

    from iot_core.registry.firmware import Image

__all__ = ["run_campaigns"]

_LOOK_S: Final = 1.0
"""While something runs."""
_IDLE_S: Final = 600.0
_AT_ONCE: Final = 100
"""Updates of one campaign under way: what the uplink of a city bears."""
_LIVES: Final = timedelta(days=1)


async def run_campaigns(pool: asyncpg.Pool) -> None:
    """Run campaigns until cancelled; asleep while there is none."""
    woken = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(wake_on(pool, CHANNEL, woken), name="campaigns listen")
        while True:
            woken.clear()
            wait = _LOOK_S
            with outlasting(*RETRY):
                async with pool.acquire() as connection:
                    wait = await _step(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await woken.wait()


async def _step(connection: asyncpg.Connection) -> float:
    """Take up what became of updates and begin those whose turn it is; say how long nothing will be to do."""
    if not await campaigns.under_way(connection):
        return _IDLE_S
    await campaigns.settle(connection)
    for each in await campaigns.campaigns(connection, running=True):
        room = await campaigns.room(connection, each.id, _AT_ONCE)
        if room > 0:
            image = await firmware.image(connection, each.image_id)
            for device_id in await campaigns.waiting(connection, each.id, room):
                await _begin(connection, each, image, device_id)
    return _LOOK_S


async def _begin(connection: asyncpg.Connection, campaign: Campaign, image: Image, device_id: int) -> None:
    """Order an update and note it, both or neither."""
    params: dict[str, Any] = {
        "url": f"{campaign.base_url}/firmware/{image.id}",
        "model": image.model,
        "version": image.version,
        "size": image.size,
        "sha256": image.sha256.hex(),
        "signature": base64.b64encode(image.signature).decode(),
    }
    async with connection.transaction():
        if not await campaigns.take(connection, campaign.id, device_id):
            return
        order_id, _ = await commands.create(
            connection, "firmware", params, [New(device_id=device_id, presence=True)],
            by=campaign.by, source="firmware", expires_at=datetime.now(UTC) + _LIVES,
        )  # fmt: skip
        (row, *_rest) = await commands.list_commands(connection, order_id=order_id, limit=1)
        await campaigns.note_command(connection, campaign.id, device_id, row.id)
