"""Many transitions: how many a second with push, and how a target that was down gets what waited for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final

from simulators.bench import Say
from simulators.bench.alarm_ground import Ground, Speaker, detectors, ground, level_rule, running, speaker, until
from simulators.bench.ingest import logins, publishing
from simulators.bench.publisher import Load
from simulators.bench.report import percentiles
from simulators.bench.stage import Stage
from simulators.bench.stations import register, spoken
from simulators.ports import free_port
from simulators.receiver import Center, operations_center

__all__ = ["drain", "transitions"]

_STATIONS: Final = 1_000
_UP_AND_DOWN: Final = ('"co2":2000', '"co2":400')
_AHEAD: Final = 4_000
"""Transitions that may be published and not yet be received: no backlog grows behind the figure."""
_LOOK_S: Final = 0.1
_PATIENCE_S: Final = 60.0
_LEAST_PER_S: Final = 2_000
_MOST_DRAIN_S: Final = 60.0
_MOST_MS: Final = 300.0
_FIRES: Final = 20
# As it stands after an hour of tries: each message waits for its own next one, at most five minutes off.
_AN_HOUR_LATER: Final = """
UPDATE iot.outbox o SET created_at = o.created_at - interval '1 hour', attempts = 14, claimed_until = NULL,
    first_tried_at = clock_timestamp() - interval '1 hour', last_error = 'unreachable', last_status = NULL,
    next_at = clock_timestamp() + random() * interval '300 s'
FROM iot.push_target t WHERE t.id = o.target_id AND t.key = 'down' AND o.delivered_at IS NULL
"""


async def transitions(store: str, seconds: float, say: Say) -> dict[str, Any]:
    """Let alarms come and go as fast as they are received; `ok` when that is fast enough and none is missing."""
    async with ground(store) as place, running(place) as stage:
        await place.told(stage)
        accounts = await _stations(stage, _STATIONS, say)
        before = stage.cpu()
        began = time.perf_counter()
        written = await _flow(place, accounts, seconds, say, lambda: len(place.center.receipts) + _AHEAD)

        async def all_there() -> bool:
            return len(place.center.receipts) >= written

        await until(all_there, _PATIENCE_S)
        took = time.perf_counter() - began
        cpu = {name: round(used - before[name], 2) for name, used in stage.cpu().items()}
    received = len({each.id for each in place.center.receipts})
    return {
        "ok": received == written and received / took >= _LEAST_PER_S,
        "transitions": written, "received": received, "per_s": round(received / took), "seconds": round(took, 1),
        "cpu_us_per_transition": {name: round(used / max(received, 1) * 1e6) for name, used in cpu.items()},
    }  # fmt: skip


async def drain(store: str, pending: int, say: Say) -> dict[str, Any]:
    """Keep a target down until `pending` wait for it, let an hour pass by the outbox's clocks, bring it back."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(ground(store))
        stage = await stack.enter_async_context(running(place))
        await place.told(stage)
        port = free_port()
        down = await stage.client.add_push("down", f"http://127.0.0.1:{port}/alarms", accepts_simulated=True)
        fires = await detectors(stage, 2 * _FIRES, say)
        await _flow(place, await _stations(stage, min(_STATIONS, pending), say), _PATIENCE_S, say, lambda: pending)

        async def others_have_all() -> bool:
            return len(place.center.receipts) >= pending

        await until(others_have_all, _PATIENCE_S)
        speaks = await stack.enter_async_context(speaker(place))
        for key in fires[:_FIRES]:
            await speaks.say(key, "smoke")
            await asyncio.sleep(_LOOK_S)
        await place.value(_AN_HOUR_LATER)
        waiting = await place.backlog("down")
        back = await stack.enter_async_context(operations_center(port))
        back.secret = down.secret
        say("bench_alarms.step_drain", 0.0)
        burning = asyncio.create_task(_burn(speaks, fires[_FIRES:]), name="fires")

        async def drained() -> bool:
            say("bench_alarms.step_drain", len(back.receipts) / waiting)
            return await place.backlog("down") == 0

        took = await until(drained, 2 * _MOST_DRAIN_S)
        await burning
        await until(_all(speaks.latencies_ms, place.center, len(fires)), _PATIENCE_S)
        others = percentiles(speaks.latencies_ms(place.center))
    kept, repeated = _in_order(back), sum(each.again for each in back.receipts)
    return {
        "ok": took is not None and took < _MOST_DRAIN_S and kept and others["p99"] <= _MOST_MS and waiting >= pending,
        "pending": waiting, "drained_s": None if took is None else round(took, 1), "in_order": kept,
        "repeated": repeated, "others_uplink_to_receipt_ms": others,
    }  # fmt: skip


async def _stations(stage: Stage, number: int, say: Say) -> list[tuple[str, str]]:
    """Register the stations, without an area, so that nothing is a flood."""
    accounts = await register(stage, number, say)
    await spoken(stage)
    await level_rule(stage)
    return accounts


async def _flow(
    place: Ground, accounts: list[tuple[str, str]], seconds: float, say: Say, allowed: Callable[[], int]
) -> int:
    """Publish transitions for `seconds`, never beyond what is allowed; give how many the core was told."""
    load = Load("127.0.0.1", place.mqtt_port, logins(accounts), seconds, burst=1, says=_UP_AND_DOWN)
    began, most = time.perf_counter(), 0
    async with publishing(load) as (sent, numbers):
        while not sent.done():
            elapsed = time.perf_counter() - began
            say("bench_alarms.step_flow", elapsed / seconds)
            if most != allowed():
                most = allowed()
                numbers.write(b"%d\n" % most)
            elif len(place.center.receipts) >= most:
                numbers.close()
            await asyncio.wait([sent], timeout=_LOOK_S)
        return sent.result().written


async def _burn(speaks: Speaker, keys: list[str]) -> None:
    for key in keys:
        await speaks.say(key, "smoke")
        await asyncio.sleep(_LOOK_S)


def _all(latencies: Callable[[Center], list[float]], center: Center, number: int) -> Callable[[], Any]:
    async def there() -> bool:
        return len(latencies(center)) == number

    return there


def _in_order(center: Center) -> bool:
    """Say whether of each alarm the events came in the order in which they happened."""
    last: dict[int, datetime] = {}
    for each in center.receipts:
        if each.again or each.said.data.alarm is None:
            continue
        number = each.said.data.alarm.id
        if number in last and each.said.timestamp < last[number]:
            return False
        last[number] = each.said.timestamp
    return True
