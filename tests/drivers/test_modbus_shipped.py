"""Every shipped Modbus profile, played over the wire: what its examples hold in registers is what is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from drivers.modbus import schedule
from drivers.modbus.poller import driver as modbus_driver
from iot_core.model import Uplink
from iot_core.profiles import Profile, load
from iot_core.settings import Modbus
from tests.drivers.modbus_peer import TABLES, Asked, peer
from tests.drivers.wire_edges import Edges, Mounted, running, unit, until

PROFILES = load()
MODELS = [profile.model for profile in PROFILES.all() if profile.modbus is not None]


def registers_of(profile: Profile) -> Mapping[str, Sequence[int]]:
    """Take the registers of the profile's first good example."""
    return next(
        example.given["registers"] for example in profile.examples if not example.held and "registers" in example.given
    )


@pytest.mark.parametrize("model", MODELS)
async def test_a_shipped_profile_is_polled_and_decoded(
    free_port: Callable[[], int], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "FIRST_WITHIN_S", 0.05)
    profile, edges = PROFILES.get(model), Edges()
    expected = profile.decode(Uplink(driver="modbus", address="", registers=registers_of(profile)))
    channels = [sample.channel for sample in expected.samples if sample.channel]
    words: dict[tuple[str, int], int] = {}
    for block, said in registers_of(profile).items():
        table, _, first = block.partition(":")
        words |= {(table, int(first) + offset): word for offset, word in enumerate(said)}

    async def device(asked: Asked, writer: asyncio.StreamWriter) -> None:
        table = TABLES[asked.function]
        wanted = [words.get((table, address), 0) for address in range(asked.address, asked.address + asked.count)]
        known = any((table, address) in words for address in range(asked.address, asked.address + asked.count))
        said = asked.bits(wanted) if table in {"coil", "discrete"} else asked.words(wanted)
        writer.write(said if known else asked.exception(2))

    async with peer(free_port(), {17: device}) as gateway:
        mounted = Mounted(unit(f"modbus://127.0.0.1:{gateway.port}/17", profile=model, channels=channels))
        driver = modbus_driver(edges.context(modbus=Modbus(), profiles=PROFILES))
        async with running(driver, mounted, edges.ingest):
            await until(lambda: edges.ingest.uplinks)
    (uplink,) = edges.ingest.uplinks
    heard = {sample.channel: sample for sample in profile.decode(uplink).samples}
    assert expected.samples
    for sample in expected.samples:
        assert sample.values.items() <= heard[sample.channel].values.items()
        assert heard[sample.channel].time == uplink.received_at


def test_there_are_shipped_modbus_profiles() -> None:
    assert len(MODELS) >= 3
