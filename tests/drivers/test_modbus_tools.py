"""`iot modbus` as a technician runs it: real sockets and terminals, no server, no login; and through a core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.modbus.address import Endpoint
from drivers.modbus.lone import lone
from drivers.modbus.scan import Found, scan, unit_ids
from drivers.modbus.tools.job import key_of
from iot_core.api import shapes
from iot_core.errors import ConfigError
from iot_core.profiles import Profiles, load
from tests.core import core_running, forked
from tests.drivers.modbus_peer import Asked, Behave, Memory, Peer, Writer, listening, nobody, peer, serial_bus, silent

TUF = dict.fromkeys(range(60), 0) | {0: 0, 1: 0x3FC0, 8: 0x86A0, 9: 1, 10: 0, 11: 0x3E80, 32: 0x806B, 33: 0x4212}
ACME = {0: b"Acme", 1: b"AQ4-S", 2: b"V1.2"}
CLASS = """\
title: {vi: Trạm, en: Station}
metrics:
  pm25: {title: {vi: Bụi, en: Dust}, ucum: ug/m3, range: [0, 1000]}
  level: {title: {vi: Mức, en: Level}, ucum: m, range: [0, 30]}
"""
HEAD = "vendor: Acme\ntitle: {vi: M, en: M}\nsource: a test\ninterval: 60s\n"
BY_WORDS = f"""\
model: acme-aq4
{HEAD}modbus:
  points: {{pm25: {{address: 4, type: uint16, scale: 0.1}}}}
  detect: {{device_id: {{vendor: acme, product: "AQ4*"}}}}
examples: [{{registers: {{"holding:4": [352]}}, values: {{pm25: 35.2}}}}, {{registers: {{}}, held: truncated}}]
"""
BY_SIGN = f"""\
model: acme-gauge
{HEAD}modbus:
  points: {{level: {{address: 10, type: float32}}}}
  detect: {{points: [{{address: 90, type: string, length: 4, equals: GAUG}}]}}
examples: [{{registers: {{"holding:10": [0x4000, 0]}}, values: {{level: 2}}}}, {{registers: {{}}, held: truncated}}]
"""
GAUGE = {0: 0, 10: 0x4000, 11: 0, 90: 0x4741, 91: 0x5547}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "profiles" / "acme_station"
    own.mkdir(parents=True)
    (own / "class.yaml").write_text(CLASS, encoding="utf-8")
    (own / "aq4.yaml").write_text(BY_WORDS, encoding="utf-8")
    (own / "gauge.yaml").write_text(BY_SIGN, encoding="utf-8")
    return tmp_path / "profiles"


def field_units() -> dict[int, Behave]:
    return {
        3: Memory(words=dict(TUF)),
        7: Memory(words={0: 1, 4: 352}, objects=dict(ACME)),
        9: Memory(words=dict(GAUGE)),
        11: Memory(words={}),
    }


def staffed(units: dict[int, Behave]) -> dict[int, Behave]:
    """Put these behind a gateway that says of all others that they are not there."""
    return {**dict.fromkeys(range(256), nobody), **units}


async def found_at(at: Peer, units: str, profiles: Profiles, *, rtu: bool = False) -> list[Found | None]:
    place = Endpoint("127.0.0.1", at.port, rtu)
    async with lone(place, 0.3) as exchange:
        return [each async for each in scan(place, unit_ids(units, place), profiles.all(), exchange, 0.3)]


@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_a_scan_names_models_by_their_words_and_signs_and_what_is_possible(
    free_port: Callable[[], int], folder: Path, rtu: bool
) -> None:
    async with peer(free_port(), field_units(), rtu=rtu) as at:
        found = await found_at(at, "1-12", load(folder), rtu=rtu)
    assert len(found) == 12
    there = {each.unit_id: each for each in found if each is not None}
    assert list(there) == [3, 7, 9, 11]
    assert there[3].model is None
    assert "tuf-2000m" in there[3].possible
    assert there[7].model == "acme-aq4"
    assert there[7].identification == {"vendor": "Acme", "product": "AQ4-S", "revision": "V1.2"}
    assert there[9].model == "acme-gauge"
    assert (there[11].model, there[11].possible) == (None, ()), "it answers, with exceptions only"
    assert {asked.function for asked in at.asked} <= {1, 2, 3, 4, 43}, "nothing is ever written"


async def test_a_gateway_that_speaks_for_missing_units_finds_none_there(free_port: Callable[[], int]) -> None:
    units: dict[int, Behave] = dict.fromkeys(range(256), nobody)
    async with peer(free_port(), {**units, 3: Memory(words=dict(TUF))}) as at:
        found = await found_at(at, "1-5", load())
    assert [each.unit_id for each in found if each is not None] == [3]


async def test_a_device_that_answers_to_every_unit_id_is_one_device(free_port: Callable[[], int], folder: Path) -> None:
    device = Memory(words={0: 1, 4: 352}, objects=dict(ACME))
    async with peer(free_port(), dict.fromkeys(range(256), device)) as at:
        (found,) = await found_at(at, "1-247", load(folder))
    assert found is not None
    assert (found.unit_id, found.model, found.every_id) == (1, "acme-aq4", True)
    assert len({each.unit_id for each in at.asked}) < 6  # a few others, and not all 247


async def test_a_unit_that_hangs_up_does_not_end_the_scan(free_port: Callable[[], int], folder: Path) -> None:
    async def hangs_up(asked: Asked, writer: Writer) -> None:
        writer.close()

    async with peer(free_port(), {2: hangs_up, 7: Memory(words={0: 1}, objects=dict(ACME))}) as at:
        found = await found_at(at, "1-8", load(folder))
    assert [each.unit_id for each in found if each is not None] == [7]


async def test_what_was_found_before_a_gateway_went_away_stays(
    free_port: Callable[[], int], folder: Path, tmp_path: Path
) -> None:
    gone = asyncio.Event()

    async def last_words(asked: Asked, writer: Writer) -> None:
        writer.close()
        gone.set()

    async def switched_off(at: Peer) -> None:
        async with listening(at):
            await gone.wait()

    job = tmp_path / "job.json"
    units: dict[int, Behave] = {7: Memory(words={0: 1, 4: 352}, objects=dict(ACME)), 9: last_words}
    at = Peer(free_port(), staffed(units))
    async with laptop(folder, tmp_path) as iot, asyncio.TaskGroup() as group:
        group.create_task(switched_off(at))
        where = ("modbus", "scan", f"127.0.0.1:{at.port}", "--units", "7-247", "--timeout", "5", "--save", job)
        out, err = await iot(*where, "--output", "json", code=1)  # type: ignore[misc]
        gone.set()
    assert [each["model"] for each in json.loads(out)] == ["acme-aq4"]
    assert "Broken off after unit 7" in err
    assert "acme-aq4" in job.read_text("utf-8")


@pytest.mark.parametrize("units", ["", "0-", "a", "5-3", "1-300", "-1", "1,,2", "१"])
def test_unit_ids_that_are_none_are_refused(units: str) -> None:
    with pytest.raises(ConfigError, match="bad_units"):
        unit_ids(units, Endpoint("h", 502))


def test_a_key_is_the_same_for_the_same_unit() -> None:
    found = Found(address="modbus:///dev/ttyUSB0:9600-8N1/3", unit_id=3)
    assert key_of(found, "tuf-2000m", found.address) == "tuf-2000m-dev-ttyusb0-9600-8n1-3"
    assert len(key_of(found, "tuf-2000m", "modbus://" + "a" * 90 + ":502/3")) <= 63


@asynccontextmanager
async def laptop(folder: Path, tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """A machine that knows no server."""

    async def run(*words: str, code: int = 0) -> tuple[str, str]:
        extra = ("--lang", "en", "--state", str(tmp_path / "nothing"))
        ended, out, err = await forked(*words, "--folder", folder, *extra, within_s=60)
        assert ended == code, out + err
        return out, err

    yield run


async def test_on_a_laptop_a_serial_line_is_scanned_and_its_speed_is_found(folder: Path, tmp_path: Path) -> None:
    async with serial_bus(staffed(field_units())) as bus, laptop(folder, tmp_path) as iot:
        out, err = await iot("modbus", "scan", bus.path, "--units", "5-9", "--timeout", "5", "--output", "json")  # type: ignore[misc]
    said = json.loads(out)
    assert [each["model"] for each in said] == ["acme-aq4", "acme-gauge"]
    assert said[0]["address"] == f"modbus://{bus.path}:9600-8N1/7"
    assert err == ""


async def test_what_was_found_without_signal_is_imported_later_and_again_changes_nothing(  # noqa: PLR0917
    dsn: str,
    state_path: Path,
    free_ports: Callable[[int], int],
    free_port: Callable[[], int],
    tmp_path: Path,
    folder: Path,
) -> None:
    job = tmp_path / "job.json"
    async with peer(free_port(), staffed(field_units())) as at, laptop(folder, tmp_path) as iot:
        where = ("modbus", "scan", f"127.0.0.1:{at.port}", "--units", "3-9", "--timeout", "5", "--save", str(job))
        await iot(*where)  # type: ignore[misc]
        saved = json.loads(job.read_text())
        assert [device["profile"] for device in saved["devices"]] == ["acme-aq4", "acme-gauge"]
        assert [each["unit_id"] for each in saved["undecided"]] == [3]
        saved["devices"][0]["name"] = "Trạm cầu Bãi Cháy"
        job.write_text(json.dumps(saved))
        _, err = await iot(*where, "--choose", "3=tuf-2000m", "--choose", "88=tuf-2000m")  # type: ignore[misc]
        assert "No unit 88" in err
        saved = json.loads(job.read_text())
        assert saved["devices"][0]["name"] == "Trạm cầu Bãi Cháy", "what a person wrote stays"
        assert (len(saved["devices"]), saved["undecided"]) == (3, [])
    async with core_running(dsn, state_path, free_ports, profiles=str(folder)) as (core, client):
        server = ("--url", core.url, "--token", core.token, "--lang", "en", "--output", "json")
        code, out, err = await forked("device", "import", job, *server)
        assert code == 0, err
        assert json.loads(out)["added"] == 3
        code, out, err = await forked("device", "import", job, *server)
        assert (code, json.loads(out)["unchanged"]) == (0, 3), err
        (named,) = (await client.devices(search="cầu Bãi Cháy")).items
        assert named.address == f"modbus://127.0.0.1:{at.port}/7"


async def test_a_core_scans_for_a_person_who_cannot_reach_the_place(  # noqa: PLR0917 - pytest names them
    dsn: str,
    state_path: Path,
    free_ports: Callable[[int], int],
    free_port: Callable[[], int],
    tmp_path: Path,
    folder: Path,
) -> None:
    async with (
        peer(free_port(), staffed(field_units())) as at,
        core_running(dsn, state_path, free_ports, profiles=str(folder)) as (core, client),
        laptop(folder, tmp_path) as iot,
    ):
        where = ("modbus", "scan", f"127.0.0.1:{at.port}", "--units", "6-9", "--timeout", "5")
        via = ("--via", core.url, "--token", core.token)
        out, _ = await iot(*where, *via, "--output", "json")  # type: ignore[misc]
        assert [each["model"] for each in json.loads(out)] == ["acme-aq4", "acme-gauge"]
        nowhere = ("modbus", "scan", f"127.0.0.1:{free_port()}", "--units", "1", *via)
        _, err = await iot(*nowhere, code=1)  # type: ignore[misc]
        assert "cannot be reached: connection refused" in err
        guessed = {each.address: each.guess for each in (await client.inbox()).items}
        assert guessed == {
            f"modbus://127.0.0.1:{at.port}/7": ("acme-aq4",),
            f"modbus://127.0.0.1:{at.port}/9": ("acme-gauge",),
        }
        _, err = await iot(*where, *via)  # type: ignore[misc]
        assert "2 of them are not registered and wait: iot inbox" in err
        accepted = await client.accept_all(shapes.InboxAcceptAll(driver="modbus"))
        assert [each.replayed for each in accepted.items] == [2, 2]
        read = {each.device.key: (await client.latest(each.device.key)).items for each in accepted.items}
        assert sorted(each.value for items in read.values() for each in items) == [2.0, 35.2], "what the scan read"
        assert not (await client.held()).items
        _, err = await iot(*where, *via)  # type: ignore[misc]
        assert "not registered" not in err
        assert not (await client.inbox()).items


async def test_what_a_scan_found_without_signal_waits_in_the_inbox_when_it_is_brought_home(
    dsn: str,
    state_path: Path,
    free_ports: Callable[[int], int],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    job = tmp_path / "job.json"
    async with peer(free_port(), {3: Memory(words=dict(TUF))}) as at, laptop(tmp_path, tmp_path) as iot:
        await iot("modbus", "scan", f"127.0.0.1:{at.port}", "--units", "3", "--save", str(job))  # type: ignore[misc]
    assert json.loads(job.read_text())["undecided"]
    async with core_running(dsn, state_path, free_ports) as (core, client):
        server = ("--url", core.url, "--token", core.token, "--lang", "en")
        code, out, err = await forked("inbox", "add", job, *server)
        assert (code, "1 wait in the inbox, 0 are registered" in out) == (0, True), err
        (sender,) = (await client.inbox()).items
        assert "tuf-2000m" in sender.guess
        asked = shapes.InboxAccept(address=sender.address, profile="tuf-2000m", key="meter-1")
        assert (await client.accept(asked)).replayed == 1
        assert "flow" in {each.metric for each in (await client.latest("meter-1")).items}
        code, out, _ = await forked("inbox", "add", job, *server)
        assert "0 wait in the inbox, 1 are registered" in out
        broken = tmp_path / "broken.json"
        broken.write_text('{"devices": 7}', encoding="utf-8")
        code, _, err = await forked("inbox", "add", broken, *server)
        assert (code, "broken.json" in err) == (1, True)


async def test_what_was_not_read_is_not_called_implausible(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    async with peer(free_port(), {3: Memory(words={0: 1})}) as at, laptop(folder, tmp_path) as iot:
        out, err = await iot("modbus", "probe", f"127.0.0.1:{at.port}/3", "--model", "tuf-2000m")  # type: ignore[misc]
        assert "volume: not read" in err
        row = next(line for line in out.splitlines() if line.startswith("volume"))
        assert row.rstrip().endswith("  not read")


async def test_a_probe_shows_every_reading_and_its_draft_is_a_profile_that_checks(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    draft = tmp_path / "profiles" / "water_meter" / "draft.yaml"
    draft.parent.mkdir()
    async with peer(free_port(), {3: Memory(words=dict(TUF))}) as at, laptop(folder, tmp_path) as iot:
        where = ("modbus", "probe", f"127.0.0.1:{at.port}/3", "--model", "tuf-2000m")
        out, _ = await iot(*where, "--draft", str(draft))  # type: ignore[misc]
        assert "as the model says" in out
        out, _ = await iot(*where, "--all", "--output", "json")  # type: ignore[misc]
        rows = [row for row in json.loads(out) if row["key"] == "flow"]
        assert {(row["type"], row["order"]) for row in rows if row["shift"] == 0} >= {
            ("float32", order) for order in ("ABCD", "CDAB", "BADC", "DCBA")
        }
        assert {row["shift"] for row in rows} == {0, 1}, "there is no register before the first one"
        assert next(row for row in rows if row["expected"])["value"] == 1.5
        _, err = await iot(*where, "--draft", str(draft), code=2)  # type: ignore[misc]
        assert "left as it is" in err
        out, _ = await iot("profile", "check", "tuf-2000m-variant")  # type: ignore[misc]
        assert "0 failed" in out


async def test_a_probe_finds_the_word_order_that_the_model_has_wrong(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    swapped = {10: 0x0000, 11: 0x4000, 9: 0, 12: 0, 13: 0, 14: 0}  # 2.0 with its words exchanged
    async with peer(free_port(), {9: Memory(words=swapped)}) as at, laptop(folder, tmp_path) as iot:
        draft = tmp_path / "draft.yaml"
        where = ("modbus", "probe", f"127.0.0.1:{at.port}/9", "--model", "acme-gauge", "--output", "json")
        out, _ = await iot(*where, "--draft", str(draft))  # type: ignore[misc]
    read = {(row["type"], row["order"], row["shift"]): row["value"] for row in json.loads(out)}
    assert read["float32", "CDAB", 0] == 2.0
    assert "float32, order: CDAB" in draft.read_text()


async def test_unknown_registers_are_shown_as_they_may_be_read(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    async with peer(free_port(), {3: Memory(words=dict(TUF))}) as at, laptop(folder, tmp_path) as iot:
        out, _ = await iot("modbus", "probe", f"127.0.0.1:{at.port}/3", "--at", "holding:32", "--output", "json")  # type: ignore[misc]
    assert 36.62541 in [row["value"] for row in json.loads(out)]


async def test_a_draft_of_unknown_registers_wants_nothing_but_the_names_of_their_metrics(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    draft = folder / "acme_station" / "draft.yaml"
    async with peer(free_port(), {3: Memory(words=dict(TUF))}) as at, laptop(folder, tmp_path) as iot:
        await iot("modbus", "probe", f"127.0.0.1:{at.port}/3", "--at", "holding:32", "--draft", str(draft))  # type: ignore[misc]
        lines = draft.read_text().splitlines()
        line = next(number for number, text in enumerate(lines, 1) if '"holding:32": {' in text)
        _, err = await iot("profile", "check", str(draft), code=2)  # type: ignore[misc]
        assert f"line {line}: modbus.points.holding:32: expected a metric of the class acme_station: pm25, level" in err
        named = draft.read_text().replace('"holding:32": {', "level: {").replace('"holding:32": 3', "level: 3")
        draft.write_text(named)
        out, _ = await iot("profile", "check", str(draft))  # type: ignore[misc]
    assert "2 examples, 0 failed" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("scan", "127.0.0.1:1", "--units", "1"), 3, "cannot be reached"),
        (("scan", "/dev/ttyNONE7", "--line", "9600-8N1"), 3, "no such port"),
        (("scan", "10.0.3.7:99999"), 2, "no place to look"),
        (("scan", "/dev/ttyUSB0", "--line", "9600-7E1"), 2, "does not set a serial line"),
        (("scan", "10.0.3.7", "--units", "1-999"), 2, "names no unit ids"),
        (("probe", "10.0.3.7/12"), 2, "either --model or --at"),
        (("probe", "10.0.3.7/12", "--at", "holding:70000"), 2, "names no registers"),
        (("probe", "10.0.3.7", "--at", "holding:1"), 2, "not a Modbus address"),
        (("probe", "10.0.3.7/1", "--model", "native-streetlight"), 1, "does not speak Modbus"),
    ],
)
async def test_what_is_wrong_is_said_with_the_next_step(
    tmp_path: Path, folder: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    async with laptop(folder, tmp_path) as iot:
        _, err = await iot("modbus", *words, code=code)  # type: ignore[misc]
    assert says in err
    assert "Traceback" not in err


async def test_a_silent_unit_and_an_empty_line_end_with_a_sentence(
    free_port: Callable[[], int], tmp_path: Path, folder: Path
) -> None:
    async with peer(free_port(), {3: silent}) as at, laptop(folder, tmp_path) as iot:
        where = f"127.0.0.1:{at.port}"
        _, err = await iot("modbus", "probe", f"{where}/3", "--at", "holding:1", "--timeout", "0.3", code=3)  # type: ignore[misc]
        assert "does not answer" in err
        out, err = await iot("modbus", "scan", where, "--units", "1-3", "--timeout", "0.05", code=1)  # type: ignore[misc]
        assert "Nobody answered" in out + err
