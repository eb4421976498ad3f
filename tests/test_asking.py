"""Asking a device now: which unit speaks for it, on which channel, and what becomes of the answer."""

from __future__ import annotations

import pytest

from iot_core.asking import Asking
from iot_core.driver import Driver, Emit, Units
from iot_core.errors import CommandRejected, NotFoundError
from iot_core.model import Command, CommandState, MountedUnit, Outcome, Uplink
from tests.classes import shipped
from tests.drivers.wire_edges import Edges, Ingest, unit

ADDRESS = "modbus://10.0.3.7:502/1"


class Detector(Driver):
    """A heat detector with two zones: the first is quiet, the second burns 133 m away."""

    scheme = "modbus"

    async def run(self, units: Units, emit: Emit) -> None: ...
    async def send(self, unit: MountedUnit, command: Command) -> CommandState: ...  # type: ignore[empty-body]

    async def read(self, unit: MountedUnit) -> Uplink:
        return Uplink(driver="modbus", address=unit.address, registers={"input:0": [0, 133]})


def asking(ingest: Ingest) -> Asking:
    mounted = unit(ADDRESS, profile="kidde-alarmline2", number=7, channels=["2"])
    return Asking([mounted], shipped(), ingest, {"modbus": Detector(Edges().context())})


async def test_a_unit_speaks_for_its_device_and_for_those_on_its_channels() -> None:
    ingest = Ingest()
    own = await asking(ingest).read(7, "zone-1")
    other = await asking(ingest).read(1_000, "zone-2")
    assert (own.values["heat"], other.values["heat"]) == (False, True)
    assert own.stored
    assert len(ingest.uplinks) == 2, "what was asked runs through the path like any reading"


async def test_while_the_store_is_away_the_person_still_gets_the_values() -> None:
    asked = await asking(Ingest(away=True)).read(7, "zone-1")
    assert (asked.values["heat"], asked.stored) == (False, False)


async def test_what_was_held_is_told() -> None:
    held = Ingest(outcome=Outcome(stored=0))
    assert not (await asking(held).read(7, "zone-1")).stored


async def test_a_device_without_a_unit_and_one_that_speaks_by_itself_cannot_be_asked() -> None:
    with pytest.raises(NotFoundError, match="not_mounted"):
        await asking(Ingest()).read(8, "nobody")
    by_itself = Asking([unit("iot:aq-1", number=3)], shipped(), Ingest(), {})
    with pytest.raises(CommandRejected, match="no_read"):
        await by_itself.read(3, "aq-1")
    with pytest.raises(CommandRejected, match="no_survey"):
        by_itself.survey("mqtt", {})
