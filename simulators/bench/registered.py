"""A registry with a city in it: provinces, wards, and devices of three classes in them; the first ones are lamps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import asyncpg

from iot_core.api import shapes
from simulators.bench import Say
from simulators.bench.stage import Stage

__all__ = ["LAMPS_SELECTOR", "WARD", "populate"]

_PROVINCES: Final = 10
_WARDS: Final = 100
WARD: Final = "Phường Hạ Long"
"""The name of each ward, with its number."""
_LABEL: Final = "bench-lamp"
LAMPS_SELECTOR: Final = f"label={_LABEL}"
_CLASSES: Final = (
    ("sl", "streetlight", "Đèn đường"),
    ("wm", "water-meter", "Đồng hồ nước"),
    ("aq", "air-quality", "Trạm"),
)
_STATISTICS: Final = "VACUUM ANALYZE iot.area, iot.device, iot.unit, iot.device_status"


async def populate(stage: Stage, number: int, lamps: int, say: Say) -> list[tuple[str, str]]:
    """Register areas and devices; give the keys and secrets of the lamps."""
    say("bench_registry.step_areas", 0.0)
    await stage.client.import_areas(shapes.AreaImport(areas=tuple(_areas())))
    accounts: list[tuple[str, str]] = []
    for first in range(0, number, shapes.MAX_BATCH):
        say("bench.step_register", first / number)
        numbers = range(first, min(first + shapes.MAX_BATCH, number))
        added = await stage.client.add_devices([_device(n, lamp=n < lamps) for n in numbers])
        accounts += [(each.device.key, each.secret or "") for each in added.items[: max(lamps - first, 0)]]
    connection = await asyncpg.connect(stage.dsn)
    try:
        await connection.execute(_STATISTICS, timeout=300)  # as autovacuum does, which looks once a minute
    finally:
        await connection.close()
    return accounts


def _areas() -> Iterator[shapes.AreaNew]:
    for province in range(_PROVINCES):
        yield shapes.AreaNew(key=f"province-{province}", name=f"Tỉnh {province}", kind="province")
    for ward in range(_WARDS):
        yield shapes.AreaNew(
            key=f"ward-{ward}", name=f"{WARD} {ward}", kind="ward", parent=f"province-{ward % _PROVINCES}"
        )


def _device(number: int, *, lamp: bool) -> shapes.DeviceNew:
    short, device_class, name = _CLASSES[0 if lamp else number % len(_CLASSES)]
    ward = number % _WARDS
    return shapes.DeviceNew(
        key=f"{short}-{number:06}",
        name=f"{name} {number}",
        profile=f"native-{device_class}",
        area=f"ward-{ward}",
        serial=f"S{number * 7919 % 10**9:09}",
        latitude=round(20.9 + ward / 1_000 + number % 97 / 10**5, 5),
        longitude=round(107.0 + ward / 1_000 + number % 89 / 10**5, 5),
        labels=(_LABEL,) if lamp else (),
        simulated=True,
    )
