"""`iot bench store` and `iot bench query` run to their line of JSON; speeds are not judged here."""

from __future__ import annotations

import asyncio

import pytest

from simulators.bench import query, store

pytestmark = pytest.mark.timeout(300)


def test_the_store_bench_measures_both_tables_and_their_room() -> None:
    result = asyncio.run(store.run(store.Options(rows=100_000), lambda *_: None))
    assert result["rows_before"] == 100_000
    assert result["full"]["rows_per_s"] > 0
    assert 10 < result["bytes_per_reading"] < 60
    assert result["full_to_empty"] > 0


def test_the_query_bench_asks_every_question_twice_over() -> None:
    options = query.Options(devices=600, every=60, days=2, times=5)
    result = asyncio.run(query.run(options, lambda *_: None))
    assert result["rows"] == 2 * 24 * 60 + 499 * 2 * 24 + 100 * 2
    assert set(query.TARGETS_MS) <= set(result["read_ms"])
    assert set(query.TARGETS_MS) <= set(result["http_ms"])
    assert all(size > 0 for size in result["answer_kb"].values())
