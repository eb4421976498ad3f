"""Own profiles while a core runs: a change counts at once, a mistake changes nothing and is named."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import device_profiles
from iot_core.errors import NotFoundError
from iot_core.model import Reason, Uplink
from iot_core.profiles import Profiles, load
from iot_core.profiles.follow import follow, stamps
from iot_core.profiles.load import load_tolerant
from iot_core.profiles.stand_in import Known
from tests.core import until
from tests.profiles.making import put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SHIPPED = Path(device_profiles.__file__).parent
OWN = """\
model: own-lamp
vendor: Own
title: {vi: Đèn riêng, en: Own lamp}
source: "Own manual, table 1"
interval: 60s
modbus: {points: {power: {address: 4, type: uint16, scale: 0.1}}}
examples:
  - {registers: {"holding:4": [852]}, values: {power: 85.2}}
  - {registers: {}, held: truncated}
"""


def write(folder: Path, name: str, text: str) -> Path:
    (folder / "streetlight").mkdir(exist_ok=True)
    return put(folder / "streetlight" / name, text)


@asynccontextmanager
async def following(profiles: Profiles, folder: Path) -> AsyncIterator[list[int]]:
    told: list[int] = []

    async def renewed() -> None:
        told.append(len(profiles.all()))

    task = asyncio.create_task(follow(profiles, folder, stamps(folder), renewed, every_s=0.02), name="follow")
    try:
        yield told
    finally:
        task.cancel()


async def test_a_new_file_a_changed_one_and_a_removed_one_count_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", OWN)
    profiles = load(tmp_path)
    async with following(profiles, tmp_path) as told:
        write(tmp_path, "a.yaml", OWN.replace("0.1}", "0.01}"))
        await until(lambda: told)
        assert profiles.get("own-lamp").encode({"power": 1.0}).registers == {"holding:4": [100]}
        write(tmp_path, "b.yaml", OWN.replace("own-lamp", "own-lamp-2"))
        await until(lambda: len(told) == 2)
        assert profiles.get("own-lamp-2").class_key == "streetlight"
        (tmp_path / "streetlight" / "b.yaml").unlink()
        await until(lambda: len(told) == 3)
        with pytest.raises(NotFoundError):
            profiles.get("own-lamp-2")


async def test_a_file_that_changes_between_the_load_and_the_first_look_counts(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", OWN)
    seen, profiles, told = stamps(tmp_path), load(tmp_path), asyncio.Event()
    write(tmp_path, "a.yaml", OWN.replace("0.1}", "0.01}"))

    async def renewed() -> None:
        told.set()

    task = asyncio.create_task(follow(profiles, tmp_path, seen, renewed, every_s=0.02), name="follow")
    try:
        async with asyncio.timeout(30):
            await told.wait()
    finally:
        task.cancel()
    assert profiles.get("own-lamp").encode({"power": 1.0}).registers == {"holding:4": [100]}


async def test_a_broken_file_keeps_its_last_good_version_and_is_named_until_it_is_mended(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", OWN)
    profiles = load(tmp_path)
    async with following(profiles, tmp_path) as told:
        write(tmp_path, "a.yaml", OWN.replace("uint16", "uint61"))
        write(tmp_path, "b.yaml", "model: [")
        await until(lambda: told)
        await until(lambda: len(profiles.broken) == 2)
        assert profiles.get("own-lamp").rollover("power") == 6553.6
        kept = {Path(each.file).name: (each.model, each.kept) for each in profiles.broken}
        assert kept == {"a.yaml": ("own-lamp", True), "b.yaml": ("[", False)}
        assert profiles.broken[0].error.facts["line"] == 6
        write(tmp_path, "b.yaml", OWN.replace("own-lamp", "own-lamp-2"))
        put(path, OWN)
        await until(lambda: not profiles.broken)


async def test_an_own_profile_overrides_a_shipped_one_until_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "streetlight").mkdir()
    profiles = load(tmp_path)
    shipped = profiles.get("tasmota-energy").vendor
    async with following(profiles, tmp_path) as told:
        path = write(tmp_path, "a.yaml", OWN.replace("own-lamp", "tasmota-energy"))
        await until(lambda: told)
        assert profiles.get("tasmota-energy").vendor == "Own"
        path.unlink()
        await until(lambda: len(told) == 2)
        assert profiles.get("tasmota-energy").vendor == shipped


async def test_a_class_that_is_new_or_changed_counts_at_once(tmp_path: Path) -> None:
    profiles = load(tmp_path)
    text = "title: {vi: Thử, en: Trial}\nmetrics:\n  dust: {title: {vi: Bụi, en: Dust}, ucum: ug/m3}\n"
    async with following(profiles, tmp_path) as told:
        (tmp_path / "trial").mkdir()
        put(tmp_path / "trial" / "class.yaml", text)
        await until(lambda: told)
        assert [metric.key for metric in profiles.classes["trial"].metrics] == ["dust"]
        more = text + "  soot: {title: {vi: Muội, en: Soot}, ucum: ug/m3}\n"
        put(tmp_path / "trial" / "class.yaml", more)
        await until(lambda: len(told) == 2)
        assert [metric.key for metric in profiles.classes["trial"].metrics] == ["dust", "soot"]
        put(tmp_path / "trial" / "class.yaml", more.replace("metrics", "metriks"))
        await until(lambda: len(told) == 3)
        assert [each.error.code for each in profiles.broken] == ["profile.invalid"]
        assert [metric.key for metric in profiles.classes["trial"].metrics] == ["dust", "soot"], "its last good version"


def test_a_broken_file_at_the_start_holds_what_its_model_says_even_where_a_shipped_one_has_its_name(
    tmp_path: Path,
) -> None:
    shipped = load().get("tasmota-energy")
    write(tmp_path, "a.yaml", OWN.replace("own-lamp", "tasmota-energy").replace("uint16", "uint61"))
    write(tmp_path, "b.yaml", OWN.replace("interval", "intervall"))
    profiles = load_tolerant(tmp_path)
    stands_in = profiles.get("tasmota-energy")
    assert stands_in.topics == shipped.topics
    decoded = stands_in.decode(Uplink(driver="mqtt", address="mqtt:tele/a", topic="tele/a/SENSOR", payload=b"{}"))
    assert [(each.reason, each.detail.split(":")[:2]) for each in decoded.problems] == [
        (Reason.PROFILE, ["a.yaml", "6 modbus.points.power.type"])
    ]
    with pytest.raises(NotFoundError, match=r"b\.yaml:5 intervall"):
        profiles.get("own-lamp")
    known = Known(model="own-lamp", class_key="gone", interval=None, metrics=("power",), address="mqtt:{address}")
    profiles.hold([known, replace(known, model="shelly-gen2")])
    assert profiles.get("own-lamp").broken.startswith("b.yaml:5")
    assert not profiles.get("shelly-gen2").broken


def test_a_broken_family_of_the_own_folder_breaks_no_shipped_model(tmp_path: Path) -> None:
    (tmp_path / "_families").mkdir()
    (tmp_path / "_families" / "milesight.yaml").write_text("lorawan: [", encoding="utf-8")
    profiles = load_tolerant(tmp_path)
    assert profiles.get("milesight-am319").metrics
    assert [Path(each.file).name for each in profiles.broken] == ["milesight.yaml"]


def test_a_family_of_the_own_folder_stands_before_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "_families").mkdir()
    family = (SHIPPED / "_families" / "milesight.yaml").read_text(encoding="utf-8")
    (tmp_path / "_families" / "milesight.yaml").write_text(
        family.replace("vendor: Milesight", "vendor: Acme"), encoding="utf-8"
    )
    assert load_tolerant(tmp_path).get("milesight-am319").vendor == "Acme"
    assert load().get("milesight-am319").vendor == "Milesight"


def test_the_shipped_profiles_are_not_compiled_again_for_those_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", OWN)
    profiles = load_tolerant(tmp_path)
    assert profiles.get("own-lamp").metrics
    assert all(profiles.get(each.model) is each for each in load().all())


def test_what_vanishes_while_it_is_looked_at_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", OWN)
    (tmp_path / "streetlight" / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert [Path(each).name for each in stamps(tmp_path)] == ["a.yaml"]
    assert [Path(each.file).name for each in load_tolerant(tmp_path).broken] == ["gone.yaml"]
