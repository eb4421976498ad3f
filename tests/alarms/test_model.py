"""Random histories of a small city: the core on a real database against the plain telling of tests/alarms/plain.py.

Bounded here. By hand, random and longer:

    IOT_MODEL_EXAMPLES=2000 IOT_MODEL_STEPS=60 IOT_MODEL_SHRINK=1 scripts/test --timeout=0 tests/alarms/test_model.py
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from iot_core.alarms.deeds import Asked, Deed, act
from iot_core.alarms.escalation import walk
from iot_core.alarms.evaluate import Evaluator
from iot_core.alarms.lifecycle import acknowledge
from iot_core.alarms.timers import Pace
from iot_core.errors import ConflictError
from iot_core.model import Quality, Severity
from iot_core.push import chains
from iot_core.push.chain import Chain, Step
from iot_core.push.targets import add
from iot_core.registry.windows import Kind, Window, Windows
from iot_core.settings import Store
from iot_core.store.connection import open_pool
from iot_core.store.partitions import ensure_partitions, week_of
from iot_core.store.tables import ensure_tables
from iot_core.store.tier import Tier
from tests.alarms import plain
from tests.alarms.city import SECOND, T0, City, Model, at
from tests.alarms.plain import PUMP, SMOKE, Alarm, Key, Plain, Refused, Said, Work, class_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from iot_core.model import Observation, Value

EXAMPLES = int(os.environ.get("IOT_MODEL_EXAMPLES", "0"))
DEVICES = ("pump-1", "pump-2", "pump-3", "smoke-1", "smoke-2", "smoke-3")
GATEWAYS = {"pump-2": "pump-1", "smoke-3": "pump-1"}
ZONE = ("smoke-1", "smoke-2")
NOW = Pace(silence=timedelta(0), computed=timedelta(0), grace=timedelta(0), grace_intervals=0)
EMPTY = """
DELETE FROM iot.escalation; DELETE FROM iot.outbox; DELETE FROM iot.rule_state; DELETE FROM iot.alarm_event;
DELETE FROM iot.alarm; DELETE FROM iot.shelf; DELETE FROM iot.device_status; DELETE FROM telemetry.pump;
DELETE FROM telemetry.smoker;
"""
STATES = """
SELECT coalesce(d.key, 'zone') AS source, s.rule, s.state FROM iot.rule_state s
LEFT JOIN iot.device d ON s.source_kind = 'device' AND d.id = s.source_id WHERE s.state <> 'normal'
"""
ALARMS = """
SELECT a.*, CASE WHEN a.source_kind = 'device' THEN d.key ELSE 'zone' END AS source,
    ARRAY(SELECT kind FROM iot.alarm_event e WHERE e.alarm_id = a.id ORDER BY e.id) AS events,
    ARRAY(SELECT o.body->>'type' FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id
        WHERE o.alarm_id = a.id AND t.key = 'ioc' ORDER BY o.id) AS told,
    ARRAY(SELECT t.key FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id
        WHERE o.alarm_id = a.id AND o.body->>'type' IN ('alarm.escalated', 'alarm.open') ORDER BY o.id) AS rung
FROM iot.alarm a LEFT JOIN iot.device d ON d.id = a.device_id ORDER BY a.id
"""
# A chain begins by the database's clock: what began just now is moved to the history's.
ON_TIME = """
UPDATE iot.escalation SET due_at = $1
WHERE due_at BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 hour'
"""


class Known:
    """The classes and the one profile of the city."""

    classes = {PUMP.key: PUMP, SMOKE.key: SMOKE}  # noqa: RUF012 - never changed

    def all(self) -> Sequence[Model]:
        return (Model("quick", timedelta(seconds=plain.INTERVAL)),)


class Bench:
    """What all histories share: a loop, a database with the devices, the ids of those."""

    def __init__(self, runner: asyncio.Runner, city: City, ids: dict[str, int]) -> None:
        self.runner = runner
        self.city = city
        self.ids = ids

    def run(self, work: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(bounded())


async def build(pool: asyncpg.Pool) -> tuple[City, dict[str, int]]:
    async with pool.acquire() as connection:
        tables = await ensure_tables(connection, [PUMP, SMOKE], Tier.PLAIN)
        for key in tables:
            await ensure_partitions(connection, key, [week_of(T0)])
        await connection.execute("INSERT INTO iot.fixed_setting VALUES ('timezone', 'Asia/Ho_Chi_Minh')")
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True, accepts_simulated=True)
        for key in ("duty", "head"):
            await add(connection, key, "http://127.0.0.1:9/", allow_private=True, min_severity=Severity.CRITICAL)
        chain = Chain(
            steps=(Step(after_s=plain.FIRST, target="duty"), Step(after_s=plain.SECOND_AFTER, target="head")),
            repeat_s=plain.AGAIN, remind=("10:20",),
        )  # fmt: skip
        await chains.add(connection, "all", chain, min_severity=Severity.HIGH)
    city = City(pool, tables, Evaluator(Known()))
    ids: dict[str, int] = {}
    for device in DEVICES:
        gateway = ids.get(GATEWAYS.get(device, ""))
        ids[device] = await city.device(device, class_of(device), gateway_id=gateway)
    zone = await pool.fetchval(
        "INSERT INTO iot.area (key, name, kind) VALUES ('zone', 'Zone', 'fire_zone') RETURNING id"
    )
    await pool.execute("UPDATE iot.device SET area_id = $1 WHERE key = ANY($2)", zone, list(ZONE))
    return city, ids


def messages() -> st.SearchStrategy[list[tuple[str, int, dict[str, Any]]]]:
    """Draw what devices say at once: who, seconds since it was measured (below 0: a clock that is ahead), what."""
    pump = st.fixed_dictionaries(
        {},
        optional={
            "level": st.sampled_from([10, 18, 25, 35, 45, 55, 65]),
            "pressure": st.sampled_from([2, 3, 5]),
            "valve": st.sampled_from(["shut", "open", "stuck"]),
        },
    )
    smoke = st.fixed_dictionaries({}, optional={"smoke": st.booleans(), "button": st.just(True)})
    ago = st.sampled_from([0, 0, 0, 0, 1, 5, 20, 45, 70, 130, 260, -20])
    one = st.one_of(
        st.tuples(st.sampled_from(DEVICES[:3]), ago, pump), st.tuples(st.sampled_from(DEVICES[3:]), ago, smoke)
    )
    return st.lists(one.filter(lambda each: bool(each[2])), min_size=1, max_size=4, unique_by=lambda each: each[:2])


class Histories(RuleBasedStateMachine):
    """The core and the plain telling live through the same; after each step they must agree on all that is seen."""

    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.city = self.bench.city
        self.plain = Plain(GATEWAYS, ZONE)
        self.said: list[list[Said]] = []
        self.windows = 0
        self.city.now = T0
        self.run(self.city.pool.execute(EMPTY))
        self.start()

    def run(self, work: Awaitable[Any]) -> Any:
        return self.bench.run(work)

    def start(self) -> None:
        """Begin with nothing in memory, as after a SIGKILL."""
        self.workers = [Evaluator(Known()), Evaluator(Known())]
        for each in self.workers:
            self.run(self.with_connection(each.load))
            each.window = self.window
        self.city.evaluator = self.workers[0]
        self.timers = self.city.timers(NOW)
        self.plain.watching_since = None

    async def with_connection(self, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        async with self.city.pool.acquire() as connection:
            return await work(connection)

    def window(self, device_id: int, moment: Any) -> Window | None:
        devices = {id_: key for key, id_ in self.bench.ids.items()}
        windows = Windows(
            (device_id, Window(each.id, Kind.TEST if each.test else Kind.MAINTENANCE, time(each.start), time(each.end)))
            for each in self.plain.work if each.device == devices[device_id]
        )  # fmt: skip
        return windows.at(device_id, moment)

    def observed(self, batch: Sequence[Said]) -> list[Observation]:
        found: list[Observation] = []
        for each in batch:
            facts: dict[str, Any] = {"class_key": class_of(each.device), **each.values}
            if not each.usable:
                facts["quality"] = Quality.CALIBRATION
            found.append(at(self.bench.ids[each.device], each.time, each.received, **facts))
        return found

    def arrive(self, batch: list[Said]) -> None:
        self.run(self.city.flush(*self.observed(batch)))
        self.plain.hear(batch)

    # ---------------------------------------------------------------- what can happen
    @rule(drawn=messages(), later=st.sampled_from([0, 1, 3, 11, 29, 61]))
    def speak(self, drawn: list[tuple[str, int, dict[str, Any]]], later: int) -> None:
        self.later(later)
        now = self.plain.now
        batch = [Said(device, now - ago, now, values, usable=(now - ago) % 13 != 5) for device, ago, values in drawn]
        self.said.append(batch)
        self.arrive(batch)

    @rule(later=st.sampled_from([1, 4, 12, 31, 62, 95, 175, 185, 310]), looked=st.booleans())
    def pass_time(self, later: int, *, looked: bool) -> None:
        self.later(later)
        if looked:
            self.look()

    def later(self, later: int) -> None:
        self.plain.now += later
        self.city.now = time(self.plain.now)

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0, 10_000), merged=st.booleans())
    def replay(self, which: int, merged: bool) -> None:
        """Messages come again: alone, or together with another one."""
        batches = [self.said[which % len(self.said)], *([self.said[-1]] if merged else [])]
        once = {(each.device, each.time): each for batch in batches for each in batch}
        self.arrive([
            Said(each.device, each.time, self.plain.now, each.values, each.usable) for each in once.values()
        ])  # fmt: skip

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0, 10_000), level=st.sampled_from([10, 55]), smoke=st.booleans())
    def contradict(self, which: int, level: int, smoke: bool) -> None:
        """Somebody says something else of a moment that was told of: the first one stands."""
        first = self.said[which % len(self.said)][0]
        values: dict[str, Value] = {"level": level} if class_of(first.device) == "pump" else {"smoke": smoke}
        self.arrive([Said(first.device, first.time, self.plain.now, values, first.usable)])

    @rule()
    def restart(self) -> None:
        self.start()

    @rule()
    def other_worker(self) -> None:
        """The next messages reach another worker, whose memory may be old."""
        self.workers.reverse()
        self.city.evaluator = self.timers.evaluator = self.workers[0]
        self.run(self.with_connection(self.city.evaluator.refresh))

    @rule(drawn=messages(), after=st.booleans())
    def killed(self, drawn: list[tuple[str, int, dict[str, Any]]], after: bool) -> None:
        """The core dies before COMMIT, or after it and before it knows."""
        now = self.plain.now
        batch = [Said(device, now - ago, now, values, usable=(now - ago) % 13 != 5) for device, ago, values in drawn]

        async def die() -> None:
            async with self.city.pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await self.city.write(connection, self.observed(batch))
                await (transaction.commit() if after else transaction.rollback())

        self.run(die())
        if after:
            self.said.append(batch)
            self.plain.hear(batch)
        self.start()

    @rule()
    def look(self) -> None:
        self.run(self.timers.look(healthy=True))
        self.plain.look()

    @rule()
    def compute(self) -> None:
        self.run(self.timers.judge_computed(self.city.now))
        self.plain.compute()

    @rule()
    def climb(self) -> None:
        self.run(self.with_connection(lambda connection: walk(connection, self.city.now)))
        self.plain.climb()

    @rule(device=st.sampled_from(DEVICES), test=st.booleans(), lasts=st.sampled_from([30, 100, 400]))
    def work(self, device: str, test: bool, lasts: int) -> None:
        self.windows += 1
        self.plain.work.append(Work(self.windows, device, self.plain.now, self.plain.now + lasts, test))

    @precondition(lambda self: self.plain.alarms)
    @rule(which=st.integers(0, 10_000), deed=st.sampled_from(["take", "take", *Deed]), more=st.integers(0, 2))
    def person(self, which: int, deed: str, more: int) -> None:
        """Somebody does something with an alarm; what may not be done is refused by both."""
        key, number = self.choose(which)
        alarm = self.plain.alarms[key][number]
        ids = self.run(self.rows())[key]
        to, until = ("an", "binh", None)[more], self.plain.now + (20, 120, 600)[more]
        try:
            self.tell(key, alarm, deed, to, until)
            allowed = True
        except Refused:
            allowed = False
        try:
            self.run(self.with_connection(lambda connection: self.do(connection, ids[number]["id"], deed, to, until)))
            done = True
        except ConflictError:
            done = False
        assert done is allowed, (deed, alarm)

    def choose(self, which: int) -> tuple[Key, int]:
        every = [(key, number) for key, alarms in sorted(self.plain.alarms.items()) for number in range(len(alarms))]
        return every[which % len(every)]

    def tell(self, key: Key, alarm: Alarm, deed: str, to: str | None, until: int) -> None:
        told: dict[str, Callable[[], None]] = {
            "take": lambda: self.plain.take(key, alarm),
            Deed.ASSIGN: lambda: self.plain.assign(alarm, to),
            Deed.COMMENT: lambda: self.plain.comment(alarm),
            Deed.SHELVE: lambda: self.plain.shelve(key, alarm, until),
            Deed.UNSHELVE: lambda: self.plain.unshelve(key, alarm),
            Deed.OUT_OF_SERVICE: lambda: self.plain.shelve(key, alarm, 10**9),
            Deed.CLOSE: lambda: self.plain.close(key, alarm),
            Deed.REOPEN: lambda: self.plain.reopen(key, alarm),
            Deed.UNDO: lambda: self.plain.undo(key, alarm),
        }
        told[deed]()

    async def do(self, connection: asyncpg.Connection, id_: int, deed: str, to: str | None, until: int) -> None:
        if deed == "take":
            await acknowledge(connection, id_, by="lan", now=self.city.now)
        else:
            asked = Asked(deed=Deed(deed), by="lan", now=self.city.now, note="why", to=to, until=time(until))
            await act(connection, id_, asked)

    # ---------------------------------------------------------------- what must agree
    async def rows(self) -> dict[Key, list[asyncpg.Record]]:
        found: dict[Key, list[asyncpg.Record]] = {}
        for row in await self.city.pool.fetch(ALARMS):
            found.setdefault((row["source"], row["rule"]), []).append(row)
        return found

    @invariant()
    def agree(self) -> None:
        """States, alarms, their histories, what was told and who was rung."""
        first = time(self.plain.now + plain.FIRST)
        self.run(self.city.pool.execute(ON_TIME, first))
        states = {(row["source"], row["rule"]): row["state"] for row in self.run(self.city.pool.fetch(STATES))}
        expected = {key: state.phase for key, state in self.plain.states.items() if state.phase != "normal"}
        assert states == expected
        rows = self.run(self.rows())
        seen = {key: [_seen(row) for row in each] for key, each in rows.items()}
        told = {key: [_told(alarm) for alarm in each] for key, each in self.plain.alarms.items()}
        assert seen == told
        for (source, name), phase in expected.items():
            cache = self.city.evaluator._open_areas if source == "zone" else self.city.evaluator._open
            assert name in set().union(*cache.values()), (source, name, phase)


def time(second: int) -> Any:
    return T0 + min(second, 10**9) * SECOND


def _seen(row: asyncpg.Record) -> dict[str, Any]:
    def second(name: str) -> int | None:
        return None if row[name] is None else int((row[name] - T0) / SECOND)

    return {
        "severity": row["severity"], "raised": second("raised_at"), "late": row["late"],
        "cleared": second("cleared_at"), "returned": second("returned_at"), "taken": row["acknowledged_by"],
        "closed": row["closed_at"] is not None, "assigned": row["assigned_to"],
        "shelved": row["shelved_until"] is not None, "test": row["test"],
        "quiet": row["suppressed_by"] if row["closed_at"] is None else None,
        "events": list(row["events"]), "told": [each.removeprefix("alarm.") for each in row["told"]],
        "rung": list(row["rung"]),
    }  # fmt: skip


def _told(alarm: Alarm) -> dict[str, Any]:
    return {
        "severity": alarm.severity, "raised": alarm.raised, "late": alarm.late, "cleared": alarm.cleared,
        "returned": alarm.returned, "taken": alarm.taken_by, "closed": alarm.closed, "assigned": alarm.assigned[-1],
        "shelved": alarm.shelved is not None, "test": alarm.test, "quiet": None if alarm.closed else alarm.quiet,
        "events": alarm.events, "told": alarm.told, "rung": alarm.rung,
    }  # fmt: skip


def test_random_histories_are_told_alike_by_the_core_and_by_plain_words(migrated_dsn: str) -> None:
    with asyncio.Runner(debug=False) as runner:
        stack = open_pool(migrated_dsn, Store())
        pool = runner.run(stack.__aenter__())
        try:
            city, ids = runner.run(build(pool))
            Histories.bench = Bench(runner, city, ids)
            run_state_machine_as_test(
                Histories,
                settings=settings(
                    max_examples=EXAMPLES or 6, stateful_step_count=int(os.environ.get("IOT_MODEL_STEPS", "20")),
                    deadline=None, derandomize=not EXAMPLES, print_blob=True,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate, *([Phase.shrink] if os.environ.get("IOT_MODEL_SHRINK") else [])],
                ),
            )  # fmt: skip
        finally:
            runner.run(stack.__aexit__(None, None, None))
