"""The core is killed again and again, at random and between every two steps, while detectors burn."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from typing import Any, Final

import psutil

from iot_core.errors import StartError
from simulators.bench import Say
from simulators.bench.alarm_ground import Ground, Speaker, detectors, ground, running, speaker, until
from simulators.bench.killed import POINTS

__all__ = ["kills"]

_EACH: Final = 4
"""Detectors that burn in one life of the core."""
_LIFE_S: Final = 3.0
"""A core that never comes to its point for so long is killed from outside."""
_LONGEST_S: Final = 0.5
"""Of a life that ends at random, after its first fire."""
_PATIENCE_S: Final = 60.0
_RAISED: Final = """
SELECT count(*) FROM (SELECT device_id FROM iot.alarm WHERE rule = 'fire_detector.smoke' GROUP BY 1 HAVING count(*) = 1)
"""
_ALARMS: Final = "SELECT count(*) FROM iot.alarm WHERE rule = 'fire_detector.smoke'"


async def kills(store: str, number: int, say: Say) -> dict[str, Any]:
    """`ok` when each fire has one alarm and a receipt, and what came twice had the same id."""
    chance = random.Random(number)  # the same lives on every run
    lives: list[str | None] = [
        POINTS[n % len(POINTS)] if n % 2 == 0 or n < len(POINTS) else None for n in range(number)
    ]
    at_points = 0
    async with ground(store) as place, speaker(place) as speaks:
        async with running(place) as stage:
            await place.told(stage)
            keys = await detectors(stage, _EACH * number, say)
        for life, point in enumerate(lives):
            say("bench_alarms.step_kill", life / number)
            mine = keys[_EACH * life : _EACH * (life + 1)]
            at_points += await _live(place, speaks, mine, point, chance)
        async with running(place):

            async def all_told() -> bool:
                return await place.value(_ALARMS) >= len(keys) and not await place.backlog("center")

            await until(all_told, _PATIENCE_S)
            alarms, single = await place.value(_ALARMS), await place.value(_RAISED)
    told = {data.device.key for each in place.center.raised() if (data := each.said.data).device is not None}
    ids: dict[tuple[int, str], set[str]] = defaultdict(set)
    for each in place.center.receipts:
        if each.said.data.alarm is not None:
            ids[each.said.data.alarm.id, each.said.type].add(each.id)
    doubled = sum(len(found) > 1 for found in ids.values())
    lost, silent = len(keys) - single, len(set(keys) - told)
    return {
        "ok": lost == silent == doubled == 0 and alarms == len(keys),
        "kills": number, "at_fault_points": at_points, "points": len(POINTS), "fires": len(keys),
        "lost": lost, "without_receipt": silent, "doubles_with_another_id": doubled,
        "repeated_with_the_same_id": sum(each.again for each in place.center.receipts),
    }  # fmt: skip


async def _live(place: Ground, speaks: Speaker, keys: list[str], point: str | None, chance: random.Random) -> bool:
    """Let a core live, burn, and be killed; say whether it came to its fault point."""
    program = ("iot_core.cli",) if point is None else ("simulators.bench.killed", point, str(chance.randint(1, 3)))
    killed = False
    with suppress(StartError):  # it may have had enough to do on its way up to die there
        async with running(place, program) as stage:
            for key in keys:
                await speaks.say(key, "smoke")
            if point is None:
                await asyncio.sleep(chance.uniform(0, _LONGEST_S))
            killed = point is not None and await _ends(stage.process, _LIFE_S)
            if not killed:
                stage.process.kill()
                await _ends(stage.process, _LIFE_S)
            return killed
    for key in keys:  # not said yet
        if (key, "smoke") not in speaks.said:
            await speaks.say(key, "smoke")
    return True


async def _ends(process: psutil.Process, within_s: float) -> bool:
    async def ended() -> bool:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    with suppress(psutil.NoSuchProcess):
        return await until(ended, within_s) is not None
    return True
