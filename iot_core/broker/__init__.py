"""The MQTT broker: one that we start (Mosquitto, else the embedded one), or one elsewhere that asks us who may speak.

auto ----- Mosquitto 2 installed? -- yes --> Mosquitto   accounts and topic rights from the registry
                                   `- no --> Embedded    loopback only, nobody is asked for a password
external ------------------------------> External        asks POST /broker/auth and /broker/acl (answers.py)
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from iot_core.broker import mosquitto
from iot_core.broker.base import Broker
from iot_core.broker.embedded import Embedded
from iot_core.broker.external import External
from iot_core.broker.mosquitto import Mosquitto
from iot_core.errors import StartError
from iot_core.state import start_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from iot_core.profiles import Profiles
    from iot_core.settings import Settings
    from iot_core.state import StateDir

__all__ = ["Broker", "Embedded", "External", "Mosquitto", "running"]


@asynccontextmanager
async def running(settings: Settings, state: StateDir, pool: asyncpg.Pool, profiles: Profiles) -> AsyncIterator[Broker]:
    """Have a broker while the block runs; one that a killed core left behind is adopted. Raises StartError.

    `watch` of what is given must run meanwhile. At the end the broker is stopped, and keeps what it holds for us.
    """
    try:
        broker = await _choose(settings, state, pool, profiles)
    except OSError as exc:
        raise start_error(exc, state.path) from exc
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()


async def _choose(settings: Settings, state: StateDir, pool: asyncpg.Pool, profiles: Profiles) -> Broker:
    wanted = settings.mqtt.broker
    if wanted == "external":
        return External(settings.mqtt)
    program = None if wanted == "embedded" else await mosquitto.installed()
    if program is not None:
        return Mosquitto(settings.mqtt, state, pool, profiles, program)
    if wanted == "mosquitto":
        raise StartError("broker.no_mosquitto")
    return Embedded(settings.mqtt, state, pool)
