"""`iot bench alarms`: the proof that alarms arrive, part by part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from simulators.bench import Say
from simulators.bench.alarm_cost import cost
from simulators.bench.alarm_fire import fire
from simulators.bench.alarm_flow import drain, transitions
from simulators.bench.alarm_kills import kills
from simulators.bench.alarm_storm import storm
from simulators.bench.report import report
from simulators.bench.stage import EMBEDDED, database, scratch, versions_of

__all__ = ["PARTS", "Options", "run"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `parts`: empty is all of them."""

    parts: tuple[str, ...] = ()
    seconds: float = 20.0
    storm: int = 5_000
    kills: int = 50
    pending: int = 10_000
    devices: int = 6_000
    store: str = EMBEDDED


_PARTS: Final[Mapping[str, Callable[[Options, Say], Awaitable[dict[str, Any]]]]] = {
    "cost": lambda options, say: cost(options.store, options.devices, say),
    "fire": lambda options, say: fire(options.store, options.seconds, say),
    "transitions": lambda options, say: transitions(options.store, options.seconds, say),
    "storm": lambda options, say: storm(options.store, options.storm, say),
    "drain": lambda options, say: drain(options.store, options.pending, say),
    "kills": lambda options, say: kills(options.store, options.kills, say),
}
PARTS: Final = tuple(_PARTS)


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Run the parts, one after the other; each judges itself."""
    chosen = [name for name in PARTS if not options.parts or name in options.parts]
    async with scratch() as folder, database(folder, options.store) as dsn:
        versions = await versions_of(dsn)
    found = {name: await _PARTS[name](options, say) for name in chosen}
    return report("alarms", options, ok=all(each["ok"] for each in found.values()), versions=versions, **found)
