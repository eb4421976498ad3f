"""`iot bench registry`: what people and a fresh core wait for when a whole city is registered.

ask -> import a file, twice -> let claims in -> stop, start -> lamps connect -> command them
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg
import msgspec

from iot_core.api import shapes
from iot_core.errors import StartError
from simulators.bench import Say
from simulators.bench.arriving import import_file, let_in, let_in_over_mqtt
from simulators.bench.beside import beside
from simulators.bench.lamps import Fleet
from simulators.bench.registered import LAMPS_SELECTOR, populate
from simulators.bench.report import percentiles, report
from simulators.bench.stage import EMBEDDED, Stage, core, database, scratch
from simulators.ports import free_port

__all__ = ["TARGETS", "Options", "run"]

TARGETS: Final = {
    "ask_ms": 150.0, "import_s": 20.0, "claims_s": 10.0, "start_s": 10.0, "presence_s": 2.0, "command_s": 10.0,
}  # fmt: skip
"""At most: p95 of each question, then the file, the claims (until all wait, and from a person's word until all have
their secrets), the start, the slowest lamp's presence, the command."""
_LAMPS: Final = "simulators.bench.lamps"
_CONNECTS_A_SECOND: Final = 100.0
_PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.05
_ONLINE: Final = """
SELECT d.key FROM iot.device_status s JOIN iot.device d ON d.id = s.device_id WHERE s.online AND d.key = ANY($1)
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    devices: int = 100_000
    lamps: int = 1_000
    rows: int = 10_000
    claims: int = 1_000
    times: int = 20
    store: str = EMBEDDED


async def run(options: Options, say: Say) -> dict[str, Any]:
    """Measure; `ok` when everything is within its target, and nothing was done twice or to the wrong one."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch())
        say("bench.step_start", 0.0)
        dsn = await stack.enter_async_context(database(folder, options.store))
        async with core(folder, dsn, {"IOT_CLAIMS_PORT": str(free_port())}) as stage:
            accounts = await populate(stage, options.devices, options.lamps, say)
            keys = [key for key, _ in accounts]
            asked = await _ask(stage, options, say)
            imported = await import_file(stage, options.rows, say) if options.rows else {}
            claimed = await let_in(stage, options.claims, say) if options.claims else {}
            claimed_mqtt = await let_in_over_mqtt(stage, options.claims, say) if options.claims else {}
            fleet = Fleet("127.0.0.1", stage.mqtt_port, tuple(accounts), _CONNECTS_A_SECOND)
            async with beside(_LAMPS, fleet) as lamps:
                await _presence(stage, lamps, keys, say)
                versions = await stage.versions()
        say("bench_registry.step_start", 0.0)
        async with core(folder, dsn) as stage:
            start_s, unknown = stage.start_s, not await _online(stage, keys)
            async with beside(_LAMPS, msgspec.structs.replace(fleet, port=stage.mqtt_port)) as lamps:
                presence, early = await _presence(stage, lamps, keys, say)
                command_s, states = await _command(stage, len(accounts), say)
            memory = stage.memory_peak_mb()
    worst = {
        kind: max(each["p95"] for name, each in asked.items() if name.startswith(kind))
        for kind in ("list", "search", "show")
    }
    ok = (
        max(worst.values()) <= TARGETS["ask_ms"]
        and imported.get("first_s", 0.0) <= TARGETS["import_s"]
        and imported.get("again_changes", 0) == 0
        and max(_worst(claimed), _worst(claimed_mqtt)) <= TARGETS["claims_s"]
        and start_s <= TARGETS["start_s"]
        and unknown and early == 0 and presence["max"] <= TARGETS["presence_s"]
        and command_s <= TARGETS["command_s"] and states == {"succeeded": len(accounts)}
    )  # fmt: skip
    return report(
        "registry", options, ok=ok, versions=versions, worst_p95_ms=worst, ask_ms=asked, imported=imported,
        claimed=claimed, claimed_mqtt=claimed_mqtt, start_s=start_s, unknown_until_connected=unknown,
        online_before_connected=early, presence_s=presence, command_s=command_s, command_states=states,
        memory_peak_mb=memory, targets=TARGETS,
    )  # fmt: skip


def _worst(claimed: dict[str, float]) -> float:
    return max((claimed[part] for part in ("claim_s", "all_s") if part in claimed), default=0.0)


# ---------------------------------------------------------------- questions
async def _ask(stage: Stage, options: Options, say: Say) -> dict[str, dict[str, float]]:
    client, last = stage.client, options.devices - 1
    questions: dict[str, Callable[[int], Awaitable[object]]] = {
        "list": lambda _: client.devices(limit=100),
        "list_last_page": lambda _: client.devices(limit=100, after=f"wm-{max(last - 300, 0):06}"),
        "list_class_and_area": lambda n: client.devices(class_key="streetlight", area=f"ward-{n}", limit=100),
        "list_province": lambda n: client.devices(area=f"province-{n % 10}", limit=100),
        "list_silent": lambda _: client.devices(state=shapes.DeviceState.SILENT, limit=100),
        "search_name": lambda n: client.devices(search=f"tram {n * 3 + 2}", limit=100),
        "search_area": lambda n: client.devices(search=f"ha long {n}", limit=100),
        "search_serial": lambda n: client.devices(search=f"s{n * 7919 % 10**9:09}", limit=100),
        "search_nothing": lambda n: client.devices(search=f"khong co {n}", limit=100),
        "show": lambda n: client.device(f"sl-{n:06}"),
    }
    took = {}
    for number, (name, question) in enumerate(questions.items()):
        say("bench_registry.step_ask", number / len(questions))
        times = []
        for n in range(options.times):
            began = time.perf_counter()
            await question(n)
            times.append((time.perf_counter() - began) * 1000)
        took[name] = percentiles(times)
    return took


# ---------------------------------------------------------------- lamps
async def _presence(
    stage: Stage, lamps: asyncio.StreamReader, keys: Sequence[str], say: Say
) -> tuple[dict[str, float], int]:
    """Give how long after its word each lamp counted as online, and how many counted so before they connected."""
    began: dict[str, float] = {}
    said: dict[str, float] = {}
    seen: dict[str, float] = {}
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(lamps, began, said, len(keys)))
        while not listening.done() or len(seen) < len(keys):
            online = await _online(stage, keys)
            now = time.monotonic()
            for key in online:
                seen.setdefault(key, now)
            say("bench_registry.step_presence", len(seen) / len(keys))
            await asyncio.sleep(_LOOK_S)
    late = [max(seen[key] - at, 0.0) for key, at in said.items()]
    return percentiles(late, digits=2), sum(seen[key] < at for key, at in began.items())


async def _listen(lamps: asyncio.StreamReader, began: dict[str, float], said: dict[str, float], number: int) -> None:
    while len(said) < number:
        line = (await lamps.readline()).decode().split()
        if not line:
            raise StartError("bench.publisher_failed", exit_code=1)
        key, connecting, online = line
        began[key], said[key] = float(connecting), float(online)


async def _online(stage: Stage, keys: Sequence[str]) -> list[str]:
    connection = await asyncpg.connect(stage.dsn)
    try:
        return [row["key"] for row in await connection.fetch(_ONLINE, list(keys))]
    finally:
        await connection.close()


async def _command(stage: Stage, number: int, say: Say) -> tuple[float, dict[str, int]]:
    """Dim all lamps by one order; give the seconds until none is under way, and what became of them."""
    began = time.perf_counter()
    order = await stage.client.order_command(
        shapes.OrderNew(name="dim", params={"level": 40}, where=LAMPS_SELECTOR, ttl_s=_PATIENCE_S)
    )
    assert order.number is not None
    while True:
        order = await stage.client.command_order(order.number or 0)
        states = {state: many for state, many in order.states.items() if many}
        over = sum(states.get(state, 0) for state in ("succeeded", "failed", "expired"))
        say("bench_registry.step_command", over / number)
        if over >= number or time.perf_counter() - began > _PATIENCE_S:
            return round(time.perf_counter() - began, 2), states
        await asyncio.sleep(_LOOK_S)
