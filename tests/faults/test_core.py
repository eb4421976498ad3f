"""The core itself is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core import until
from tests.faults.city import city, sending
from tests.faults.result import Recorder

KILLS = 20

pytestmark = pytest.mark.timeout(400)


@pytest.mark.faults(
    f"SIGKILL of the core, {KILLS} times in a stream",
    "The next start adopts the database and the broker that still run; the broker and the CoAP client send again what "
    "was not acknowledged, and time or `seq` tells that it is stored already",
)
async def test_killing_the_core_in_mid_stream_loses_nothing_and_doubles_nothing(
    state_path: Path, ports: int, record: Recorder
) -> None:
    async with city(state_path, ports) as town:
        up = town.up
        timed, numbered = await town.mqtt("timed"), await town.mqtt("numbered", timed=False)
        coap = await town.coap("coap")
        back = 0.0
        async with sending(timed, numbered, coap):
            for _ in range(KILLS):
                await coap.reaches(len(coap.said) + 3)
                database = up.postmaster()
                await up.kill()
                await timed.reaches(len(timed.said) + 20)
                await up.start()
                assert up.postmaster() == database, "the running database is adopted"
            back = await town.stored_again()
        verdict = await town.verdict()
        record(verdict, up, back_s=back)
        assert verdict.sound, verdict
        assert verdict.acknowledged > KILLS * 40
        assert await until(up.ready)
