"""`iot profile check` names every mistake that stands by itself, and none that only follows from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot_core.errors import ConfigError
from iot_core.profiles import load_file
from iot_core.profiles.document import Document
from iot_core.profiles.mistakes import mistakes
from tests.profiles.conftest import shipped

WRONG = """\
model: acme-aq9
vendor: Acme
title: {vi: Trạm, en: Station}
source: ""
intervall: 60s
interval: 60s
modbus:
  points:
    pm25: {table: holding, address: 4, type: uint61, scale: 0.1}
    pm10: {table: holding, adress: 5, type: uint16}
    temprature: {table: holding, address: 8, type: int16}
    humidity: {table: holding, address: 99999}
    no2: {table: holding, address: 12, type: uint16}
examples:
  - {registers: {"holding:4": [352]}, held: trunkated}
  - {registers: {"holdig:4": [352]}, held: truncated}
  - {hex: zz, values: {pm25: 1}}
"""
CLASS = """\
title: {vi: Thử, en: Trial}
metrics:
  dust: {title: {vi: Bụi, en: Dust}, ucum: furlong/fortnight, type: float}
  heat: {title: {vi: Nhiệt, en: Heat}, type: flaot}
  wet: {title: {vi: Ẩm, en: Wet}, type: bool}
rules:
  dusty: {title: {vi: Bụi, en: Dust}, severity: high, when: {metric: dust, above: 5}, source: x}
"""


def named(folder: Path, text: str, file: str = "acme.yaml") -> list[tuple[object, object]]:
    path = folder / "air_quality" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [(each.facts["line"], each.facts["key"]) for each in mistakes(path, shipped())]


def test_all_mistakes_of_a_profile_are_named_in_the_order_of_their_lines(tmp_path: Path) -> None:
    assert named(tmp_path, WRONG) == [
        (4, "source"),
        (5, "intervall"),
        (9, "modbus.points.pm25.type"),
        (10, "modbus.points.pm10.adress"),
        (11, "modbus.points.temprature"),
        (12, "modbus.points.humidity.address"),
        (15, "examples.0.held"),
        (16, "examples.1.registers.holdig:4"),
        (17, "examples.2.hex"),
    ]


def test_a_word_that_was_meant_for_a_missing_key_is_one_mistake(tmp_path: Path) -> None:
    assert named(tmp_path, WRONG.replace("interval: 60s\n", "", 1))[1] == (5, "intervall")
    assert (1, "interval") not in named(tmp_path, WRONG.replace("\ninterval: 60s", ""))


def test_a_table_that_is_empty_only_without_its_mistakes_is_no_further_one(tmp_path: Path) -> None:
    lines = [line for line in WRONG.splitlines() if "no2" not in line and "pm10" not in line]
    keys = [key for _, key in named(tmp_path, "\n".join(lines))]
    assert "modbus.points.humidity.address" in keys
    assert not {"modbus.points", "modbus", "-"} & set(keys)


def test_rules_are_not_blamed_for_metrics_that_could_not_be_read(tmp_path: Path) -> None:
    assert [key for _, key in named(tmp_path, CLASS, "class.yaml")] == ["metrics.dust.ucum", "metrics.heat.type"]


@pytest.mark.parametrize("text", ["model: [", "- 1\n", "", "model: x\n", "extends: nobody\nmodel: x\n"])
def test_what_cannot_be_read_at_all_is_named_once(tmp_path: Path, text: str) -> None:
    assert len(named(tmp_path, text)) >= 1


def test_a_good_file_has_none(tmp_path: Path) -> None:
    good = Path(shipped().get("milesight-am319").file)
    assert mistakes(good, shipped()) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_mistake_that_stops_a_file_is_always_among_those_named(data: st.DataObject, tmp_path: Path) -> None:
    profile = data.draw(st.sampled_from(shipped().all()))
    said = yaml.safe_load(Path(profile.file).read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        damage(data, said)
    path = tmp_path / profile.class_key / "damaged.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(said, allow_unicode=True, sort_keys=False), encoding="utf-8")
    stops = []
    try:
        load_file(path, shipped())
    except ConfigError as exc:
        stops = [str(exc)]
    named = [str(each) for each in mistakes(path, shipped())]
    assert named == [] if not stops else stops[0] in named


def damage(data: st.DataObject, said: Any) -> None:
    """Change one thing somewhere in a document."""
    while True:
        places = list(said) if isinstance(said, dict) else list(range(len(said)))
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        if isinstance(said[place], (dict, list)) and said[place] and data.draw(st.booleans()):
            said = said[place]
            continue
        match data.draw(st.integers(0, 2)):
            case 0 if isinstance(said, dict):
                said[f"{place}x"] = said.pop(place)
            case 1 if isinstance(said, dict):
                del said[place]
            case _:
                said[place] = data.draw(st.sampled_from([None, True, -1, 99999, "nonsense", [], {}, {"a": 1}]))
        return


def test_a_file_too_large_for_any_profile_is_refused_before_it_is_read() -> None:
    with pytest.raises(ConfigError, match="at most 250000 characters in a file"):
        Document("huge.yaml", "a: 1\n" + "# " + "x" * 250_000)
