"""The four shipped classes: what they promise to the store, the alarms and the pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iot_core.messages import text
from iot_core.model import Comparison, MetricType, Reason, Severity, is_metric_key
from iot_core.profiles import Profiles
from tests.conftest import missing

KEYS = {
    "air_quality": "pm1 pm25 pm10 co no2 so2 o3 co2 temperature humidity pressure noise battery",
    "streetlight": "on dim power voltage current power_factor energy lamp_failure temperature day_burner",
    "water_meter": "volume flow pressure temperature battery leak burst reverse_flow tamper dry",
    "fire_detector": "smoke heat co_alarm call_point smoke_density temperature co "
    "battery battery_low fault tamper test",
}
SCHEMAS = Path(__file__).parents[3] / "shared" / "data" / "smart-data-models"


def test_the_classes_have_their_metrics(profiles: Profiles) -> None:
    assert {key: " ".join(metric.key for metric in each.metrics) for key, each in profiles.classes.items()} == KEYS


def test_every_measured_metric_has_a_plausible_range_and_both_titles(profiles: Profiles) -> None:
    for device_class in profiles.classes.values():
        for metric in device_class.metrics:
            assert is_metric_key(metric.key)
            assert metric.title.vi
            assert metric.title.en
            assert metric.title.vi != metric.title.en
            if metric.type is MetricType.FLOAT:
                assert metric.minimum is not None
                assert metric.maximum is not None


def test_every_rule_names_its_class_and_its_source(profiles: Profiles) -> None:
    for key, device_class in profiles.classes.items():
        assert device_class.rules
        for rule in device_class.rules:
            assert rule.key.startswith(f"{key}.")
            assert rule.source
            assert rule.title.vi
            assert rule.title.en


def test_every_class_notices_silence(profiles: Profiles) -> None:
    for device_class in profiles.classes.values():
        silent = [rule for rule in device_class.rules if rule.comparison is Comparison.SILENT]
        assert [rule.threshold for rule in silent] == [3.0]


def test_no_concentration_limit_is_held_against_a_momentary_value(profiles: Profiles) -> None:
    gases = {"pm1", "pm25", "pm10", "co", "no2", "so2", "o3", "co2"}
    assert not [rule for rule in profiles.classes["air_quality"].rules if rule.metric in gases]


def test_a_fire_is_critical_and_stays_until_somebody_acknowledges(profiles: Profiles) -> None:
    fire = profiles.classes["fire_detector"]
    assert fire.life_safety
    for metric in ("smoke", "heat", "co_alarm", "call_point"):
        (rule,) = [rule for rule in fire.rules if rule.metric == metric]
        assert (rule.severity, rule.latched, rule.threshold) == (Severity.CRITICAL, True, True)
        assert not rule.on_delay


def test_smart_data_model_attributes_exist(profiles: Profiles) -> None:
    if not SCHEMAS.is_dir():
        missing(f"{SCHEMAS} is absent: the Smart Data Models schemas are not part of this repository")
    for device_class in profiles.classes.values():
        for metric in device_class.metrics:
            if metric.smart_data_model:
                entity, _, attribute = metric.smart_data_model.partition(".")
                schema = json.loads((SCHEMAS / f"{entity}.schema.json").read_text())
                known = {name for part in schema["allOf"] for name in part.get("properties", {})}
                assert attribute in known, metric.smart_data_model


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_every_reason_has_a_sentence(lang: str) -> None:
    for reason in Reason:
        sentence = text(f"held.{reason}", lang)
        assert sentence != f"held.{reason}"
        assert sentence.endswith(".")
