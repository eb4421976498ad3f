"""Faults on demand: each does what its name says, and what it says stays countable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from iot_core.errors import RequestError
from simulators.device import Message, SimDevice
from simulators.faults import FAULTS, Wish, afflict, wishes
from simulators.fleet import Planned
from tests.simulators.conftest import device, planned

NOON = datetime(2026, 7, 1, 5, 0, tzinfo=UTC)


def with_fault(name: str, model: str = "native-water-meter", protocol: str = "mqtt") -> SimDevice:
    it = device(model, protocol)
    it.fault = FAULTS[name]()
    return it


def spoken(it: SimDevice, seconds: int) -> list[Message]:
    return [message for n in range(seconds) for message in it.messages(NOON + timedelta(seconds=n))]


def city() -> list[SimDevice]:
    def running(each: Planned) -> SimDevice:
        return SimDevice(each, each.voice.profile.address.replace("{address}", each.key), run="r1")

    return [running(each) for each in planned(200)]


def test_twice_hands_over_each_message_twice_and_counts_it_once() -> None:
    said = spoken(with_fault("twice"), 3)
    assert [message.copies for message in said] == [2, 2, 2]
    assert [len(message.said) for message in said] == [1, 1, 1]


def test_offline_says_everything_once_later_and_not_in_order() -> None:
    it = with_fault("offline")
    by_second = [it.messages(NOON + timedelta(seconds=n)) for n in range(60)]
    said = [message for messages in by_second for message in messages] + it.last_words()
    numbers = [json.loads(message.payload)["seq"] for message in said]
    assert sorted(numbers) == list(range(1, 61))
    assert numbers != sorted(numbers)
    gaps = [n for n, messages in enumerate(by_second) if not messages]
    assert 8 <= len(gaps) <= 30  # three turns of four to nine seconds, cut where the minute ends
    assert it.last_words() == []


def test_what_is_broken_nobody_can_read_and_none_of_it_is_awaited() -> None:
    it = with_fault("broken")
    said = spoken(it, 300)
    broken = [message for message in said if message.broken]
    assert 10 <= len(broken) <= 60
    assert all(message.said == () for message in broken)
    for message in broken:
        with pytest.raises(json.JSONDecodeError):
            json.loads(message.payload)
    assert all(len(message.said) == 1 for message in said if not message.broken)


def test_an_unset_clock_says_1970_and_is_awaited_at_its_arrival() -> None:
    (message,) = with_fault("clock").messages(NOON)
    assert datetime.fromisoformat(json.loads(message.payload)["time"]).year == 1970
    assert [time for time, _ in message.said] == [None]


def test_spikes_cannot_be_and_the_model_can_say_them() -> None:
    it = with_fault("spike", "native-streetlight")
    metrics = {metric.key: metric for metric in it.plan.voice.profile.device_class.metrics}
    said = [values for message in spoken(it, 300) for _, values in message.said]
    wrong = [key for values in said for key, value in values.items() if not metrics[key].plausible(value)]
    assert 10 <= len(wrong) <= 60
    assert not any(metrics[key].counter for key in wrong)


def test_stuck_says_the_same_for_ever_and_its_clock_goes_on() -> None:
    said = spoken(with_fault("stuck", "native-air-quality"), 5)
    assert len({str(message.said[0][1]) for message in said}) == 1
    assert len({message.said[0][0] for message in said}) == 5


def test_dead_says_nothing_after_half_a_minute() -> None:
    it = with_fault("dead")
    assert [bool(it.messages(NOON + timedelta(seconds=n))) for n in (0, 15, 30, 31, 60)] == [True] * 3 + [False] * 2
    assert it.last_words() == []


def test_the_same_seed_gives_the_same_faults_one_a_device_and_nobody_to_a_life_safety_sensor() -> None:
    devices = city()
    struck = afflict(devices, wishes(["all"]), seed=1)
    assert struck == afflict(city(), wishes(["all"]), seed=1)
    assert struck != afflict(city(), wishes(["all"]), seed=2)
    names = [key for keys in struck.values() for key in keys]
    assert len(names) == len(set(names)) == 7 * 10
    faulty = {each.key: each for each in devices}
    assert not any(faulty[key].plan.class_key == "fire_detector" for name in ("spike", "stuck") for key in struck[name])


def test_a_fault_that_nobody_can_have_is_refused() -> None:
    detectors = [each for each in city() if each.plan.class_key == "fire_detector"]
    with pytest.raises(RequestError) as refused:
        afflict(detectors, [Wish("stuck")], seed=1)
    assert refused.value.code == "demo.fault_nobody"


@pytest.mark.parametrize("said", ["flood", "twice=", "twice=0", "twice=1.5", "twice=x", "=0.1", "all=nan", ""])
def test_a_wrong_fault_names_those_that_there_are(said: str) -> None:
    with pytest.raises(RequestError) as refused:
        wishes([said])
    assert refused.value.code == "demo.bad_fault"
    assert "offline" in str(refused.value.facts["faults"])


def test_a_share_is_of_all_devices() -> None:
    assert wishes(["offline=0.2", "twice"]) == [Wish("offline", 0.2), Wish("twice", 0.05)]
    assert len(afflict(city(), wishes(["offline=0.2"]), seed=1)["offline"]) == 40
