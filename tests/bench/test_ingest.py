"""The benchmark counts honestly: it runs, ends with one line of JSON, and what it says was stored is there."""

from __future__ import annotations

import json
import sys

import pytest

from tests.core import command

pytestmark = pytest.mark.timeout(120)


async def test_the_ingest_benchmark_ends_with_one_line_of_json_and_loses_nothing() -> None:
    words = (
        sys.executable,
        "-m",
        "iot_core.cli",
        "bench",
        "ingest",
        "--devices",
        "20",
        "--seconds",
        "1",
        "--rate",
        "500",
    )
    code, out, err = await command(*words, within_s=100)
    assert code == 0, out + err
    result = json.loads(out.splitlines()[-1])
    assert result["lost"] == result["duplicate"] == 0
    assert 0 < result["messages"] <= 600
    assert result["readings_per_s"] >= result["messages_per_s"] * 6 - 6
    assert set(result["cpu_s"]) == {"core", "broker", "database", "publisher"}
