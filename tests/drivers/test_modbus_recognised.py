"""Every shipped Modbus model, served as its profile played backwards, is what a scan names or guesses first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from drivers.modbus.address import Endpoint
from drivers.modbus.lone import lone
from drivers.modbus.scan import Found, scan
from iot_core.model import Metric, MetricType, Uplink, Value
from iot_core.profiles import Profile, load
from iot_core.profiles.modbus import words_of
from tests.drivers.modbus_peer import TABLES, Asked, nobody, peer

PROFILES = load()
MODELS = [profile.model for profile in PROFILES.all() if profile.modbus is not None]
PROVEN = {
    "eastron-sdm120",
    "eastron-sdm230",
    "eastron-sdm630",
    "sunspec-meter-203",
    "notifier-modbus-gw",
    "schneider-iem3155",
}
ALIKE = (
    {"dfrobot-sen0658", "sensaien-sn3003-fsxcs"},  # one map; the wind's scale differs, which no register says
    {"dfrobot-sen0601", "vms-3001-tr", "renke-rs-ws"},  # the larger probe's first registers are the smaller one's
)
_PLAIN: Mapping[str, Value] = {"frequency": 50.0, "voltage": 230.0, "power_factor": 0.9}
Cells = dict[tuple[str, int], int]


def middle(metric: Metric) -> Value:
    """Say something plausible of a metric."""
    if metric.key in _PLAIN:
        return _PLAIN[metric.key]
    if metric.type is MetricType.BOOL:
        return False
    if metric.type is MetricType.ENUM:
        return next(iter(metric.members))
    low, high = metric.minimum or 0.0, metric.maximum if metric.maximum is not None else 100.0
    return round(low + (high - low) / 8)


def cells_of(profile: Profile) -> Cells:
    """Play a profile backwards, with the signs that its `detect` looks for."""
    modbus = profile.modbus
    assert modbus is not None
    good = next(each for each in profile.examples if not each.held)
    said = profile.decode(Uplink(driver="modbus", address="", registers=good.given["registers"]))
    metrics = {each.key: each for each in profile.device_class.metrics}
    values: dict[str, Value] = {key: middle(metrics[key]) for key in profile.metrics}
    values |= {key: value for sample in said.samples[:1] for key, value in sample.values.items()}  # type: ignore[misc]
    cells: Cells = {}
    for channel in dict.fromkeys(profile.channels):
        registers: dict[str, list[int]] = {}
        while not registers:
            try:
                registers = modbus.write(values, channel)
            except ValueError:
                values.popitem()
        for name, words in registers.items():
            table, _, first = name.partition(":")
            cells |= {(table, int(first) + at): word for at, word in enumerate(words)}
    for sign in modbus.detect.signs if modbus.detect is not None else ():
        blocks = {f"{table}:{address}": [word] for (table, address), word in cells.items()}
        if not sign.holds(words_of(blocks)):
            placed: dict[int, int] = {}
            sign.point.place(sign.equals[0] if sign.equals else max(sign.between or (0,)), placed)
            cells |= {(sign.point.table, number & 0xFFFF): word for number, word in placed.items()}
    return cells


async def scanned(port: int, cells: Cells, objects: Mapping[int, bytes]) -> Found:
    async def device(asked: Asked, writer: asyncio.StreamWriter) -> None:
        table = TABLES.get(asked.function)
        if table is None:
            writer.write(
                asked.frame(_identification(objects)) if asked.function == 43 and objects else asked.exception(1)
            )
            return
        wanted = [(table, asked.address + at) for at in range(asked.count)]
        if any(each not in cells for each in wanted):
            writer.write(asked.exception(2))
            return
        words = [cells[each] for each in wanted]
        writer.write(asked.bits(words) if table in {"coil", "discrete"} else asked.words(words))

    async with peer(port, {**dict.fromkeys(range(256), nobody), 17: device}):
        place = Endpoint("127.0.0.1", port, rtu=False)
        async with lone(place, 20) as exchange:
            (found,) = [each async for each in scan(place, [17], PROFILES.all(), exchange, 20)]
    assert found is not None
    return found


def _identification(objects: Mapping[int, bytes]) -> bytes:
    body = b"".join(bytes([number, len(said)]) + said for number, said in objects.items())
    return bytes([43, 14, 1, 1, 0, 0, len(objects)]) + body


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask without the pauses that spare a line: they are a second a model and change no answer."""
    monkeypatch.setattr("drivers.modbus.scan._PAUSE_S", 0.0)


@pytest.mark.parametrize("model", MODELS)
async def test_the_right_model_is_named_or_guessed_first_and_no_other_is_certain(
    free_port: Callable[[], int], model: str
) -> None:
    profile = PROFILES.get(model)
    assert profile.modbus is not None
    assert profile.modbus.detect is not None, "a profile says what tells its model, or that nothing does"
    words = {"vendor": 0, "product": 1, "revision": 2}
    objects = {words[name]: said.strip("*").encode() for name, said in profile.modbus.detect.device_id.items()}
    found = await scanned(free_port(), cells_of(profile), objects)
    assert found.model == (model if model in PROVEN else None), found
    if model in PROVEN:
        return
    if model not in found.possible:
        reads = profile.modbus.reads(0)
        assert len(reads) > 8, f"{model} is not even guessed: {found}"
        return
    best = found.guesses[0].weight
    first = {each.model for each in found.guesses if each.weight == best}
    assert model in first or any({model, *first} <= alike for alike in ALIKE), found.guesses


async def test_an_older_meter_without_its_code_is_guessed_and_not_refuted(free_port: Callable[[], int]) -> None:
    cells = {key: word for key, word in cells_of(PROFILES.get("eastron-sdm120")).items() if key != ("holding", 0xFC02)}
    found = await scanned(free_port(), cells, {})
    assert found.model is None
    assert found.possible[0] == "eastron-sdm120"
    assert (found.guesses[0].signs, found.guesses[0].of) == (1, 2)


async def test_a_meter_with_another_code_is_not_taken_for_this_one(free_port: Callable[[], int]) -> None:
    cells = cells_of(PROFILES.get("eastron-sdm120")) | {("holding", 0xFC02): 137}
    found = await scanned(free_port(), cells, {})
    assert found.model is None
    assert not {"eastron-sdm120", "eastron-sdm230", "eastron-sdm630"} & set(found.possible)


async def test_a_unit_that_takes_its_time_over_every_question_holds_up_no_scan(free_port: Callable[[], int]) -> None:
    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.function in TABLES:
            await asyncio.sleep(0.02)
        writer.write(asked.words([7] * asked.count) if asked.function in {3, 4} else asked.exception(1))

    async def quick(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.words([7]) if (asked.address, asked.count) == (0, 1) else asked.exception(2))

    async with peer(port := free_port(), {**dict.fromkeys(range(256), nobody), 17: slow, 18: quick}) as gateway:
        place = Endpoint("127.0.0.1", port, rtu=False)
        async with lone(place, 5) as exchange:
            found = [each async for each in scan(place, [17, 18], PROFILES.all(), exchange, 5, unit_s=0.2)]
    assert [each is not None and each.unit_id for each in found] == [17, 18]
    assert found[0] is not None
    assert found[0].cut_short
    assert sum(each.unit_id == 17 for each in gateway.asked) < 40


async def test_a_unit_that_is_silent_about_what_it_lacks_costs_a_few_time_outs_and_no_more(
    free_port: Callable[[], int],
) -> None:
    async def device(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.function == 3 and (asked.address, asked.count) == (0, 1):
            writer.write(asked.words([7]))

    async with peer(port := free_port(), {17: device}) as gateway:
        place = Endpoint("127.0.0.1", port, rtu=False)
        async with lone(place, 0.3) as exchange:
            (found,) = [each async for each in scan(place, [17], PROFILES.all(), exchange, 0.3)]
    assert found is not None
    assert (found.model, found.guesses) == (None, ())
    assert len(gateway.asked) <= 10
