"""Bridges (Zigbee2MQTT, a network server): devices whose login may speak everywhere below some topics.

What they carry of devices that nobody registered is heard, and waits in the inbox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from iot_core.errors import NotFoundError, RequestError
from iot_core.registry.audit import Change, record

if TYPE_CHECKING:
    import asyncpg

__all__ = ["set_topics", "topic_of"]

_TOPIC: Final = re.compile(r"[^+#\x00-\x20$/][^+#\x00-\x1f]{0,200}")
_DEVICE: Final = "SELECT id FROM iot.device WHERE key = $1 AND retired_at IS NULL FOR UPDATE"
_HAVE: Final = "SELECT topic FROM iot.bridge WHERE device_id = $1 ORDER BY topic"
_CLEAR: Final = "DELETE FROM iot.bridge WHERE device_id = $1 AND NOT topic = ANY($2)"
_ADD: Final = """
INSERT INTO iot.bridge (device_id, topic) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING
"""


def topic_of(said: str) -> str:
    """Read `zigbee2mqtt` or `zigbee2mqtt/#`. Raises RequestError for what is ours, the broker's, or everybody's.

    Below iot/alarms, where push targets on our own broker are told, a login may be let listen.
    """
    topic = said.removesuffix("/#").rstrip("/")
    if not _TOPIC.fullmatch(topic) or (topic.partition("/")[0] == "iot" and not f"{topic}/".startswith("iot/alarms/")):
        raise RequestError("secret.bad_bridge_topic", topic=said)
    return topic


async def set_topics(connection: asyncpg.Connection, key: str, topics: Sequence[str], *, by: str) -> list[str]:
    """Say below which topics a device's login may speak, instead of before; give them as they are kept."""
    wanted = sorted({topic_of(each) for each in topics})
    async with connection.transaction():
        device_id = await connection.fetchval(_DEVICE, key)
        if device_id is None:
            raise NotFoundError("registry.no_device", key=key)
        before = [row["topic"] for row in await connection.fetch(_HAVE, device_id)]
        if before != wanted:
            await connection.execute(_CLEAR, device_id, wanted)
            await connection.execute(_ADD, device_id, wanted)
            change = Change(f"device/{key}", before={"bridge": before}, after={"bridge": wanted})
            await record(connection, by, "device.bridge", change)
    return wanted
