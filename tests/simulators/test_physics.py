"""The simulated world is believable, and the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.physics import (
    AirStation,
    Button,
    Cabinet,
    Camera,
    Detector,
    Fire,
    HouseMeter,
    Lamp,
    MainMeter,
    Physics,
    RiverGauge,
    WaterProbe,
    WeatherStation,
)
from simulators.physics.air import traffic
from simulators.physics.fire import FAST, MEDIUM, SLOW, ULTRA_FAST
from simulators.physics.light import dim_at, night, power_factor
from simulators.physics.river import run_off
from simulators.physics.station import rain_total
from simulators.physics.sun import day_light
from simulators.physics.weather import LATITUDE, LOCAL, LONGITUDE, weather
from tests.simulators.conftest import profiles

SEEDS = st.integers(min_value=0, max_value=2**63)
TIMES = st.datetimes(min_value=datetime(2025, 6, 1), max_value=datetime(2028, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001
patient = settings(deadline=None, max_examples=40)
GAPS = st.integers(min_value=1, max_value=200_000)
RANGES = {
    "pm1": (0, 500), "pm25": (0, 500), "pm10": (0, 700), "no2": (0, 400), "o3": (0, 300), "so2": (0, 100),
    "co": (0, 15_000), "co2": (350, 1000), "temperature": (0, 130), "humidity": (10, 100), "pressure": (0, 1060),
    "noise": (30, 90), "battery": (1, 100), "dim": (0, 100), "power": (0, 400), "voltage": (198, 242),
    "current": (0, 3), "power_factor": (0, 1), "energy": (0, 20_000), "volume": (0, 5_000_000), "flow": (0, 500),
    "smoke_density": (0, 10),
}  # fmt: skip


def every(seed: int) -> list[Physics]:
    return [
        AirStation(seed, seed + 1),
        Lamp(seed, seed + 2),
        HouseMeter(seed, seed + 3),
        MainMeter(seed, seed + 4),
        Detector(city=seed, seed=seed + 5),
        WeatherStation(seed, seed + 6),
        Cabinet(seed, seed + 7),
        RiverGauge(seed, seed + 8),
        WaterProbe(seed, seed + 9),
        Button(seed=seed + 10),
        Camera(seed, seed + 11),
    ]


@given(seed=SEEDS, time=TIMES)
@patient
def test_same_seed_and_time_give_the_same_values(seed: int, time: datetime) -> None:
    assert [thing.at(time) for thing in every(seed)] == [thing.at(time) for thing in every(seed)]


def test_another_seed_gives_another_series() -> None:
    time = datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert all(a.at(time) != b.at(time) for a, b in zip(every(1), every(2), strict=True))


@given(seed=SEEDS, time=TIMES)
@patient
def test_values_stay_in_believable_ranges(seed: int, time: datetime) -> None:
    for thing in every(seed):
        for key, value in thing.at(time).items():
            if not isinstance(value, bool) and key in RANGES and not isinstance(thing, Cabinet | WaterProbe):
                low, high = RANGES[key]
                assert low <= float(value) <= high, f"{key} of {thing}"


CLASSES: dict[str, Callable[[int, int], Physics]] = {
    "air_quality": AirStation, "camera_health": Camera, "flood_gauge": RiverGauge, "lighting_cabinet": Cabinet,
    "streetlight": Lamp, "water_meter": HouseMeter, "water_quality": WaterProbe, "weather": WeatherStation,
}  # fmt: skip


@pytest.mark.parametrize("class_key", CLASSES)
@given(seed=SEEDS, time=TIMES)
@patient
def test_every_metric_of_a_class_is_played_and_plausible(class_key: str, seed: int, time: datetime) -> None:
    metrics = profiles().classes[class_key].metrics
    values = CLASSES[class_key](seed, seed).at(time)
    assert values.keys() == {metric.key for metric in metrics}
    assert [metric.key for metric in metrics if not metric.plausible(values[metric.key])] == []


def test_a_button_says_its_press_and_then_that_nobody_presses_it() -> None:
    at = datetime(2026, 3, 1, 3, tzinfo=UTC)
    button = Button(seed=1, pressed=at)
    said = [button.at(at + timedelta(seconds=s)) for s in (-1, 0, 9, 10)]
    assert [values["pressed"] for values in said] == [False, True, True, False]
    assert ["press" in values for values in said] == [False, True, True, False]


def test_rain_falls_on_some_days_lifts_the_river_and_muddies_it() -> None:
    day = datetime(2026, 7, 1, 12, tzinfo=UTC)
    times = [day + timedelta(hours=n) for n in range(24 * 30)]
    wettest = max(times, key=lambda time: run_off(1, time))
    driest = min(times, key=lambda time: run_off(1, time))
    assert run_off(1, wettest) > 10
    assert run_off(1, driest) == pytest.approx(0, abs=1e-6)
    probe = WaterProbe(1, 1)
    assert float(probe.at(wettest)["turbidity"]) > 2 * float(probe.at(driest)["turbidity"])
    rising = float(RiverGauge(1, 1).at(wettest)["level"]) - 0.015 * run_off(1, wettest)
    assert float(RiverGauge(1, 1).at(wettest)["level"]) > rising


@given(seed=SEEDS, time=TIMES, gap=GAPS)
@patient
def test_counters_never_run_backwards(seed: int, time: datetime, gap: int) -> None:
    later = time + timedelta(seconds=gap)
    for thing in (HouseMeter(seed, seed), MainMeter(seed, seed)):
        # Sums of floats: a billionth of a cubic metre is no step back.
        assert float(thing.at(later)["volume"]) >= float(thing.at(time)["volume"]) - 1e-9
    assert Lamp(seed, seed).energy(later) > Lamp(seed, seed).energy(time)
    assert rain_total(seed, later) >= rain_total(seed, time) - 1e-9


@given(seed=SEEDS, time=TIMES)
@patient
def test_the_register_is_the_integral_of_the_flow(seed: int, time: datetime) -> None:
    meter = HouseMeter(seed, seed)
    seconds = range(0, 600, 2)
    passed = sum(float(meter.at(time + timedelta(seconds=s))["flow"]) * 2 / 3600 for s in seconds)
    counted = float(meter.at(time + timedelta(seconds=600))["volume"]) - float(meter.at(time)["volume"])
    assert counted == pytest.approx(passed, abs=0.01)


@given(seed=SEEDS, time=TIMES)
@patient
def test_energy_is_the_integral_of_the_power(seed: int, time: datetime) -> None:
    lamp = Lamp(seed, seed)
    steps = [float(lamp.at(time + timedelta(minutes=m))["power"]) for m in range(0, 24 * 60, 2)]
    counted = lamp.energy(time + timedelta(days=1)) - lamp.energy(time)
    assert counted == pytest.approx(sum(steps) / 30 / 1000, rel=0.01)


@given(time=TIMES)
@patient
def test_lamps_are_dark_while_the_sun_is_up_and_lit_at_midnight(time: datetime) -> None:
    rise, sink = day_light(time.astimezone(LOCAL).date(), LATITUDE, LONGITUDE)
    if rise <= time <= sink:
        assert dim_at(time) == 0
        assert Lamp(1, 1).at(time)["on"] is False
    midnight = datetime.combine(time.date(), datetime.min.time(), LOCAL)
    assert dim_at(midnight.astimezone(UTC)) == 0.5


@pytest.mark.parametrize(
    ("day", "sunrise", "sunset"),
    [
        (date(2026, 6, 21), (5, 11), (18, 35)),
        (date(2026, 12, 21), (6, 24), (17, 15)),
        (date(2026, 3, 20), (5, 56), (18, 2)),
    ],
)
def test_the_sun_keeps_the_almanac_within_three_minutes(
    day: date, sunrise: tuple[int, int], sunset: tuple[int, int]
) -> None:
    for got, (hour, minute) in zip(day_light(day, LATITUDE, LONGITUDE), (sunrise, sunset), strict=True):
        local = got.astimezone(LOCAL)
        assert abs(local.hour * 60 + local.minute - hour * 60 - minute) <= 3


def test_a_night_is_full_then_dimmed_then_full() -> None:
    assert [dim for _, _, dim in night(date(2026, 12, 1))] == [1.0, 0.5, 1.0]


def test_power_factor_falls_with_the_dim_level() -> None:
    levels = [power_factor(n / 100) for n in range(101)]
    assert levels == sorted(levels)
    assert power_factor(0.5) == pytest.approx(0.90)


def test_traffic_has_two_peaks_and_a_quiet_night() -> None:
    hours = [traffic(datetime(2026, 3, 3, h, 30, tzinfo=LOCAL)) for h in range(24)]
    assert max(range(12), key=hours.__getitem__) in {6, 7}
    assert max(range(12, 24), key=hours.__getitem__) in {16, 17}
    assert hours[2] < 0.2 * hours[7]


@given(seed=SEEDS, time=TIMES)
@patient
def test_fine_dust_is_part_of_coarse_dust(seed: int, time: datetime) -> None:
    values = AirStation(seed, seed).at(time)
    assert float(values["pm1"]) < float(values["pm25"]) < float(values["pm10"])


def test_air_is_drier_in_the_warm_afternoon() -> None:
    dawn, afternoon = (weather(7, datetime(2026, 4, 10, h, tzinfo=LOCAL)) for h in (5, 14))
    assert afternoon.temperature > dawn.temperature
    assert afternoon.humidity < dawn.humidity


def test_noise_remembers_its_last_minutes() -> None:
    start = datetime(2026, 4, 10, 3, tzinfo=UTC)
    pm = [math.log(float(AirStation(1, 9).at(start + timedelta(seconds=20 * n))["pm25"])) for n in range(600)]
    steps = [b - a for a, b in pairwise(pm)]
    assert max(map(abs, steps)) < 0.2 * (max(pm) - min(pm))


@given(seed=SEEDS, time=TIMES)
@patient
def test_a_quiet_detector_never_alarms(seed: int, time: datetime) -> None:
    values = Detector(city=seed, seed=seed).at(time)
    assert not any(values[key] for key in ("smoke", "heat", "co_alarm", "fault", "tamper", "battery_low"))
    assert float(values["smoke_density"]) < 0.05


@pytest.mark.parametrize(("growth", "seconds"), [(SLOW, 600), (MEDIUM, 300), (FAST, 150), (ULTRA_FAST, 75)])
def test_fires_reach_a_megawatt_when_the_tables_say(growth: float, seconds: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    fire = Fire(ignited=start, growth=growth)
    assert fire.heat_release(start + timedelta(seconds=seconds)) == pytest.approx(1055, rel=0.005)


@given(seed=SEEDS, time=TIMES, distance=st.floats(1.0, 3.0))
@patient
def test_smoke_is_seen_before_heat_is_felt(seed: int, time: datetime, distance: float) -> None:
    burning = Detector(city=seed, seed=seed, distance=distance, fire=Fire(ignited=time, growth=FAST))
    seconds = {
        key: next(s for s in range(600) if burning.at(time + timedelta(seconds=s))[key])
        for key in ("smoke", "heat", "co_alarm")
    }
    assert 2 <= seconds["smoke"] <= 30
    assert seconds["smoke"] < seconds["co_alarm"]
    assert seconds["smoke"] < seconds["heat"]


def test_a_detector_is_quiet_before_the_fire_and_after_it() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    burning = Detector(city=1, seed=1, fire=Fire(ignited=start, burns=timedelta(minutes=2)))
    assert burning.at(start - timedelta(seconds=1)) == Detector(city=1, seed=1).at(start - timedelta(seconds=1))
    assert burning.at(start + timedelta(minutes=2))["smoke"] is True
    assert burning.at(start + timedelta(minutes=30))["smoke"] is False
