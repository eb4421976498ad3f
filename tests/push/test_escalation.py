"""Escalation: who is told next, when, and when it stops; restarts and several workers change nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from iot_core import hours
from iot_core.alarms.escalation import walk
from iot_core.errors import RequestError
from iot_core.model import Severity
from iot_core.push import chains
from iot_core.push.chain import Chain, Ring, Stage, Step, check, next_ring, reminder
from tests.push.alarms import alarm, target, tell

if TYPE_CHECKING:
    import asyncpg

HANOI = "Asia/Ho_Chi_Minh"
TUESDAY_10 = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
CHAIN = Chain(
    steps=(Step(after_s=60, target="duty"), Step(after_s=120, target="head", hours="mon-fri 07:00-17:00"),
           Step(after_s=300, target="boss")),
    repeat_s=600, remind=("07:00", "19:00"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "at", "inside"),
    [
        ("", "2026-09-01T10:00", True),
        ("mon-fri 07:00-17:00", "2026-09-01T10:00", True),
        ("mon-fri 07:00-17:00", "2026-09-01T17:00", False),
        ("mon-fri 07:00-17:00", "2026-09-05T10:00", False),
        ("daily 22:00-06:00", "2026-09-01T23:30", True),
        ("daily 22:00-06:00", "2026-09-01T05:59", True),
        ("daily 22:00-06:00", "2026-09-01T06:00", False),
        ("fri 22:00-06:00", "2026-09-05T05:00", True),
        ("fri-mon 08:00-09:00", "2026-09-06T08:30", True),
        ("mon-fri 07:00-17:00", "2026-09-02T10:00", False),
        ("mon-fri 07:00-17:00, holiday 08:00-12:00", "2026-09-02T10:00", True),
        ("daily 00:00-24:00", "2026-09-02T23:59", True),
    ],
)
def test_hours_follow_weekday_midnight_and_holiday(words: str, at: str, inside: bool) -> None:
    moment = datetime.fromisoformat(f"{at}:00+07:00")
    assert hours.within(words, moment, HANOI, frozenset({date(2026, 9, 2)})) is inside


@pytest.mark.parametrize(
    "words", ["always", "mon 7:00-8:00", "mon 08:00-08:00", "xyz 08:00-09:00", "mon 08:00-25:00", ","]
)
def test_what_are_no_hours_is_refused(words: str) -> None:
    with pytest.raises(RequestError) as caught:
        hours.parse(words)
    assert caught.value.code == "push.bad_hours"


def ring(step: int, at: datetime = TUESDAY_10, stage: Stage = Stage.WAITING, **facts: Any) -> Ring:
    return next_ring(CHAIN, stage, step, at, zone=HANOI, **facts)


def test_steps_follow_one_another_and_the_last_repeats() -> None:
    assert ring(0) == Ring("duty", 1, TUESDAY_10 + timedelta(seconds=120))
    assert ring(1) == Ring("head", 2, TUESDAY_10 + timedelta(seconds=300))
    assert ring(2) == ring(3) == Ring("boss", 2, TUESDAY_10 + timedelta(seconds=600))


def test_who_is_not_there_is_passed_over_at_once() -> None:
    night = TUESDAY_10 + timedelta(hours=12)
    assert ring(1, night) == Ring(None, 2, night)
    assert ring(1, holidays=frozenset({date(2026, 9, 1)})) == Ring(None, 2, TUESDAY_10)


def test_what_is_taken_is_named_again_at_its_times_only() -> None:
    seven_pm = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
    assert ring(0, stage=Stage.TAKEN) == Ring("duty", 0, seven_pm)
    assert reminder(CHAIN, seven_pm, HANOI) == datetime(2026, 9, 2, 0, 0, tzinfo=UTC)
    assert reminder(Chain(steps=CHAIN.steps), TUESDAY_10, HANOI) is None


@pytest.mark.parametrize(
    ("steps", "repeat_s", "remind", "code"),
    [
        ([], 600, [], "chain.steps"),
        ([Step(after_s=0, target="duty")], 600, [], "chain.step"),
        ([Step(after_s=60, target="Trực ban")], 600, [], "chain.step"),
        ([Step(after_s=60, target="duty")], 1, [], "chain.repeat"),
        ([Step(after_s=60, target="duty")], 600, ["7:00"], "chain.remind"),
    ],
)
def test_what_is_no_chain_is_refused(steps: list[Step], repeat_s: int, remind: list[str], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        check(steps, repeat_s, remind)
    assert caught.value.code == code


async def rung(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch(
        "SELECT t.key, o.body->>'type' AS type FROM iot.outbox o JOIN iot.push_target t ON t.id = o.target_id"
        " WHERE o.body->>'type' <> 'alarm.raised' ORDER BY o.id"
    )
    return [(row["key"], row["type"].removeprefix("alarm.")) for row in rows]


@pytest.fixture
async def chained(pool: asyncpg.Pool) -> asyncpg.Pool:
    await pool.execute("INSERT INTO iot.fixed_setting VALUES ('timezone', $1)", HANOI)
    for key in ("duty", "head", "boss"):
        await target(pool, key, "http://127.0.0.1:9/", min_severity=Severity.CRITICAL)
    async with pool.acquire() as connection:
        await chains.add(connection, "all", CHAIN, min_severity=Severity.HIGH)
        with pytest.raises(RequestError):
            await chains.add(
                connection, "x", Chain(steps=(Step(after_s=60, target="nobody"),)), min_severity=Severity.LOW
            )
    return pool


async def test_chain_goes_on_until_someone_takes_the_alarm_and_begins_anew_when_that_is_undone(
    chained: asyncpg.Pool,
) -> None:
    pool, one = chained, await alarm(chained)
    await tell(pool, one)
    await tell(pool, await alarm(pool), severity=Severity.LOW)
    assert await pool.fetchval("SELECT count(*) FROM iot.escalation") == 1
    at = datetime.now(UTC).replace(hour=3)  # ten in the morning in Hà Nội

    async def later(seconds: float) -> None:
        nonlocal at
        at += timedelta(seconds=seconds)
        async with pool.acquire() as connection, pool.acquire() as other:
            await walk(connection, at)
            assert await walk(other, at) == 0, "a second worker finds nothing more to do"

    await pool.execute("UPDATE iot.escalation SET due_at = $1", at + timedelta(seconds=60))
    await later(59)
    assert await rung(pool) == []
    await later(2)
    assert await rung(pool) == [("duty", "escalated")]
    await pool.execute("UPDATE iot.alarm SET acknowledged_at = now(), acknowledged_by = 'Lan' WHERE id = $1", one)
    await later(4000)
    assert len(await rung(pool)) == 1
    await later(24 * 3600)
    assert await rung(pool) == [("duty", "escalated"), ("duty", "open")]
    await pool.execute("UPDATE iot.alarm SET acknowledged_at = NULL, acknowledged_by = NULL WHERE id = $1", one)
    await later(1)
    await later(61)
    assert (await rung(pool))[-1] == ("duty", "escalated")
    await pool.execute("UPDATE iot.alarm SET closed_at = now() WHERE id = $1", one)
    await later(100_000)
    assert len(await rung(pool)) == 3
    assert await pool.fetchval("SELECT count(*) FROM iot.escalation") == 0


@pytest.mark.parametrize("kind", ["alarm.severity", "alarm.reopened"])
async def test_alarm_that_is_more_urgent_now_or_open_again_starts_its_chain(chained: asyncpg.Pool, kind: str) -> None:
    one = await alarm(chained)
    await tell(chained, one, severity=Severity.MEDIUM)
    assert await chained.fetchval("SELECT count(*) FROM iot.escalation") == 0
    await tell(chained, one, kind, "alarm.comment", severity=Severity.HIGH)
    assert await chained.fetchval("SELECT count(*) FROM iot.escalation") == 1


async def test_what_is_over_and_not_critical_wakes_nobody(chained: asyncpg.Pool) -> None:
    await tell(chained, await alarm(chained))
    await chained.execute("UPDATE iot.alarm SET cleared_at = now()")
    async with chained.acquire() as connection:
        await walk(connection, datetime.now(UTC) + timedelta(hours=1))
    assert await rung(chained) == []


async def test_simulated_alarm_starts_no_chain(chained: asyncpg.Pool) -> None:
    await tell(chained, await alarm(chained), simulated=True)
    assert await chained.fetchval("SELECT count(*) FROM iot.escalation") == 0
