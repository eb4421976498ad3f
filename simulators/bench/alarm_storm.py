"""A district without power: 5,000 alarms of one cause at once, and fires in the middle of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from iot_core.api import shapes
from simulators.bench import Say
from simulators.bench.alarm_ground import LEVEL, detectors, ground, level_rule, running, speaker, until
from simulators.bench.ingest import logins, publishing
from simulators.bench.publisher import Load
from simulators.bench.report import percentiles
from simulators.bench.stage import Stage
from simulators.bench.stations import spoken

__all__ = ["storm"]

_WARD: Final = "ward-1"
_FIRES: Final = 20
_FIRE_EVERY_S: Final = 0.1
_MOST_S: Final = 10.0
_MOST_MS: Final = 300.0
_PATIENCE_S: Final = 60.0
_INSIDE: Final = "SELECT count(*) FROM iot.alarm WHERE rule = $1 AND incident_id IS NOT NULL"


async def storm(store: str, alarms: int, say: Say) -> dict[str, Any]:
    """`ok` when all are inside one incident, nothing waits, and the screen shows the fires and it, in time."""
    async with ground(store) as place, running(place) as stage:
        await place.told(stage)
        accounts = await _district(stage, alarms, say)
        await spoken(stage)
        await level_rule(stage)
        keys = await detectors(stage, _FIRES, say)
        load = Load(
            "127.0.0.1", place.mqtt_port, logins(accounts), _PATIENCE_S, burst=1, says=('"co2":2000',)
        )  # fmt: skip
        async with speaker(place) as speaks, publishing(load) as (sent, numbers):
            began = time.perf_counter()
            numbers.write(b"%d\n" % alarms)
            numbers.close()
            for key in keys:
                say("bench_alarms.step_storm", (time.perf_counter() - began) / _MOST_S)
                await speaks.say(key, "smoke")
                await asyncio.sleep(_FIRE_EVERY_S)

            async def quiet() -> bool:
                say("bench_alarms.step_storm", (time.perf_counter() - began) / _MOST_S)
                if await place.value(_INSIDE, LEVEL) < alarms or await place.backlog("center"):
                    return False
                shown = [each.rule for each in (await stage.client.alarms(limit=200)).items]
                return len(shown) == _FIRES + 1 and LEVEL not in shown

            found = await until(quiet, _PATIENCE_S)
            took = None if found is None else time.perf_counter() - began
            await sent
        incidents = await place.value("SELECT count(*) FROM iot.alarm WHERE rule = $1", f"incident.{LEVEL}")
        inside = await place.value(_INSIDE, LEVEL)
        fires = percentiles(speaks.latencies_ms(place.center))
        receipts = place.center.receipts
    return {
        "ok": took is not None and took < _MOST_S and incidents == 1 and fires.get("p99", _MOST_MS + 1) <= _MOST_MS,
        "alarms": alarms, "inside": inside, "incidents": incidents, "quiet_s": None if took is None else round(took, 1),
        "receipts": len(receipts), "fires": len(speaks.latencies_ms(place.center)), "fire_to_receipt_ms": fires,
    }  # fmt: skip


async def _district(stage: Stage, number: int, say: Say) -> list[tuple[str, str]]:
    await stage.client.import_areas(
        shapes.AreaImport(areas=(
            shapes.AreaNew(key="province-1", name="Tỉnh 1", kind="province"),
            shapes.AreaNew(key=_WARD, name="Phường 1", kind="ward", parent="province-1"),
        ))
    )  # fmt: skip
    keys = [f"bench-{n:06}" for n in range(number)]
    for first in range(0, number, shapes.MAX_BATCH):
        say("bench.step_register", first / number)
        some = keys[first : first + shapes.MAX_BATCH]
        await stage.client.add_devices([
            shapes.DeviceNew(key=key, profile="native-air-quality", area=_WARD, simulated=True) for key in some
        ])  # fmt: skip
    return [(key, "-") for key in keys]  # the broker lets everyone in
