"""The CoAP benchmark counts honestly, confirmable and not."""

from __future__ import annotations

import json
import sys

import pytest

from tests.core import command

pytestmark = pytest.mark.timeout(120)


async def test_the_coap_benchmark_ends_with_one_line_of_json_and_loses_nothing() -> None:
    words = (sys.executable, "-m", "iot_core.cli", "bench", "coap", "--devices", "20", "--seconds", "1", "--rate", "50")
    code, out, err = await command(*words, within_s=100)
    assert code == 0, out + err
    result = json.loads(out.splitlines()[-1])
    assert (result["ok"], result["lost"], result["duplicate"]) == (True, 0, 0)
    for kind in ("con", "non"):
        assert 0 < result[kind]["messages"] <= 60
        assert not result[kind]["refused"]
        assert set(result[kind]["cpu_s"]) == {"core", "broker", "database", "poster"}
