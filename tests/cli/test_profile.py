"""`iot profile`: no server, no network; the models shipped and one's own."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Iot

OWN = """
model: own-lamp
vendor: Own
title: {vi: Đèn riêng, en: Own lamp}
source: "Own manual, table 1"
interval: 60s
address: "modbus://{address}"
modbus:
  points:
    power: {table: holding, address: 4, type: uint16, scale: 0.1, unit: W}
examples:
  - name: good
    registers: {"holding:4": [852]}
    values: {power: 85.2}
  - name: cut
    registers: {"holding:9": [1]}
    held: truncated
"""


def own_folder(folder: Path, text: str = OWN) -> Path:
    """Write one profile of one's own."""
    (folder / "own" / "streetlight").mkdir(parents=True)
    file = folder / "own" / "streetlight" / "own_lamp.yaml"
    file.write_text(text)
    return file


def test_list_has_every_shipped_model_in_every_output(iot: Iot) -> None:
    listed = json.loads(iot("profile", "list", "--output", "json").out)
    models = {one["model"] for one in listed}
    assert {"native-streetlight", "native-water-meter", "native-fire-detector", "native-air-quality"} < models
    rows = list(csv.DictReader(io.StringIO(iot("profile", "list", "--output", "csv").out)))
    assert {row["model"] for row in rows} == models
    said = iot("profile", "list", "--lang", "vi").out
    assert all(model in said for model in models)
    assert "Đèn đường" in said


def test_list_narrows_to_a_class(iot: Iot) -> None:
    listed = json.loads(iot("profile", "list", "--class", "water_meter", "--output", "json").out)
    assert {one["class"] for one in listed} == {"water_meter"}
    assert "iot profile list" in iot("profile", "list", "--class", "nothing").out


def test_show_names_the_source_and_the_metrics_with_units(iot: Iot) -> None:
    said = iot("profile", "show", "native-streetlight").out
    assert re.search(r"Source +\S", said)
    assert re.search(r"power +\S.* W +", said)
    told = json.loads(iot("profile", "show", "native-streetlight", "--output", "json").out)
    assert "power" in {metric["key"] for metric in told["class_metrics"]}


def test_an_unknown_model_names_the_near_ones(iot: Iot) -> None:
    ended = iot("profile", "show", "native-streetligt")
    assert (ended.code, ended.out) == (1, "")
    assert "native-streetlight" in ended.err


def test_check_passes_for_all_that_is_shipped(iot: Iot) -> None:
    ended = iot("profile", "check")
    assert ended.code == 0, ended.out
    assert ", 0 failed." in ended.out


def test_check_of_an_own_file_passes_and_a_broken_example_fails_with_what_differs(iot: Iot) -> None:
    file = own_folder(iot.folder)
    assert iot("profile", "check", str(file)).code == 0
    file.write_text(OWN.replace("85.2}", "85.3}"))
    ended = iot("profile", "check", str(file))
    assert ended.code == 1
    assert re.search(r"own-lamp +good +FAILED +values\.power: 85\.2 ≠ 85\.3", ended.out)
    told = json.loads(iot("profile", "check", str(file), "--output", "json").out)
    assert [one["ok"] for one in told] == [False, True]


def test_check_of_a_wrong_file_names_line_and_key(iot: Iot) -> None:
    file = own_folder(iot.folder, OWN.replace("type: uint16", "type: uint17"))
    ended = iot("profile", "check", str(file))
    assert ended.code == 2
    assert "own_lamp.yaml" in ended.err
    assert "type" in ended.err
    assert re.search(r"\b10\b", ended.err)
    assert "Traceback" not in ended.err


def test_own_models_are_known_by_folder_or_by_the_settings(iot: Iot) -> None:
    own_folder(iot.folder)
    assert iot("profile", "show", "own-lamp").code == 1
    assert iot("profile", "show", "own-lamp", "--folder", "own").code == 0
    (iot.folder / "iot.toml").write_text('profiles = "own"\n')
    assert iot("profile", "show", "own-lamp").code == 0


def test_try_decodes_text_hex_file_and_registers(iot: Iot) -> None:
    own_folder(iot.folder)
    message = '{"power": 85.2, "on": true}'
    (iot.folder / "message.json").write_text(message)
    for given in (
        ["--text", message],
        ["--hex", message.encode().hex(" ")],
        ["--file", "message.json"],
        ["--text", json.dumps([{"n": "power", "v": 85.2}, {"n": "on", "vb": True}]), "--format", "senml-json"],
    ):
        told = json.loads(iot("profile", "try", "native-streetlight", *given, "--output", "json").out)
        assert told["samples"][0]["values"] == {"power": 85.2, "on": True}
        assert told["samples"][0]["quality"] == "good"
    ended = iot("profile", "try", "native-streetlight", "--file", "-", feed=message.encode())
    assert re.search(r"power +85\.2 W", ended.out)
    said = iot("profile", "try", "own-lamp", "--folder", "own", "--registers", "holding:4=0x0354").out
    assert re.search(r"power +85\.2 W", said)


def test_try_without_a_message_decodes_the_models_own_example(iot: Iot) -> None:
    assert iot("profile", "try", "native-water-meter").code == 0


def test_try_says_what_would_be_held_and_ends_with_1_when_nothing_is_left(iot: Iot) -> None:
    partly = iot("profile", "try", "native-streetlight", "--text", '{"power": 1, "odd": 2}')
    assert partly.code == 0
    assert re.search(r"odd +2 +not a metric of streetlight", partly.out)
    nothing = iot("profile", "try", "native-streetlight", "--text", "[[[")
    assert nothing.code == 1
    assert "JSON" in nothing.out
    assert "Traceback" not in nothing.err


def test_list_shows_what_is_right_and_names_what_is_broken(iot: Iot) -> None:
    file = own_folder(iot.folder)
    (file.parent / "broken.yaml").write_text(OWN.replace("uint16", "uin16").replace("own-lamp", "b"))
    ended = iot("profile", "list", "--folder", "own", "--output", "json")
    assert ended.code == 1
    assert "own-lamp" in {one["model"] for one in json.loads(ended.out)}
    assert "broken.yaml, line 10" in ended.err
    assert "did you mean uint16" in ended.err


@pytest.mark.parametrize(
    ("pasted", "noted"),
    [
        ("0367EE00", False),
        ("0x03 0x67 0xEE 0x00", False),
        ("03,67,ee,00", False),
        ("03-67:EE 00", False),
        ("hex:0367EE00", False),
        ("base64:A2fuAA==", False),
        ("A2fuAA==", True),
    ],
)
def test_bytes_are_taken_as_people_paste_them_and_base64_is_said(iot: Iot, pasted: str, noted: bool) -> None:
    ran = iot("profile", "try", "milesight-am319", "--fport", "85", "--payload", pasted)
    assert re.search(r"temperature\b.*\b23\.8\b", ran.out)
    assert ("Read as base64, 4 bytes: 03 67 ee 00" in ran.err) == noted


def test_what_is_neither_hexadecimal_nor_base64_is_refused_with_what_would_be(iot: Iot) -> None:
    for pasted in ("03zz", "0367EE0O", "hex:A2fuAA==", "base64:03zz!", "036"):
        ran = iot("profile", "try", "milesight-am319", "--fport", "85", "--payload", pasted)
        assert ran.code == 2, pasted
        assert "hexadecimal digits" in ran.err
