"""The shipped classes: what they promise to the store, the alarms and the pages."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from iot_core.messages import text
from iot_core.model import Comparison, MetricType, Reason, Severity, is_metric_key
from iot_core.profiles import Profiles

KEYS = {
    "air_quality": "pm1 pm25 pm10 co no2 so2 o3 co2 temperature humidity pressure noise no h2s nh3 hcho pm4 battery",
    "camera_health": "reachable rtsp rtsp_status onvif login latency rtsp_latency clock_offset uptime video_loss "
    "tamper storage_fault temperature",
    "fire_detector": "smoke heat co_alarm call_point smoke_density temperature co battery battery_low fault "
    "tamper test gas alarm prealarm disabled",
    "flood_gauge": "level distance depth fill velocity discharge temperature conductivity alert danger tilt "
    "battery battery_voltage fault",
    "lighting_cabinet": "on mode power reactive_power apparent_power power_factor frequency voltage current "
    "voltage_l1 voltage_l2 voltage_l3 current_l1 current_l2 current_l3 power_l1 power_l2 "
    "power_l3 power_factor_l1 power_factor_l2 power_factor_l3 energy energy_export "
    "reactive_energy temperature door_open breaker_tripped contactor_fault leakage supply_loss "
    "fault overload",
    "panic_button": "pressed press tamper test fault battery battery_low battery_voltage",
    "streetlight": "on dim power voltage current power_factor energy lamp_failure temperature day_burner "
    "gear_failure relay_failure overload lamp_hours",
    "water_meter": "volume flow pressure temperature battery leak burst reverse_flow tamper dry fault "
    "battery_low blocked valve_open",
    "water_quality": "temperature ph conductivity turbidity dissolved_oxygen oxygen_saturation orp tss tds "
    "salinity chlorine ammonium nitrate cod chlorophyll soil_moisture battery battery_voltage "
    "fault",
    "weather": "temperature humidity pressure dew_point wind_speed wind_gust wind_direction rain "
    "rain_total rain_rate solar_radiation illuminance uv_index lightning_strikes "
    "lightning_distance noise battery battery_voltage fault",
}


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
    gases = {"pm1", "pm25", "pm4", "pm10", "co", "no", "no2", "so2", "o3", "co2", "h2s", "nh3", "hcho"}
    assert not [rule for rule in profiles.classes["air_quality"].rules if rule.metric in gases]


def test_a_fire_is_critical_and_stays_until_somebody_acknowledges(profiles: Profiles) -> None:
    fire = profiles.classes["fire_detector"]
    assert fire.life_safety
    for metric in ("smoke", "heat", "co_alarm", "call_point", "gas", "alarm"):
        (rule,) = [rule for rule in fire.rules if rule.metric == metric]
        assert (rule.severity, rule.latched, rule.threshold) == (Severity.CRITICAL, True, True)
        assert not rule.on_delay


def test_smart_data_model_attributes_exist(profiles: Profiles) -> None:
    """The names are those of the entities' schemas, taken out of them on the commits that the file names."""
    known = msgspec.yaml.decode((Path(__file__).parent / "smart_data_models.yaml").read_bytes())
    for device_class in profiles.classes.values():
        for metric in device_class.metrics:
            if metric.smart_data_model:
                entity, _, attribute = metric.smart_data_model.partition(".")
                assert attribute in known[entity]["attributes"], metric.smart_data_model


def test_most_measured_metrics_of_a_class_with_an_entity_name_their_attribute(profiles: Profiles) -> None:
    for key in ("air_quality", "weather", "streetlight", "lighting_cabinet", "water_quality", "flood_gauge"):
        metrics = profiles.classes[key].metrics
        assert sum(metric.smart_data_model is not None for metric in metrics) >= 3, key


@pytest.mark.parametrize("lang", ["vi", "en"])
def test_every_reason_has_a_sentence(lang: str) -> None:
    for reason in Reason:
        sentence = text(f"held.{reason}", lang)
        assert sentence != f"held.{reason}"
        assert sentence.endswith(".")
