"""A city is the same for the same seed, stands where people know it, and its models say what was measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from iot_core.errors import NotFoundError
from iot_core.model import Uplink, is_key
from iot_core.profiles import load
from simulators.city import WARDS
from simulators.device import SimDevice
from simulators.fleet import BURNING, Planned, gateways, plan_of, voice_of
from simulators.physics import Button, Fire
from tests.profiles.test_round_trip import tolerance
from tests.simulators.conftest import device, planned, profiles

NOW = datetime(2026, 3, 1, 13, 0, 0, 250_000, tzinfo=UTC)


def test_a_seed_makes_one_city_and_another_seed_another() -> None:
    first, again, other = planned(60, 3), planned(60, 3), planned(60, 4)
    assert [each.key for each in first] == [each.key for each in again]
    assert [each.physics for each in first] == [each.physics for each in again]
    assert [(each.latitude, each.longitude) for each in first] != [(each.latitude, each.longitude) for each in other]


@pytest.mark.parametrize("devices", [8, 20, 120, 500])
def test_a_city_has_the_devices_asked_for_of_four_classes(devices: int) -> None:
    city = planned(devices)
    assert len(city) == devices
    assert len({each.key for each in city}) == devices
    assert len({each.class_key for each in city}) == 4
    assert all(is_key(each.key) for each in city)


def test_a_hundred_and_twenty_devices_speak_all_three_protocols_and_most_models() -> None:
    city = planned(120)
    assert {each.voice.protocol for each in city} == {"mqtt", "coap", "modbus"}
    assert len({each.model for each in city}) >= 12
    assert {each.voice.content_format for each in city if each.voice.protocol == "coap"} == {50, 110, 112}
    assert {each.voice.buffered for each in city} == {1, 5}


def test_alarms_never_wait_in_a_buffer() -> None:
    assert all(each.voice.buffered == 1 for each in planned(300) if each.class_key == "fire_detector")


def test_devices_stand_in_their_wards_around_the_bay() -> None:
    middle = {ward.key: ward for ward in WARDS}
    for each in planned(300):
        ward = middle[each.ward]
        assert abs(each.latitude - ward.latitude) < 0.012
        assert abs(each.longitude - ward.longitude) < 0.012


def test_the_burning_building_has_two_detectors_that_see_smoke() -> None:
    inside = [each for each in planned(8) if each.building == BURNING.key]
    assert [each.voice.protocol for each in inside] == ["mqtt", "coap"]
    assert all("smoke" in each.voice.profile.metrics for each in inside)


def test_a_larger_city_leaves_gateways_and_keys_of_a_smaller_one_alone() -> None:
    small, large = planned(60), planned(300)
    assert {each.key for each in small if each.class_key != "streetlight"} <= {each.key for each in large}
    places = {each.key: (gateway, unit) for each, gateway, unit in gateways(large)}
    assert all(places[each.key] == (gateway, unit) for each, gateway, unit in gateways(small))


def test_no_gateway_has_two_devices_at_one_unit_id() -> None:
    places = Counter((gateway, unit) for _, gateway, unit in gateways(planned(1000)))
    assert max(places.values()) == 1


def _named(each: Planned) -> str:
    return f"{each.model} {each.voice.protocol} {each.voice.content_format or ''}".strip()


def one_of_each_voice() -> list[Planned]:
    """Each voice of the city, and each model that can be played at all."""
    city = {(each.model, each.voice.protocol, each.voice.content_format): each for each in planned(400)}
    models = [each.model for each in profiles().all() if voice_of(each) is not None]
    for each in plan_of(profiles(), models, devices=len(models), seed=1):
        city.setdefault((each.model, each.voice.protocol, each.voice.content_format), each)
    return list(city.values())


@pytest.mark.parametrize("each", one_of_each_voice(), ids=_named)
def test_what_a_model_says_is_what_was_measured(each: Planned) -> None:
    profile = each.voice.profile
    it = SimDevice(each, profile.address.replace("{address}", "127.0.0.1:502/1" if profile.modbus else each.key))
    if isinstance(it.physics, Button):
        it.physics = replace(it.physics, pressed=NOW)  # some say nothing else
    measured = it.measure(NOW)
    assert measured
    if profile.modbus is not None:
        registers = profile.encode(measured, channel=each.voice.channel).registers
        uplink = Uplink(driver="modbus", address=it.address, registers=registers)
        said = dict(it.read_back(uplink)[0][1])
    else:
        said = {
            key: value for message in it._encode(NOW) for _, values in message.said for key, value in values.items()
        }
    assert said
    for key, value in said.items():
        metric = profile.device_class.metric(key)
        assert metric is not None
        if isinstance(value, bool | str):
            assert value == measured[key], key
        else:
            coarse = tolerance(profile, each.voice.channel, key, float(measured[key]))
            assert abs(float(value) - float(measured[key])) <= max(coarse, 0.02 * abs(float(measured[key]))), key


def test_a_model_that_only_feeds_devices_behind_it_is_played_with_one_of_them() -> None:
    (lamp,) = plan_of(profiles(), ["intesis-dali"], devices=1, seed=1)
    assert lamp.gateway == f"{lamp.key}-gw"
    assert lamp.voice.channel in profiles().get("intesis-dali").channels
    registers = lamp.voice.profile.encode({"power": 40.0, "on": True}, channel=lamp.voice.channel).registers
    assert registers


@pytest.mark.parametrize(
    ("spoken", "message", "channel"),
    [
        ("channel: id, values: {temperature: t}", '{"id": 12, "t": 20.5}', "12"),
        ("each: heard, channel: id, values: {temperature: t}", '{"heard": [{"id": 7, "t": 20.5}]}', "7"),
        ('channels: {"2": {values: {temperature: t2}}}', '{"t2": 20.5}', "2"),
    ],
)
def test_a_model_whose_messages_name_a_channel_is_played_with_one(
    tmp_path: Path, spoken: str, message: str, channel: str
) -> None:
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "radio.yaml").write_text(
        "model: radio\nvendor: any\ntitle: {vi: r, en: r}\nsource: a test\ninterval: 60s\n"
        f'address: "mqtt:rtl/{{address}}"\ntopics: {{"rtl/{{address}}/events": {{json: {{{spoken}}}}}}}\nexamples:\n'
        f"  - {{topic: rtl/g/events, payload: '{message}',\n"
        f'     samples: [{{channel: "{channel}", values: {{temperature: 20.5}}}}]}}\n'
        "  - {topic: rtl/g/events, payload: '{', held: not_json}\n",
        encoding="utf-8",
    )
    (one,) = plan_of(load(tmp_path), ["radio"], devices=1, seed=1)
    assert (one.voice.channel, one.gateway) == (channel, f"{one.key}-gw")
    it = SimDevice(one, "mqtt:rtl/g")
    assert it.login == one.gateway, "it shows the gateway's name and secret"
    ((_, values),) = it.messages(NOW)[0].said
    assert set(values) == {"temperature"}


def test_five_measurements_make_one_array_with_their_own_times_and_numbers() -> None:
    it = device("native-air-quality", "mqtt", buffered=5)
    messages = [message for n in range(5) for message in it.messages(NOW.replace(second=n))]
    assert len(messages) == 1
    assert [time for time, _ in messages[0].said] == [NOW.replace(second=n) for n in range(5)]
    assert messages[0].topic == f"iot/v1/{it.key}/telemetry"
    decoded = it.plan.voice.profile.decode(
        Uplink(driver="mqtt", address=it.address, topic=messages[0].topic, payload=messages[0].payload)
    )
    assert [(sample.seq, sample.run) for sample in decoded.samples] == [(n, "r1") for n in range(1, 6)]


def test_a_fire_changes_what_the_detector_says_and_nothing_else() -> None:
    it = device("native-fire-detector", "mqtt")
    assert it.measure(NOW)["smoke"] is False
    it.ignite(Fire(ignited=NOW.replace(minute=0, second=0), growth=0.2))
    assert it.measure(NOW.replace(minute=1))["smoke"] is True


def test_only_detectors_can_burn() -> None:
    with pytest.raises(AssertionError, match="nuoc"):
        device("native-water-meter", "mqtt").ignite(None)


def test_every_class_of_the_platform_is_simulated() -> None:
    models = [f"native-{key.replace('_', '-')}" for key in profiles().classes]
    planned_of = plan_of(profiles(), models, devices=len(models), seed=1)
    assert {each.class_key for each in planned_of} == set(profiles().classes)


def test_a_model_of_a_class_of_ones_own_is_played_inside_its_plausible_ranges(tmp_path: Path) -> None:
    folder = tmp_path / "dust_trap"
    folder.mkdir()
    (folder / "class.yaml").write_text(OWN_CLASS, encoding="utf-8")
    (folder / "acme.yaml").write_text(OWN_MODEL, encoding="utf-8")
    known = load(tmp_path)
    (one,) = plan_of(known, ["acme-trap"], devices=1, seed=1)
    said = SimDevice(one, "mqtt:acme/a").messages(NOW)[0].said[0][1]
    assert set(said) == {"dust", "filter", "total", "clogged"}
    metrics = {metric.key: metric for metric in known.classes["dust_trap"].metrics}
    assert all(metrics[key].plausible(value) for key, value in said.items())
    later = one.physics.at(NOW + timedelta(hours=1))
    assert later["total"] > said["total"]  # type: ignore[operator]


def test_every_shipped_model_is_played() -> None:
    assert [each.model for each in profiles().all() if voice_of(each) is None] == []


def test_a_model_of_a_driver_from_outside_is_refused_with_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "dust_trap"
    folder.mkdir()
    (folder / "class.yaml").write_text(OWN_CLASS, encoding="utf-8")
    (folder / "acme.yaml").write_text(OWN_MODEL.replace("mqtt:acme/{address}", "acme://{address}")
        .replace('topics: {"acme/{address}": {json: {values: {dust: d, filter: f, total: t, clogged: c}}}}',
                 "json: {values: {dust: d}}").replace("topic: acme/1, ", ""), encoding="utf-8")  # fmt: skip
    with pytest.raises(NotFoundError) as caught:
        plan_of(load(tmp_path), ["acme-trap"], devices=1, seed=1)
    assert (caught.value.code, caught.value.facts["address"]) == ("demo.no_such_face", "acme://{address}")


OWN_CLASS = """\
title: {vi: Bẫy bụi, en: Dust trap}
metrics:
  dust:    {title: {vi: Bụi, en: Dust}, ucum: ug/m3, range: [0, 500]}
  filter:  {title: {vi: Lọc, en: Filter}, ucum: "%", type: int, range: [0, 100]}
  total:   {title: {vi: Tổng, en: Total}, ucum: g, range: [0, 100000], counter: true}
  clogged: {title: {vi: Tắc, en: Clogged}, type: bool}
"""
OWN_MODEL = """\
model: acme-trap
vendor: Acme
title: {vi: Bẫy, en: Trap}
source: a test
interval: 60s
address: "mqtt:acme/{address}"
topics: {"acme/{address}": {json: {values: {dust: d, filter: f, total: t, clogged: c}}}}
examples: [{topic: acme/1, payload: {d: 1}, values: {dust: 1}}, {topic: acme/1, payload: "", held: empty}]
"""
