"""The short way for plain native messages says what the long way says, or leaves the message to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iot_core.ingest.prepare import Prepare, Work
from iot_core.model import Metric, MetricType, MountedUnit, Uplink
from iot_core.profiles import load
from iot_core.registry.directory import Directory
from iot_core.store.columns import ClassTable, column, sql_type

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
MOUNTED = NOW - timedelta(days=10)
PROFILES = load()
TABLES = {
    key: ClassTable(each, tuple(column(metric, bit, sql_type(metric)) for bit, metric in enumerate(each.metrics)))
    for key, each in PROFILES.classes.items()
}
NATIVE = [profile for profile in PROFILES.all() if profile.model.startswith("native-")]

MOMENTS = st.integers(0, 20 * 86_400 * 10**6).map(lambda us: NOW - timedelta(microseconds=us))
TIMES = st.one_of(
    MOMENTS.map(lambda at: at.isoformat()),
    MOMENTS.map(lambda at: at.astimezone(timezone(timedelta(hours=7))).isoformat()),
    st.sampled_from([
        "2026-11-20T07:59:59Z", "2026-11-20t07:59:59.123456789z", "2026-11-20T07:59:60Z", "2026-11-20 07:59:59Z",
        "2026-11-20T08:09:59Z", "2026-11-20T08:10:01Z", "2019-12-31T23:59:59Z", "2026-11-20T07:59:59", "soon",
        "2026-11-10T08:00:00Z", "2026-11-10T07:59:59Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
        1795161600, 1795161600000.5, None, True,
    ]),
)  # fmt: skip
ODD: list[Any] = [None, True, False, "x", "", 5, 5.0, -1, 1e300, 2**63, 10**25, 10**400, -0.0, 1e-9, [], {}, 0.05]


def values_of(metric: Metric) -> st.SearchStrategy[Any]:
    match metric.type:
        case MetricType.BOOL:
            usual: st.SearchStrategy[Any] = st.booleans()
        case MetricType.ENUM:
            usual = st.sampled_from([*metric.members, *metric.members.values()])
        case _:
            low, high = metric.minimum, metric.maximum
            edges = [
                bound + nudge for bound in (low, high) if bound is not None for nudge in (-0.04, -1e-7, 0, 1e-7, 1)
            ]
            near = st.floats(-1e4 if low is None else low - 5, 1e7 if high is None else high + 5)
            usual = st.one_of(
                near, near.map(lambda x: round(x, 2)), st.integers(-10, 10**6), st.sampled_from([0, *edges])
            )
    return st.one_of(usual, usual, usual, st.sampled_from(ODD))


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes]:
    profile = draw(st.sampled_from(NATIVE))
    chosen = draw(st.lists(st.sampled_from(profile.device_class.metrics), max_size=7, unique_by=lambda each: each.key))
    said: dict[str, Any] = {"time": draw(TIMES), **{metric.key: draw(values_of(metric)) for metric in chosen}}
    if draw(st.booleans()):
        said["seq"] = draw(
            st.one_of(st.integers(0, 10**6), st.sampled_from([-1, 2**63 - 2, 2**63 - 1, 1.0, "1", None]))
        )
    if draw(st.booleans()):
        said["run"] = draw(st.sampled_from(["", "b7", "x" * 64, "x" * 65, "\0", None, 7]))
    if draw(st.integers(0, 9)) == 0:
        said[draw(st.sampled_from(["quality", "correction", "extra", "unknown"]))] = draw(st.sampled_from(ODD))
    return profile.model, json.dumps(said).encode()


def prepared(model: str, payload: bytes, *, express: bool) -> Work:
    directory = Directory()
    profile = PROFILES.get(model)
    directory._mounted["iot:one"] = MountedUnit(
        unit_id=7, device_id=9, device_key="one", class_key=profile.class_key, profile=model, address="iot:one",
        mounted_from=MOUNTED,
    )  # fmt: skip
    prepare = Prepare(directory, PROFILES, TABLES, 262_144)
    if not express:
        prepare._express = {}
    return prepare(Uplink(driver="mqtt", address="iot:one", payload=payload, received_at=NOW))


def facts(work: Work) -> str:
    """Show everything a work says; `repr` tells 5 from 5.0 and -0.0 from 0.0."""
    for each in work.observations:
        each.values = dict(sorted(each.values.items()))
    return repr((work.observations, work.problems, work.untimed, work.online, work.numbers))


@given(message=messages())
@example(message=("native-air-quality", b'{"time": "2026-11-20T07:00:00Z", "pm25": 2.675, "pm25": 7}'))
@example(message=("native-air-quality", b'{"time": "2026-11-20T07:00:00Z", "pm25": 1e308}'))
@settings(deadline=None, max_examples=400)
def test_both_ways_say_the_same(message: tuple[str, bytes]) -> None:
    assert facts(prepared(*message, express=True)) == facts(prepared(*message, express=False))


@pytest.mark.parametrize("profile", NATIVE, ids=lambda profile: str(profile.model))
def test_a_plain_message_of_every_class_takes_the_short_way(profile: Any) -> None:
    metric = next(each for each in profile.device_class.metrics if each.type is MetricType.FLOAT)
    said = {"time": "2026-11-20T14:59:00+07:00", "seq": 5, metric.key: 12}
    prepare = Prepare(Directory(), PROFILES, TABLES, 262_144)
    unit = MountedUnit(
        unit_id=1, device_id=2, device_key="one", class_key=profile.class_key, profile=profile.model,
        address="iot:one", mounted_from=MOUNTED,
    )  # fmt: skip
    uplink = Uplink(driver="mqtt", address="iot:one", payload=json.dumps(said).encode(), received_at=NOW)
    found = prepare._by_express(uplink, unit)
    assert found is not None
    assert (found.values, found.time, found.seq) == ({metric.key: 12.0}, datetime(2026, 11, 20, 7, 59, tzinfo=UTC), 5)
