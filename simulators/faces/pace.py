"""When a device speaks: on its beat, or at once when a detector has decided something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from simulators.device import Message, SimDevice, now_ms
from simulators.physics.chance import seeded, uniform

GLANCE_S = 0.25
"""How often a detector looks at its chamber."""
_DECISIONS = ("smoke", "heat", "co_alarm")
Clock = Callable[[], datetime]


async def spoken(device: SimDevice, every: float, stop: asyncio.Event, clock: Clock = now_ms) -> AsyncIterator[Message]:
    """Give a device's messages until `stop`: one a beat, and at once what a detector has decided."""
    loop = asyncio.get_running_loop()
    due = loop.time() + every * uniform(seeded(0, device.key), "phase")
    decided: tuple[object, ...] | None = None
    watches = device.plan.class_key == "fire_detector"
    while not await _passed(stop, min(due - loop.time(), GLANCE_S) if watches else due - loop.time()):
        now = clock()
        if watches:
            values = device.physics.at(now)
            decision = tuple(values[key] for key in _DECISIONS)
            news = decided is not None and decision != decided
            decided = decision
            if loop.time() < due and not news:
                continue
        for message in device.messages(now):
            yield message
        due = max(due + every, loop.time())
    for message in device.last_words():
        yield message


async def _passed(stop: asyncio.Event, seconds: float) -> bool:
    """Wait; say whether it was `stop` that came."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True
