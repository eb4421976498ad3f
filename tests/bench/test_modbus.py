"""The Modbus benchmark counts honestly: it runs, ends with one line of JSON, and what was asked is in the table."""

from __future__ import annotations

import json
import sys

import pytest

from tests.core import command

pytestmark = pytest.mark.timeout(180)


async def test_the_modbus_benchmark_ends_with_one_line_of_json_and_loses_nothing() -> None:
    words = ("bench", "modbus", "--units", "60", "--gateways", "3", "--seconds", "11", "--no-baseline")
    code, out, err = await command(sys.executable, "-m", "iot_core.cli", *words, within_s=150)
    assert code == 0, out + err
    result = json.loads(out.splitlines()[-1])
    assert result["lost"] == result["duplicate"] == result["silent"] == 0
    assert 60 <= result["polls"] <= 72
    assert result["late_ms"]["max"] < 1000
