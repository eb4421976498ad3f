"""Identity, time and merging, decided once: the whole path against a plain model, whatever arrives in which order.

The model is written from the decisions, not from the code: one message at a time, merged first within its batch and
then into what is stored. Messages repeat (redelivery), come in any order, as objects and arrays, with and without time
and number, of two runs, with corrections and with parts that cannot be used.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from iot_core.model import Uplink
from tests.ingest.harness import Path, running

AT = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
ARRIVAL = AT + timedelta(hours=1)
LATER = [(AT + timedelta(minutes=minute)).isoformat() for minute in range(2)]
UNSET, FUTURE, OLD, NOON = "1999-01-01T00:00:00Z", "2031-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "noon"
QUALITY = {"good": 0, "uncertain": 1, "calibration": 2, "bad": 3, "00": 0, "01": 2, "02": 3}
MOST = {"pm25": None, "humidity": 100.0}

ELEMENT = st.fixed_dictionaries(
    {"pm25": st.sampled_from([1.0, 2.0, 3.0])},
    optional={
        "humidity": st.sampled_from([40.0, 50.0, 140.0]),
        "pm99": st.just(7),
        "pm10": st.just("x"),
        "time": st.sampled_from([*LATER, *LATER, *LATER, UNSET, FUTURE, OLD, NOON]),
        "seq": st.integers(0, 3),
        "run": st.sampled_from(["", "b"]),
        "quality": st.sampled_from(sorted(QUALITY)),
        "correction": st.booleans(),
        "extra": st.sampled_from([{"a": 1}, {"a": 2, "b": 1}]),
    },
)
MESSAGE = st.one_of(ELEMENT, st.lists(ELEMENT, min_size=1, max_size=3))
BATCHES = st.lists(st.lists(MESSAGE, min_size=1, max_size=4), min_size=1, max_size=4)


@dataclass
class Row:
    """What is stored of one time."""

    values: dict[str, float] = field(default_factory=dict)
    quality: int = 0
    bad: frozenset[str] = frozenset()
    extra: dict[str, Any] = field(default_factory=dict)
    received_at: datetime = ARRIVAL


@dataclass
class Said:
    """One element that can be stored."""

    time: datetime
    row: Row
    correction: bool
    payload: str


@dataclass
class Model:
    """Section 7, one element at a time."""

    rows: dict[datetime, Row] = field(default_factory=dict)
    numbers: set[tuple[str, int]] = field(default_factory=set)
    held: set[tuple[str, str, str]] = field(default_factory=set)

    def batch(self, messages: list[tuple[Any, datetime]]) -> None:
        known = set(self.numbers)
        said = [each for message, at in messages for each in self.read(message, at, known)]
        for run in alike(said):
            merged: dict[datetime, Said] = {}
            for each in run:
                if each.time in merged:
                    self.merge(merged[each.time].row, each)
                else:
                    merged[each.time] = each
            for each in merged.values():
                if each.time in self.rows:
                    self.merge(self.rows[each.time], each)
                else:
                    self.rows[each.time] = each.row

    def read(self, message: Any, at: datetime, known: set[tuple[str, int]]) -> list[Said]:
        payload = json.dumps(message)
        found = []
        for element in message if isinstance(message, list) else [message]:
            made = self.element(element, at, payload, known, alone=not isinstance(message, list))
            if made is not None:
                found.append(made)
        return found

    def element(
        self, element: dict[str, Any], at: datetime, payload: str, known: set[tuple[str, int]], *, alone: bool
    ) -> Said | None:
        stamp: Any = element.get("time")
        number: Any = (element.get("run", ""), element["seq"]) if "seq" in element else None
        if number is not None:
            self.numbers.add(number)
        values: dict[str, Any] = {key: element[key] for key in ("pm25", "humidity", "pm10", "pm99") if key in element}
        if not alone and stamp in {None, NOON}:
            self.hold(payload, "no_time" if stamp is None else "bad_time", element)
            return None
        if stamp == NOON:
            self.hold(payload, "bad_time", {"time": NOON})
        timed = stamp in LATER or stamp == OLD
        if not timed and not alone:
            self.hold(payload, "no_time", values)
            return None
        if stamp == OLD:
            self.hold(payload, "too_old", values)
            return None
        if "pm99" in element:
            self.hold(payload, "unknown_metric", {"pm99": 7})
        if "pm10" in element:
            self.hold(payload, "wrong_type", {"pm10": "x"})
        if not timed and number is not None:
            if number in known:
                return None
            known.add(number)
        quality = QUALITY[element.get("quality", "good")]
        good = {key: values[key] for key in MOST if key in values}
        row = Row(
            good,
            quality if timed else max(quality, 1),
            frozenset(key for key, value in good.items() if (most := MOST[key]) is not None and value > most),
            dict(element.get("extra", {})),
            at,
        )
        return Said(datetime.fromisoformat(stamp) if timed else at, row, element.get("correction", False), payload)

    def merge(self, row: Row, each: Said) -> None:
        conflicts = {}
        for key, value in each.row.values.items():
            if key in row.values and not each.correction:
                if row.values[key] != value:
                    conflicts[key] = value
                continue
            row.values[key] = value
            row.bad = (row.bad - {key}) | (each.row.bad & {key})
        row.quality = each.row.quality if each.correction else max(row.quality, each.row.quality)
        row.extra = row.extra | each.row.extra if each.correction else each.row.extra | row.extra
        if conflicts:
            self.hold(each.payload, "conflict", conflicts)

    def hold(self, payload: str, reason: str, part: Any) -> None:
        """Keep a part that could not be used."""
        self.held.add((payload, reason, json.dumps(part, sort_keys=True)))


def alike(said: list[Said]) -> list[list[Said]]:
    """Part a batch where a time turns from plain to correction or back: each side of it is merged by itself."""
    runs: list[list[Said]] = []
    last: dict[datetime, tuple[int, bool]] = {}
    for each in said:
        run, kind = last.get(each.time, (0, each.correction))
        run += kind != each.correction
        last[each.time] = run, each.correction
        while len(runs) <= run:
            runs.append([])
        runs[run].append(each)
    return runs


def test_whatever_arrives_is_stored_held_and_numbered_as_decided(dsn: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        path = runner.run(stack.enter_async_context(running(dsn)))
        try:
            runner.run(path.add("aq-1"))

            @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
            @given(batches=BATCHES, again=st.lists(st.integers(0, 20), max_size=6))
            @example(batches=[[{"pm25": 1.0, "time": LATER[0]}], CORRECTED], again=[])
            @example(batches=[OTHER_ORDER], again=[1])
            def check(batches: list[list[Any]], again: list[int]) -> None:
                runner.run(checked(path, batches, again))

            check()
        finally:
            runner.run(stack.aclose())


CORRECTED: list[Any] = [
    {"pm25": 2.0, "time": LATER[0]},
    {"pm25": 1.0, "humidity": 40.0, "time": LATER[0], "correction": True},
    {"pm25": 3.0, "time": LATER[0], "extra": {"a": 1}},
]
OTHER_ORDER: list[Any] = [
    {"pm25": 1.0, "humidity": 40.0, "time": LATER[0]},
    {"humidity": 50.0, "pm25": 2.0, "time": LATER[0]},
]


async def checked(path: Path, batches: list[list[Any]], again: list[int]) -> None:
    """Send batches, then some of the same messages again, all of them one by one; compare after each batch."""
    for table in ("telemetry.air_quality", "iot.held_uplink", "iot.seq_range", "iot.device_status"):
        await path.pool.execute(f"DELETE FROM {table}")
    flat = [message for batch in batches for message in batch]
    repeated = [[flat[each % len(flat)]] for each in again]
    model, arrival = Model(), ARRIVAL
    for batch in [*batches, *repeated]:
        messages = []
        for message in batch:
            arrival += timedelta(seconds=1)
            messages.append((message, arrival))
        works = [
            path.prepare(Uplink(driver="mqtt", address="iot:aq-1", payload=json.dumps(each).encode(), received_at=at))
            for each, at in messages
        ]
        async with path.pool.acquire() as connection:
            await path.flush(connection, works, now=arrival)
        model.batch(messages)
        assert await stored(path) == {
            time: (row.values, row.quality, row.bad, row.extra, row.received_at) for time, row in model.rows.items()
        }
    held = await path.pool.fetch("SELECT *, convert_from(payload, 'UTF8') AS said FROM iot.held_uplink")
    parts = [(row["said"], row["reason"], json.dumps(row["part"], sort_keys=True)) for row in held]
    assert set(parts) == model.held
    once = [(*part, row["detail"]) for part, row in zip(parts, held, strict=True) if is_once(json.loads(row["said"]))]
    assert len(once) == len(set(once))
    numbers = await path.pool.fetch(
        "SELECT run, generate_series(lower(r), upper(r) - 1) AS seq FROM iot.seq_range, unnest(seqs) r"
    )
    assert {(row["run"], row["seq"]) for row in numbers} == model.numbers


def is_once(message: Any) -> bool:
    """Say whether it tells a time or a number anywhere: then the same bytes are the same message."""
    elements = message if isinstance(message, list) else [message]
    return any(each.get("time") in {*LATER, OLD} or "seq" in each for each in elements)


async def stored(path: Path) -> dict[datetime, tuple[Any, ...]]:
    bits = {
        row["key"]: 1 << row["bit"]
        for row in await path.pool.fetch("SELECT * FROM iot.metric WHERE class_key = 'air_quality'")
    }
    return {
        row["time"]: (
            {key: row[key] for key in MOST if row[key] is not None},
            row["quality"],
            frozenset(key for key in MOST if row["bad"] & bits[key]),
            row["extra"] or {},
            row["received_at"],
        )
        for row in await path.rows()
    }
