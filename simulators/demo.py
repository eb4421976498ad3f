"""`iot demo`: a core, a simulated city and a stand-in operations center in one process, and a verdict at the end.

center -> core -> city registered -> city runs -> fire at 10 s -> city rests -> tables settled -> verdict
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from iot_core.app import running_core
from iot_core.cli.times import local
from iot_core.client import Client
from iot_core.errors import NotFoundError
from iot_core.messages import text
from simulators.audit import CommitProbe, Tables
from simulators.bookkeeper import Bookkeeper
from simulators.faults import afflict, told
from simulators.fleet import BURNING, plan
from simulators.hurry import hurried_profiles
from simulators.judge import Cast, Stage, judge
from simulators.ledger import Ledger
from simulators.ports import free_ports
from simulators.receiver import operations_center
from simulators.registration import Memory, Registered, register
from simulators.screen import Figures, Screen
from simulators.signals import ending
from simulators.story import TARGET, CommitEar, Fires, Way, way_of
from simulators.town import Endpoints, Town, running_town
from simulators.verdict import Verdict, by_protocol, percentile, same_values

if TYPE_CHECKING:
    from iot_core.settings import Settings
    from iot_core.state import StateDir
    from simulators.faults import Struck, Wish

__all__ = ["SHORTEST_S", "Options", "run_demo"]

FIRE_AT_S: Final = 10.0
SHORTEST_S: Final = 15
_FIGURES_S: Final = 0.25
_RECEIPT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. `seconds` None: until Ctrl-C."""

    devices: int
    seconds: float | None
    seed: int
    faults: Sequence[Wish] = ()


async def run_demo(options: Options, settings: Settings, state: StateDir, screen: Screen) -> Verdict:
    """Play the demo, and give its verdict."""
    settings = _demo_settings(settings, state)
    with ending() as ended:
        async with (
            operations_center() as center,
            running_core(settings, state, say=screen.line) as core,
            Client(core.url, core.token) as client,
        ):
            command = f"{_program()} --state {shlex.quote(str(state.path))}"
            cast = Cast(core=core, client=client, center=center, screen=screen, ended=ended, command=command)
            return await _play(options, cast, state)


def _program() -> str:
    """Say how a person starts `iot` where it is not on the path."""
    started = Path(sys.argv[0])
    return "iot" if started.name != "iot" or shutil.which("iot") else shlex.quote(str(started.absolute()))


async def _play(options: Options, cast: Cast, state: StateDir) -> Verdict:
    registered = await _prepare(options, cast, state)
    struck = _strike(options, cast.screen, registered)
    await _meet(cast)
    async with _stage(cast, registered, struck) as stage:
        endpoints = Endpoints(mqtt=(cast.core.broker.host, cast.core.broker.port), coap=cast.core.coap)
        async with running_town(registered, endpoints, stage.ledger) as town:
            way = await _run(options, stage, town)
            if burning := [device for device in town.devices if device.key in stage.fires.burning]:
                cast.screen.line(text("demo.put_out"))
                await town.put_out(burning)
            cast.screen.line(text("demo.resting"))
            await town.rest()
            return await judge(stage, way)


def _strike(options: Options, screen: Screen, registered: Registered) -> Struck:
    """Give the city its faults, and say so; the building that burns has none."""
    able = [device for device in registered.devices if device.plan.building != BURNING.key]
    struck = afflict(able, options.faults, options.seed)
    for line in told(struck):
        screen.line(line)
    return struck


async def _prepare(options: Options, cast: Cast, state: StateDir) -> Registered:
    """Register the city, and take over what an earlier run left."""
    client, screen = cast.client, cast.screen
    planned = plan(cast.core.profiles, devices=options.devices, seed=options.seed)
    memory = Memory.read(state.path)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    try:
        registered = await register(client, planned, memory, run=run, sole=True)
    finally:
        memory.write(state.path)
    if registered.retired:
        screen.line(text("demo.retired", devices=registered.retired))
    ours = {device.key for device in registered.devices}
    old = [alarm for alarm in (await client.alarms(limit=10_000)).items if alarm.device in ours]
    for alarm in old:
        await client.acknowledge(alarm.id)
    if old:
        screen.line(text("demo.old_alarms", alarms=len(old)))
    count = Counter(device.plan.voice.protocol for device in registered.devices)
    wards = len({device.plan.ward for device in registered.devices})
    screen.line(text("demo.registered", devices=len(registered.devices), wards=wards, **by_protocol(count)))
    return registered


async def _meet(cast: Cast) -> None:
    """Make the operations center the place where simulated alarms go."""
    with suppress(NotFoundError):
        await cast.client.remove_push(TARGET)
    added = await cast.client.add_push(TARGET, cast.center.url, accepts_simulated=True)
    cast.center.secret = added.secret
    cast.screen.line(text("demo.center", url=cast.center.url))


@asynccontextmanager
async def _stage(cast: Cast, registered: Registered, struck: Struck) -> AsyncIterator[Stage]:
    core = cast.core
    classes, ledger, since = core.profiles.classes, Ledger(), datetime.now(UTC)
    class_of = {device.key: device.plan.class_key for device in registered.devices}
    async with AsyncExitStack() as stack:

        async def tables() -> Tables:
            connection = await stack.enter_async_context(_connection(core.dsn))
            made = Tables(connection, classes, registered.devices, since)
            await made.know()
            return made

        books_tables, probe_tables, story_tables = await tables(), await tables(), await tables()
        same = {key: same_values(classes[class_key]) for key, class_key in class_of.items()}
        books = Bookkeeper(books_tables, ledger, same, since)
        ear = CommitEar()
        await ear.listen(await stack.enter_async_context(_connection(core.dsn)))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [
            group.create_task(books.run(), name="demo books"),
            group.create_task(CommitProbe(probe_tables, class_of, ledger).run(classes), name="demo probe"),
        ]
        stack.callback(lambda: [task.cancel() for task in tasks])
        yield Stage(
            cast=cast,
            registered=registered,
            struck=struck,
            ledger=ledger,
            tables=story_tables,
            books=books,
            fires=Fires(ledger),
            ear=ear,
            since=since,
        )


async def _run(options: Options, stage: Stage, town: Town) -> Way | None:
    """Let the city live its time: quiet, then the fire, then whatever a person does."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    page = await stage.cast.client.sign_in_code()
    stage.cast.screen.line(text("demo.page", url=stage.cast.core.url, code=page.code))
    stage.cast.screen.line(text("demo.running", second=f"{FIRE_AT_S:.0f}", building=BURNING.name))
    way: asyncio.Task[Way] | None = None
    told = False
    try:
        while not stage.cast.ended.is_set() and (options.seconds is None or loop.time() - start < options.seconds):
            if way is None and loop.time() - start >= FIRE_AT_S:
                way = _ignite(stage, town, loop.time() - start)
            if way is not None and way.done() and not told:
                told = True
                await _tell(stage, way.result())
            _show(stage, loop.time() - start)
            await stage.cast.ended.wait_for(_FIGURES_S)
        if way is not None and not told:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECEIPT_S):
                    await _tell(stage, await way)
        return way.result() if way is not None and way.done() and not way.cancelled() else None
    finally:
        if way is not None:
            way.cancel()


def _ignite(stage: Stage, town: Town, second: float) -> asyncio.Task[Way]:
    at = datetime.now(UTC)
    burning = town.ignite(BURNING.key, at)
    stage.fires.begin(burning, at)
    stage.cast.screen.line(text("demo.fire", second=f"{second:.0f}", building=BURNING.name, detectors=len(burning)))
    story = way_of(stage.cast.center, stage.tables, stage.fires, stage.ear, stage.since)
    return asyncio.create_task(story, name="demo story")


def _show(stage: Stage, second: float) -> None:
    stage.cast.screen.figures(
        Figures(
            second=second,
            devices=by_protocol(Counter(device.plan.voice.protocol for device in stage.registered.devices)),
            published=by_protocol(stage.ledger.published),
            commit_ms=percentile(stage.ledger.committed_ms, 0.5),
            received=len(stage.cast.center.raised()),
        )
    )


async def _tell(stage: Stage, way: Way) -> None:
    """Print the alarm's way, and on it what a person can do now."""
    line, ms = stage.cast.screen.line, way.ms
    line(text("demo.way", device=way.device, rule=way.rule))
    line(text("demo.way_sent", time=local(way.sent, millis=True),
              seconds=f"{(way.sent - way.ignited).total_seconds():.1f}"))  # fmt: skip
    line(text("demo.way_received", ms=f"{ms(way.received):.1f}"))
    line(text("demo.way_written", ms=f"{ms(way.alarm_written):.1f}"))
    line(text("demo.way_outbox", ms=f"{ms(way.outbox_written):.1f}"))
    if way.committed is not None:
        line(text("demo.way_committed", ms=f"{ms(way.committed):.1f}"))
    line(text("demo.way_receipt", ms=f"{ms(way.receipt):.1f}"))
    if stage.cast.screen.watched:
        alarms = await stage.cast.client.alarms(device=way.device)
        _try(stage, way.device, alarms.items[0].id if alarms.items else 0)


def _try(stage: Stage, device: str, alarm: int) -> None:
    """Say what to type in a second terminal."""
    stage.cast.screen.line(text("demo.try"))
    for command in (
        f"device show {device}",
        f"alarm ack {alarm}",
        f"telemetry get {device} --output csv",
        "page",
    ):
        stage.cast.screen.line(f"  {stage.cast.command} {command}")


def _demo_settings(settings: Settings, state: StateDir) -> Settings:
    """Place every listener on a free loopback port, poll often, and let alarms go to our own center."""
    replace = msgspec.structs.replace
    api, mqtt, coap = free_ports()
    return replace(
        settings,
        profiles=settings.profiles or str(hurried_profiles(state.path / "profiles")),
        api=replace(settings.api, host="127.0.0.1", port=api),
        mqtt=replace(settings.mqtt, host="127.0.0.1", port=mqtt),
        coap=replace(settings.coap, host="127.0.0.1", port=coap),
        push=replace(settings.push, allow_private=True),
    )


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "iot demo"})
    try:
        yield connection
    finally:
        await connection.close()
