"""The verdict finds a lost row, a doubled row and a changed value, and nothing where nothing is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.model import DeviceClass, Metric, MetricType, Title, Value
from simulators.ledger import Ledger, Sent
from simulators.verdict import (
    Account,
    AlarmNumbers,
    Latency,
    Matched,
    Numbers,
    Percentiles,
    Stored,
    Verdict,
    match,
    percentile,
    same_values,
)

T0 = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
TITLE = Title("x", "x")
CLASS = DeviceClass(
    key="c",
    title=TITLE,
    metrics=(
        Metric(key="temperature", title=TITLE, type=MetricType.FLOAT, precision=1),
        Metric(key="volume", title=TITLE, type=MetricType.FLOAT, precision=4),
        Metric(key="count", title=TITLE, type=MetricType.INT),
        Metric(key="on", title=TITLE, type=MetricType.BOOL),
    ),
)
SAME = same_values(CLASS)


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def sent(second: float, values: Mapping[str, Value], *, said: bool = True, protocol: str = "mqtt") -> Sent:
    return Sent(protocol, "d", at(second) if said else None, values, sent_at=at(second), acknowledged=True)


def row(second: float, values: Mapping[str, Value], *, arrived: float = 0.01) -> Stored:
    return Stored("d", at(second), at(second + arrived), values)


def judged(lines: Sequence[Sent], rows: Sequence[Stored]) -> Matched:
    return match(lines, rows, {"d": SAME})


def counts(result: Matched) -> tuple[int, int, int]:
    return len(result.found), len(result.lost), len(result.unsent)


def test_every_observation_with_its_row_is_found() -> None:
    lines = [sent(n, {"temperature": 20.0 + n}) for n in range(5)]
    assert counts(judged(lines, [row(n, {"temperature": 20.0 + n}) for n in range(5)])) == (5, 0, 0)


def test_a_lost_row_is_found() -> None:
    lines = [sent(n, {"temperature": 20.0 + n}) for n in range(5)]
    result = judged(lines, [row(n, {"temperature": 20.0 + n}) for n in range(5) if n != 3])
    assert counts(result) == (4, 1, 0)
    assert result.lost == [lines[3]]


def test_a_row_that_nobody_sent_is_found() -> None:
    result = judged([sent(1, {"temperature": 20.0})], [row(1, {"temperature": 20.0}), row(2, {"temperature": 20.0})])
    assert counts(result) == (1, 0, 1)


@pytest.mark.parametrize("stored", [{"temperature": 20.2}, {"temperature": 20.0, "count": 1}, {"count": 20}, {}])
def test_a_row_with_other_values_is_lost_and_unsent(stored: dict[str, Value]) -> None:
    assert counts(judged([sent(1, {"temperature": 20.0})], [row(1, stored)])) == (0, 1, 1)


def test_a_row_at_another_time_is_lost_and_unsent() -> None:
    assert counts(judged([sent(1, {"temperature": 20.0})], [row(1.001, {"temperature": 20.0})])) == (0, 1, 1)


def test_values_are_compared_as_rounded_for_storage() -> None:
    lines = [sent(1, {"temperature": 20.04, "volume": 123456.78904, "count": 3, "on": True})]
    assert counts(judged(lines, [row(1, {"temperature": 20.0, "volume": 123456.789, "count": 3, "on": True})])) == (
        1,
        0,
        0,
    )
    assert counts(judged(lines, [row(1, {"temperature": 20.1, "volume": 123456.789, "count": 3, "on": True})])) == (
        0,
        1,
        1,
    )


def test_a_flag_is_not_a_number() -> None:
    assert not SAME({"on": True}, {"on": False})
    assert not SAME({"count": 2}, {"count": 3})


def test_two_messages_of_one_time_make_one_row() -> None:
    lines = [sent(1, {"temperature": 20.0}), sent(1, {"count": 4})]
    assert counts(judged(lines, [row(1, {"temperature": 20.0, "count": 4})])) == (2, 0, 0)
    assert counts(judged(lines, [row(1, {"temperature": 20.0})])) == (0, 2, 1)


def test_without_a_time_each_row_answers_one_observation() -> None:
    lines = [sent(n, {"on": False}, said=False) for n in range(3)]
    assert counts(judged(lines, [row(n + 0.02, {"on": False}) for n in range(3)])) == (3, 0, 0)
    assert counts(judged(lines, [row(n + 0.02, {"on": False}) for n in range(2)])) == (2, 1, 0)
    assert counts(judged(lines, [row(n + 0.02, {"on": False}) for n in range(4)])) == (3, 0, 1)


def test_without_a_time_a_row_from_before_the_sending_does_not_count() -> None:
    assert counts(judged([sent(10, {"on": True}, said=False)], [row(5, {"on": True})])) == (0, 1, 1)


def test_a_modbus_cycle_is_compared_by_its_values() -> None:
    lines = [sent(n, {"volume": 10.0 + n}, said=False, protocol="modbus") for n in range(3)]
    assert counts(judged(lines, [row(n + 0.005, {"volume": 10.0 + n}) for n in range(3)])) == (3, 0, 0)
    wrong = [row(0.005, {"volume": 10.0}), row(1.005, {"volume": 99.0}), row(2.005, {"volume": 12.0})]
    assert counts(judged(lines, wrong)) == (2, 1, 1)


def test_settling_bit_by_bit_counts_like_settling_at_once() -> None:
    lines = [sent(n, {"volume": float(n)}) for n in range(100)]
    rows = [row(n, {"volume": float(n)}, arrived=1.5) for n in range(100) if n not in {17, 80}] + [
        row(50.5, {"count": 1})
    ]
    account = Account(since=T0)
    for second in range(0, 100, 10):
        have = [each for each in rows if account.since <= each.received_at <= at(second + 10)]
        account.settle(lines[second : second + 10], have, {"d": SAME}, before=at(second + 10 - 6))
    account.settle([], [each for each in rows if each.received_at >= account.since], {"d": SAME}, before=at(200))
    assert account.published["mqtt"] == 100
    assert account.stored["mqtt"] == 98
    assert [line.time for line in account.lost] == [at(17), at(80)]
    assert [each.time for each in account.unsent] == [at(50.5)]
    assert (account.open, account.claimed) == ([], {})


def test_a_look_that_began_before_another_one_ended_counts_nothing_twice() -> None:
    lines = [sent(n, {"volume": float(n)}) for n in range(20)]
    rows = [row(n, {"volume": float(n)}, arrived=1.5) for n in range(20)]
    account = Account(since=T0)
    account.settle(lines, rows, {"d": SAME}, before=at(12))
    for before in (T0, at(30)):
        account.settle([], [each for each in rows if each.received_at >= account.since], {"d": SAME}, before=before)
    assert (account.stored["mqtt"], account.lost, account.unsent) == (20, [], [])


def test_an_array_of_five_counts_five() -> None:
    ledger = Ledger()
    ledger.send("mqtt", "d", [(at(n), {"count": n}) for n in range(5)])
    assert ledger.published["mqtt"] == 5
    assert len(ledger.take()) == 5
    assert ledger.take() == []


@pytest.mark.parametrize(
    ("lost", "duplicate", "fire", "good"),
    [(0, 0, 80.0, True), (1, 0, 80.0, False), (0, 1, 80.0, False), (0, 0, None, False)],
)
def test_a_run_is_good_only_when_all_arrived_once_and_so_did_the_fire(
    lost: int, duplicate: int, fire: float | None, good: bool
) -> None:
    some = Numbers(1, 1, 1)
    verdict = Verdict(
        published=some, stored=some, lost=lost, duplicate=duplicate, held=0,
        alarms=AlarmNumbers(1, 1, 1), latency_ms=Latency(Percentiles(1.0, 2.0), fire),
    )  # fmt: skip
    assert verdict.good is good


def test_percentiles_are_of_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 0.5) == 50.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
