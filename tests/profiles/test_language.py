"""A mistake in a file stops the start with one sentence: file, line, key, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import device_profiles
from iot_core.errors import ConfigError
from iot_core.messages import said
from iot_core.profiles import Profiles, check, load, load_file
from iot_core.profiles.bases import Bases
from iot_core.profiles.classes import read_class
from iot_core.profiles.compile import compile_profile
from iot_core.profiles.document import Document, duration
from tests.profiles.conftest import shipped

GOOD = """\
model: acme-aq4
vendor: Acme
title: {vi: Trạm không khí AQ4, en: AQ4 air station}
source: "AQ4 Modbus manual rev 1.2, table 3"
interval: 60s
modbus:
  points:
    pm25:        {table: holding, address: 4, type: uint16, scale: 0.1}
    temperature: {table: holding, address: 8, type: int16,  scale: 0.1}
examples:
  - registers: {"holding:4": [352], "holding:8": [65336]}
    values: {pm25: 35.2, temperature: -20.0}
  - registers: {"holding:4": [352]}
    held: truncated
    samples: [{values: {pm25: 35.2}}]
"""
MQTT = GOOD.replace(GOOD[GOOD.index("modbus:") : GOOD.index("examples:")], "WAY\n").replace(
    GOOD[GOOD.index("  - registers") :], '  - {payload: "{}", held: no_values}\n  - {payload: "1", online: true}\n'
)


def write(folder: Path, text: str, class_key: str = "air_quality") -> Path:
    (folder / class_key).mkdir(exist_ok=True)
    path = folder / class_key / "acme.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(folder: Path, profiles: Profiles, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_file(write(folder, text), profiles)
    return caught.value


def test_the_example_of_the_guide_loads_beside_the_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    own = load(tmp_path).get("acme-aq4")
    assert own.class_key == "air_quality"
    assert own.address == "modbus://{address}"
    assert own.metrics == ("pm25", "temperature")
    assert own.topics == ()


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "expected"),
    [
        ("vendor: Acme", "vendor: Acme\nvendor: Acme", 3, "vendor", "once"),
        ("vendor: Acme", "maker: Acme", 2, "maker", "not known"),
        ("vendor: Acme\n", "", 1, "vendor", "given"),
        ("model: acme-aq4", "model: Acme AQ4", 1, "model", "key of the form"),
        ("vi: Trạm không khí AQ4, ", "", 3, "title.vi", "given"),
        ('source: "AQ4 Modbus manual rev 1.2, table 3"', 'source: " "', 4, "source", "document"),
        ("interval: 60s", "interval: often", 5, "interval", "duration"),
        ("interval: 60s", "interval: 60", 5, "interval", "duration"),
        ("table: holding, address: 4", "table: holdings, address: 4", 8, "modbus.points.pm25.table", "holdings"),
        ("address: 4", "address: 40005", 8, "", ""),
        ("address: 4", "address: 70000", 8, "modbus.points.pm25.address", "0-based"),
        ("address: 4", "adress: 4", 8, "modbus.points.pm25.adress", "not known"),
        ("type: uint16", "type: uint12", 8, "modbus.points.pm25.type", "uint12"),
        ("type: uint16, ", "", 8, "modbus.points.pm25.type", "such as uint16"),
        ("type: uint16", "type: uint16, order: ACBD", 8, "modbus.points.pm25.order", "ACBD"),
        ("type: uint16", "type: float32, bit: 1", 8, "modbus.points.pm25.type", "unsigned"),
        ("type: uint16", "type: string", 8, "modbus.points.pm25.length", "length"),
        ("scale: 0.1}", "scale: none}", 8, "modbus.points.pm25.scale", "fraction"),
        ("scale: 0.1}", "scale: 0}", 8, "modbus.points.pm25.scale", "other than 0"),
        ("scale: 0.1}", "unit: Cel}", 8, "modbus.points.pm25.unit", "ug/m3"),
        ("scale: 0.1}", "scale: 1e400}", 8, "modbus.points.pm25.scale", "a finite number"),
        ("scale: 0.1}", f"offset: {'9' * 400}}}", 8, "modbus.points.pm25.offset", "a finite number"),
        ("scale: 0.1}", "unknown: [-1e999]}", 8, "modbus.points.pm25.unknown.0", "a finite number"),
        ("scale: 0.1}", "curve: [[1, a], [2, 3]]}", 8, "modbus.points.pm25.curve.0.1", "a number, not text"),
        (
            "scale: 0.1}",
            "scale_from: {address: 5, type: int16, factors: {1: 1/0}}}",
            8,
            "modbus.points.pm25.scale_from.factors.1",
            "fraction",
        ),
        ("interval: 60s", "interval: 99999999999999d", 5, "interval", "duration"),
        ("scale: 0.1}", "map: {1: true}}", 8, "modbus.points.pm25.map.1", "a number"),
        ("scale: 0.1}", "equals: 1}", 8, "modbus.points.pm25", "bool"),
        ("pm25:  ", "pm2_5:  ", 8, "modbus.points.pm2_5", "metric of the class"),
        ("pm25:  ", "PM25:  ", 8, "modbus.points.PM25", "did you mean pm25?"),
        ("pm25:  ", "time:  ", 8, "modbus.points.time", "a metric of the class"),
        ("modbus:", "native: true\nmodbus:", 1, "-", "exactly one of"),
        ("    held: truncated", "    held: bad luck", 14, "examples.1.held", "truncated"),
        ('- registers: {"holding:4": [352]}', '- hex: "0x"', 13, "examples.1.hex", "x is none"),
        ('- registers: {"holding:4": [352]}', '- hex: "01 2"', 13, "examples.1.hex", "these are 3"),
        ('- registers: {"holding:4": [352]}', '- base64: "AB"', 13, "examples.1.base64", "with = at the end"),
        ("en: AQ4 air station", "en: AQ4, air station", 3, "title.air station", "a comma inside { } wants quotes"),
        (
            "modbus:",
            "modbus:\n  detect: {device_id: {VendorName: Acme}}",
            7,
            "modbus.detect.device_id.VendorName",
            "did you mean vendor?",
        ),
        ("model: acme-aq4", "model: [", 3, "-", "closing ]"),
        ("vendor: Acme", "vendor: Acme: the best", 2, "-", "quotes around a text with a colon"),
        ("vendor: Acme", 'vendor: "Acme', 2, "-", "the quote that is opened here"),
        ("vendor: Acme", "vendor: 'Acme", 2, "-", "the quote that is opened here"),
        ("interval: 60s", 'interval: "60s', 5, "-", "the quote that is opened here"),
        ("en: AQ4 air station", 'en: "AQ4 air station', 3, "-", "the quote that is opened here"),
        ("model: acme-aq4", "model: acme-aq4\nextends: acme-aq4", 2, "extends", "not itself (acme-aq4"),
        ("vendor: Acme", "vendor: @acme", 2, "-", "begins with %"),
        ("vendor: Acme", "vendor: *acme", 2, "-", "an anchor &name"),
        ("vendor: Acme", "vendor: *", 2, "-", "begins with * or &"),
        ("interval: 60s", " interval: 60s", 5, "-", "as many spaces"),
        ("scale: 0.1}", "scale: 0,1}", 8, "modbus.points.pm25", "decimals have a point: 0.1"),
        ("vendor: Acme", "vendor: !!python/object:os.system Acme", 2, "vendor", "tag"),
    ],
)
def test_a_mistake_is_named_where_it_stands(
    tmp_path: Path, profiles: Profiles, *, before: str, after: str, line: int, key: str, expected: str
) -> None:
    text = GOOD.replace(before, after, 1)
    if not expected:  # 40005 is a register number of a manual, and a legal address: the example shows the mistake
        assert load_file(write(tmp_path, text), profiles).modbus is not None
        return
    error = mistake(tmp_path, profiles, text)
    assert (error.facts["line"], error.facts["key"] or "-") == (line, key)
    assert expected in str(error.facts["expected"])
    assert re.search(rf"acme\.yaml.*{line}", said(error, "en"))
    assert re.search(rf"acme\.yaml.*{line}", said(error, "vi"))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("json: {values: {pm25: 'a..b'}}", "a path such as"),
        ("json: {values: {pm25: {path: []}}}", "at least one path"),
        ("json: {each: rows, values: {pm25: a}}", "time beside it"),
        ("json: {time: t}", "values, states or channels"),
        ("json: {values: {temperature: {path: a, unit_from: u}}}", "unit_from may say"),
        ("json: {values: {pm25: {path: a, cases: {1: {pm25: 1}}}}}", "only under states"),
        ("json: {states: {s: {path: a, cases: {1: {smoke: true}}}}}", "a metric of the class"),
        ("json: {states: {s: {path: a, cases: {1: {pm25: true}}}}}", "a number: the metric"),
        ("senml: {values: {pm25: '/'}}", "record's name"),
        ("bytes: {values: {pm25: {at: 0}}}", "length (of a"),
        ("bytes: {length: 2, values: {pm25: {at: 1, type: uint16}}}", "within 2 bytes"),
        ("bytes: {length: 2, checksum: md5, values: {pm25: {at: 1}}}", "one of"),
        ("bytes: {records: {'0x': {length: 1}}}", "a key in hexadecimal"),
        ("bytes: {length: 2, require: {kind: {at: 0}}, values: {pm25: {at: 1}}}", "must stand there"),
        ("topics: {'a/b': {json: {values: {pm25: a}}}}", "{address}"),
        ("topics: {'a/{address}/#': {json: {values: {pm25: a}}}}", "no wildcard but +"),
        ("topics: {'a/eui-{address}': {json: {values: {pm25: a}}}}", "one whole level"),
        ("topics: {'a/{address}': {xml: {}}}", "exactly one of"),
        ("topics: {'a/{address}': {presence: {online: x, offline: x}}}", "two different texts"),
        ("address: '{address}'\njson: {values: {pm25: a}}", "a scheme"),
        ("modbus: {repeat: {count: 900, stride: 100}, points: {pm25: {address: 0, type: uint16}}}", "stays below"),
        ("bytes: {length: 2, values: {pm25: {at: 0, bit: -1}}}", "a bit from 0 to 7"),
        ("bytes: {length: 2, time: {at: 0, bit: -1}, values: {pm25: {at: 0}}}", "a bit from 0 to 7"),
        ("bytes: {length: 2, extra: {a: {at: 0, type: hex, length: 100000000000000000000}}}", "at most 10000"),
        ("bytes: {records: {12: {length: 1}}}", "text (in quotes)"),
        ("lorawan: {ports: {two: {}}}", "a whole number"),
        ("bytes: {length: 2, values: [pm25]}", "a table with at least one entry"),
        ("bytes: {length: 2, values: pm25}", "a table with at least one entry"),
        ("lorawan: {port: 900, bytes: {length: 1, values: {pm25: {}}}}", "an fPort from 0 to 255"),
        ("text: {split: [], values: {pm25: 0}}", "text that stands between fields"),
        (
            "bytes: {length: 1, blocks: [{repeat: end, every: {at: 0, scale: 0}, length: 1, values: {pm25: {}}}]}",
            "seconds a count",
        ),
        ("json: {values: {pm25: {path: a, plus: {path: b, scale: x}}}}", "a number"),
        ("text: {checksum: nema, values: {pm25: 0}}", "nmea"),
        ("json: {values: {pm25: $.a.b}}", "a path without $"),
        ("json: {columns: rows, values: {pm25: p}}", "time beside it"),
        ("json: {columns: rows, each: rows, time: t, values: {pm25: p}}", "each or columns"),
        ("bytes: {key: {mask: 31}, length: 1, values: {pm25: {}}}", "records beside it"),
        ("bytes: {key: {mask: 0}, records: {'01': {length: 1, values: {pm25: {}}}}}", "bits from 1 to 0xFF"),
        ("bytes: {key: {mask: 15, channel: 24}, records: {'01': {length: 1, values: {pm25: {}}}}}", "within 0xF0"),
        ("bytes: {key: {mask: 15}, records: {'21': {length: 1, values: {pm25: {}}}}}", "within the mask 0xF"),
        ("coap: {resources: {a: {json: {values: {pm25: a}}, observe: often}}}", "true or false, not text"),
    ],
)
def test_each_format_checks_its_own_keys(tmp_path: Path, profiles: Profiles, way: str, expected: str) -> None:
    text = MQTT.replace("WAY", way)
    if "topics:" in way:
        text = text.replace("topics:", "address: 'mqtt:a/{address}'\ntopics:")
    assert expected in str(mistake(tmp_path, profiles, text).facts["expected"])


def test_yaml_words_of_other_languages_stay_text() -> None:
    document = Document("x.yaml", "on: yes\noff: 12:30\nno: 0x1F\nv: [null, ~, true, 1e3, -.5, 010, '1']")
    assert document.data == {"on": "yes", "off": "12:30", "no": 31, "v": [None, None, True, 1000.0, -0.5, "010", "1"]}


def test_two_files_of_one_folder_may_not_define_one_model(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "air_quality" / "again.yaml").write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert "acme.yaml" in str(caught.value.facts["expected"])


def test_an_own_folder_overrides_a_shipped_model_and_adds_a_class(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("acme-aq4", "tuf-2000m"))
    (tmp_path / "tide_gauge").mkdir()
    (tmp_path / "tide_gauge" / "class.yaml").write_text(
        "title: {vi: Trạm đo mực nước, en: Flood gauge}\n"
        "metrics:\n  level: {title: {vi: Mực nước, en: Level}, ucum: '1'}\n"
    )
    profiles = load(tmp_path)
    assert profiles.get("tuf-2000m").class_key == "air_quality"
    assert "tide_gauge" in profiles.classes


def test_a_profile_in_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "tide_gauge")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.code == "profile.no_class"
    with pytest.raises(ConfigError):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("range: [0, 10]", "range: [10, 0]", "lowest"),
        ("precision: 2", "precision: 12", "decimals"),
        ("ucum: ug/m3", "ucum: mcg", "unit of measure"),
        ("above: 5", "above: 5, below: 2", "exactly one of"),
        ("metric: dust", "metric: smoke", "a metric of this class"),
        ("above: 5", "equals: 'yes'", "compared with"),
        ("when: {metric: dust, above: 5}", "when: {silent_for: 0}", "silent_for"),
        ("severity: high", "severity: urgent", "urgent"),
        ("  dust: {", "  bad: {", "reserved"),
        ("type: float", "type: enum", "members"),
        ("for: 5m", "for: 5 minutes", "duration"),
        ("for: 5m", "for: 5m, latched: true, momentary: true", "latched beside it"),
    ],
)
def test_a_class_is_checked_like_a_profile(before: str, after: str, expected: str) -> None:
    text = """\
title: {vi: Thử, en: Trial}
metrics:
  dust: {title: {vi: Bụi, en: Dust}, type: float, ucum: ug/m3, precision: 2, range: [0, 10]}
rules:
  dusty: {title: {vi: Bụi, en: Dusty}, severity: high, when: {metric: dust, above: 5}, for: 5m, source: none}
"""
    read_class(Document("class.yaml", text), "trial")
    with pytest.raises(ConfigError) as caught:
        read_class(Document("class.yaml", text.replace(before, after, 1)), "trial")
    assert expected in str(caught.value.facts["expected"])


def test_a_rule_counts_devices_behind_gateways_of_a_class_that_there_is(tmp_path: Path) -> None:
    text = """\
title: {vi: Thử, en: Trial}
metrics:
  on: {title: {vi: Bật, en: "On"}, type: bool}
rules:
  off: {title: {vi: Tắt, en: Out}, severity: low, when: {metric: on, equals: false}, source: none}
  dark:
    title: {vi: Tối, en: Dark}
    severity: high
    source: none
    when: {devices: [off], at_least: 2, behind: cabnet}
"""
    mine, beside = tmp_path / "trial" / "class.yaml", tmp_path / "cabinet" / "class.yaml"
    for path in (mine, beside):
        path.parent.mkdir()
    mine.write_text(text, encoding="utf-8")
    beside.write_text(text.partition("rules:")[0], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    facts = caught.value.facts
    assert (facts["file"], facts["line"], facts["key"]) == (str(mine), 10, "rules.dark.when.behind")
    assert "did you mean cabinet?" in str(facts["expected"])
    (told,) = check(mine)
    assert told.error is not None
    assert told.error.facts["key"] == "rules.dark.when.behind"
    mine.write_text(text.replace("cabnet", "cabinet"), encoding="utf-8")
    assert check(mine) == []
    (rule,) = [each for each in load(tmp_path).classes["trial"].rules if each.behind]
    assert rule.behind == "cabinet"


def test_durations() -> None:
    assert [str(duration(each)) for each in ("250ms", "60s", "1.5h", "7d", "60", "1w")] == [
        "0:00:00.250000",
        "0:01:00",
        "1:30:00",
        "7 days, 0:00:00",
        "None",
        "None",
    ]


@pytest.mark.parametrize(
    "examples",
    ["", "examples: []\n", GOOD[GOOD.index("examples:") :].replace("    held: truncated\n", "")],
)
def test_a_file_without_good_and_bad_examples_decodes_and_is_not_checked(
    tmp_path: Path, profiles: Profiles, examples: str
) -> None:
    path = write(tmp_path, GOOD[: GOOD.index("examples:")] + examples)
    assert load_file(path, profiles).metrics == ("pm25", "temperature")
    *_, last = check(path, profiles)
    assert not last.ok
    assert "one that is held" in last.expected
    assert last.file == str(path)


def test_an_example_is_compared_as_far_as_its_metric_is_kept(tmp_path: Path, profiles: Profiles) -> None:
    text = GOOD.replace("scale: 0.1}", "scale: 1/7}", 1).replace("pm25: 35.2", "pm25: 50.29")  # 50.285714, two decimals
    assert [each.ok for each in check(write(tmp_path, text), profiles)] == [True, True]
    assert not check(write(tmp_path, text.replace("50.29", "50.3")), profiles)[0].ok


def test_the_registers_of_an_example_may_be_written_as_manuals_do(tmp_path: Path, profiles: Profiles) -> None:
    text = GOOD.replace('"holding:4": [352], "holding:8"', '"holding:0x4": [352], "holding:0x08"')
    assert all(each.ok for each in check(write(tmp_path, text), profiles))
    error = mistake(tmp_path, profiles, GOOD.replace('"holding:8"', '"holding:40009x"'))
    assert error.facts["key"] == "examples.0.registers.holding:40009x"
    assert "input:0x34" in str(error.facts["expected"])


def test_digits_without_quotes_are_told_apart_from_text(tmp_path: Path, profiles: Profiles) -> None:
    error = mistake(tmp_path, profiles, GOOD.replace("vendor: Acme", "vendor: 6100"))
    assert error.facts["expected"] == "text (in quotes), not a whole number"


@pytest.mark.parametrize(
    ("before", "after", "meant"),
    [
        ("type: uint16", "type: float", "float32"),
        ("address: 4", "register: 4", "address"),
        ("scale: 0.1", "factor: 0.1", "scale"),
        ("type: uint16", "datatype: uint16", "type"),
        ("type: uint16", "type: u16", "uint16"),
    ],
)
def test_a_word_of_manuals_is_told_what_the_language_calls_it(
    tmp_path: Path, profiles: Profiles, before: str, after: str, meant: str
) -> None:
    expected = str(mistake(tmp_path, profiles, GOOD.replace(before, after, 1)).facts["expected"])
    assert expected.endswith(f"(did you mean {meant}?)"), expected


JUNK: list[Any] = [
    None, True, 0, -1, 1, 1.5, 10**30, "", "x", "1..2", "a.b[0]", "{address}", "0x", "end", "%Y", "1/0", [], [1], ["a"],
    [[1, 2]], [2, 1], ["", ""], [None], [{}], {}, {"a": 1}, {"at": 0}, {1: 2}, {"path": "a"}, {"x": {"y": []}}, {"": ""},
]  # fmt: skip
SHIPPED = Path(device_profiles.__file__).parent


def places(data: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give every place of a document."""
    yield place
    for key, child in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(child, (*place, key))


def replaced(data: Any, place: tuple[Any, ...], new: object) -> Any:
    """Put something else at a place."""
    if not place:
        return new
    if isinstance(data, dict):
        return {key: replaced(child, place[1:], new) if key == place[0] else child for key, child in data.items()}
    return [replaced(child, place[1:], new) if key == place[0] else child for key, child in enumerate(data)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_stands_anywhere_in_a_profile_is_used_or_named(data: st.DataObject) -> None:
    profiles = shipped()
    profile = data.draw(st.sampled_from(profiles.all()))
    document = Bases([SHIPPED]).document(Path(profile.file))
    class_file = profiles.class_file(profile.class_key)
    assert class_file is not None
    for _ in range(20):
        place = data.draw(st.sampled_from(list(places(document.data))))
        document.data, before = replaced(document.data, place, data.draw(st.sampled_from(JUNK))), document.data
        with suppress(ConfigError):
            compile_profile(document, class_file)
        document.data = before


def test_the_key_of_a_wrong_kind_is_named(tmp_path: Path, profiles: Profiles) -> None:
    for way, key in (
        ("bytes: {records: {12: {length: 1}}}", "bytes.records.12"),
        ("lorawan: {ports: {two: {}}}", "lorawan.ports.two"),
    ):
        assert mistake(tmp_path, profiles, MQTT.replace("WAY", way)).facts["key"] == key
