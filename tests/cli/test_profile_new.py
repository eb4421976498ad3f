"""`iot profile new`, `try`, `check`, `schema`: from a manual's page to a profile that holds, in both languages."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import IOT

if TYPE_CHECKING:
    from tests.cli.conftest import Iot

WHO = ["--vendor", "Acme", "--model", "acme-1", "--source", "Manual p. 3", "--folder", "own"]
WAYS = {
    "modbus": ["--value", "temperature=input:4:int16:0.1"],
    "json": ["--topic", "acme/{address}/up", "--sample", '{"temp": 21.5, "x": {"rh": 55}, "id": "a"}'],
    "text": ["--topic", "acme/{address}", "--value", "temperature=0"],
    "cbor": ["--topic", "acme/{address}", "--value", "temperature=t"],
    "senml": ["--value", "temperature=3303/0/5700"],
    "bytes": ["--value", "temperature=0:int16:0.1", "--value", "humidity=2", "--sample", "00E13C"],
    "lorawan": ["--fport", "2", "--value", "temperature=0:int16:0.1"],
    "records": ["--fport", "85", "--value", "temperature=0367:int16:0.1", "--sample", "0367EE00"],
}


@pytest.mark.parametrize("way", WAYS)
def test_new_writes_a_profile_whose_examples_hold(iot: Iot, way: str) -> None:
    given = WAYS[way]
    ended = iot("profile", "new", "--class", "weather", "--speaks", way, *WHO, *given)
    assert ended.code == 0, ended.err
    file = iot.folder / "own" / "weather" / "acme_1.yaml"
    assert file.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../profile.schema.json\n")
    assert json.loads((iot.folder / "own" / "profile.schema.json").read_text(encoding="utf-8"))["title"]
    checked = iot("profile", "check", "own")
    assert checked.code == 0, checked.out
    assert "2 examples, 0 failed" in checked.out
    again = iot("profile", "new", "--class", "weather", "--speaks", way, *WHO, *given)
    assert again.code != 0
    assert "--force" in again.err


def test_new_proposes_the_values_of_a_json_message_by_their_names(iot: Iot) -> None:
    iot("profile", "new", "--class", "weather", "--speaks", "json", *WHO, *WAYS["json"])
    told = json.loads(iot("profile", "show", "acme-1", "--folder", "own", "--output", "json").out)
    assert told["metrics"] == ["temperature", "humidity"]


@pytest.mark.parametrize(
    ("way", "given", "said"),
    [
        ("json", ["--sample", '{"id": 1, "d": {"ts": [1768464000, 1768464060], "temp": [20.1, 20.3]}}'],
         ["columns: d", "time: ts", "temperature: temp", "{values: {temperature: 20.3}}"]),
        ("json", ["--sample", '{"temp": 20.1}'], ["# columns: .  #"]),
        ("bytes", ["--value", "temperature=0:int16:0.1", "--sample", "00E13C3981"],
         ["checksum: crc16_modbus", "length: 5"]),
        ("bytes", ["--value", "temperature=0:int16:0.1"], ["# checksum: crc16_modbus  #", "# protobuf: {"]),
        ("lorawan", ["--value", "temperature=0:int16:0.1"], ["    # checksum: crc16_modbus  #"]),
        ("text", ["--value", "temperature=1", "--sample", "$WIXDR,21.5,C*0B"],
         ["checksum: nmea", "{temperature: 21.5}"]),
        ("text", ["--value", "temperature=0"], ["# checksum: nmea  #"]),
        ("cbor", ["--value", "temperature=t"], ["    # protobuf: {", "      # columns: .  #"]),
    ],
)  # fmt: skip
def test_new_writes_what_the_sample_shows_and_as_comments_what_it_may_have(
    iot: Iot, way: str, given: list[str], said: list[str]
) -> None:
    topic = ["--topic", "acme/{address}"] if way in {"json", "text", "cbor"} else []
    ended = iot("profile", "new", "--class", "weather", "--speaks", way, *WHO, *topic, *given)
    assert ended.code == 0, ended.err
    written = (iot.folder / "own" / "weather" / "acme_1.yaml").read_text(encoding="utf-8")
    assert not [each for each in said if each not in written], written
    assert iot("profile", "check", "own").code == 0


def test_the_lines_that_new_leaves_as_comments_are_read_where_they_stand(iot: Iot) -> None:
    for model, way, given, mine, said in (
        ("acme-1", "bytes", ["--value", "temperature=0:int16:0.1"], "bytes:\n  # ", "crc16_modbus"),
        ("acme-2", "text", ["--value", "temperature=0"], "      # ", "nmea: * and 2 digits must end it"),
        ("acme-3", "json", ["--sample", '{"temp": 20.1}'], "      # ", "expected time beside it"),
    ):
        topic = [] if way == "bytes" else ["--topic", "acme/{address}"]
        who = [model if each == "acme-1" else each for each in WHO]
        assert iot("profile", "new", "--class", "weather", "--speaks", way, *who, *topic, *given).code == 0
        file = iot.folder / "own" / "weather" / f"{model.replace('-', '_')}.yaml"
        file.write_text(file.read_text(encoding="utf-8").replace(mine, mine[:-2]), encoding="utf-8")
        ended = iot("profile", "check", str(file))
        assert said in ended.out + ended.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--class", "wether"], "did you mean weather"),
        (["--class", "weather"], "--vendor"),
        (["--class", "weather", "--vendor", "Acme", "--model", "Acme 1"], "Try acme-1"),
        (["--class", "weather", *WHO, "--speaks", "modbus", "--value", "temprature=1"], "did you mean temperature"),
        (["--class", "weather", *WHO, "--speaks", "modbus", "--value", "temperature=x"], "input:0x34:int32:0.01:CDAB"),
        (["--class", "weather", *WHO, "--speaks", "json", "--topic", "a/b"], "acme/{address}/up"),
        (["--class", "weather", *WHO, "--speaks", "json", "--topic", "a/{address}", "--sample", "{"], "not JSON"),
        (["--class", "weather", *WHO, "--speaks", "json", "--topic", "a/{address}", "--sample", '{"a": 1}'], "--value"),
    ],
)
def test_new_says_what_is_missing_or_wrong_and_writes_nothing(iot: Iot, given: list[str], said: str) -> None:
    ended = iot("profile", "new", *given)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not list(iot.folder.glob("own/*/*.yaml"))


def test_new_says_which_answer_makes_no_profile_and_leaves_no_file(iot: Iot) -> None:
    ended = iot(
        "profile",
        "new",
        "--class",
        "weather",
        *WHO,
        "--speaks",
        "bytes",
        "--sample",
        "0102",
        "--value",
        "temperature=9:int16",
    )
    assert ended.code != 0
    assert "bytes.values.temperature.at: expected a place within 2 bytes" in ended.err
    assert not list(iot.folder.glob("own/*/*.yaml"))


def test_new_asks_on_a_terminal(iot: Iot) -> None:
    answers = ["weather", "Acme", "acme-7", "", "", "Manual p. 1", "", "modbus", "", "input:4:int16:0.1", *[""] * 40]
    main, inner = pty.openpty()
    with subprocess.Popen(
        [*IOT, "profile", "new", "--folder", "own"],
        stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=iot.folder, env=iot.environment(),
    ) as process:  # fmt: skip
        os.close(inner)
        os.write(main, "".join(f"{each}\n" for each in answers).encode())
        out, _ = process.communicate(timeout=60)
    os.close(main)
    assert process.returncode == 0, out.decode()
    text = (iot.folder / "own" / "weather" / "acme_7.yaml").read_text(encoding="utf-8")
    assert "temperature: {table: input, address: 4, type: int16, scale: 0.1}" in text


def test_try_takes_a_file_and_bytes_for_an_fport_and_judges_each_value(iot: Iot) -> None:
    iot("profile", "new", "--class", "weather", "--speaks", "records", *WHO, *WAYS["records"])
    file = "own/weather/acme_1.yaml"
    said = iot("profile", "try", file, "--payload", "0367 EE00", "--fport", "85").out
    assert re.search(r"temperature +0\.\.1 int16 +238 +23\.8", said)
    assert re.search(r"temperature +23\.8 °C .*plausible", said)
    told = json.loads(iot("profile", "try", file, "--payload", "0367F401", "--output", "json").out)
    assert told["samples"][0]["judged"] == {"temperature": "ok"}
    assert {
        "step": "value",
        "key": "temperature",
        "where": "0..1 int16",
        "raw": 500,
        "value": {"temperature": 50.0},
    } in told["steps"]
    told = json.loads(iot("profile", "try", file, "--payload", "0367FF7F", "--output", "json").out)
    assert told["samples"][0]["judged"] == {"temperature": "implausible"}
    vi = iot("profile", "try", file, "--payload", "0367FF7F", "--lang", "vi").out
    assert "ngoài khoảng" in vi
    other = iot("profile", "try", file, "--payload", "00", "--fport", "3")
    assert other.code == 1
    assert "fPort 3" in other.out


def test_try_says_which_topic_or_registers_it_needs(iot: Iot) -> None:
    ended = iot("profile", "try", "tasmota-energy", "--payload", "{}")
    assert ended.code == 2
    assert "tele/{address}/SENSOR" in ended.err
    assert "--registers" in iot("profile", "try", "tuf-2000m", "--payload", "00").err
    assert "--payload" in iot("profile", "try", "tasmota-energy", "--registers", "holding:0=1").err
    (iot.folder / "m.json").write_text('{"ENERGY": {"Power": 56}}', encoding="utf-8")
    said = iot("profile", "try", "tasmota-energy", "--topic", "tele/desk/SENSOR", "--payload", "@m.json").out
    assert re.search(r"power +ENERGY\.Power +56 +56", said)


def test_what_is_typed_wrongly_is_named(iot: Iot) -> None:
    for given, said in (
        (["try", "milesight-am319", "--payload", "0367F"], "two for each byte"),
        (["try", "milesight-am319", "--payload", "zz"], "two for each byte"),
        (["try", "nosuch.yaml", "--payload", "00"], "no such file"),
        (["check", "nosuch.yaml"], "no such file"),
        (["try", "native-streetlight", "--content-format", "senml", "--payload", "x"], "--content-format"),
        (["try", "tuf-2000m", "--live", "http://x"], "modbus, mqtt"),
    ):
        ended = iot("profile", *given)
        assert ended.code != 0
        assert said in ended.err, ended.err
        assert "Traceback" not in ended.err


def test_check_of_a_folder_names_every_wrong_file_and_what_differs_in_each_example(iot: Iot) -> None:
    iot("profile", "new", "--class", "weather", "--speaks", "modbus", *WHO, "--value", "temperature=4:int16:0.1")
    good = iot.folder / "own" / "weather" / "acme_1.yaml"
    text = good.read_text(encoding="utf-8")
    good.write_text(re.sub(r"values: \{temperature: [0-9.]+\}", "values: {temperature: 99}", text), encoding="utf-8")
    (good.parent / "b.yaml").write_text(text.replace("acme-1", "b").replace("int16", "int61"), encoding="utf-8")
    (good.parent / "c.yaml").write_text("model: [", encoding="utf-8")
    ended = iot("profile", "check", "own")
    assert ended.code == 2
    assert re.search(
        r"acme_1\.yaml:\d+ acme-1, first message\n  values\.temperature\n    Expected: 99\n    Got: ", ended.out
    )
    assert "b.yaml, line 9" in ended.err
    assert "int16" in ended.err
    assert "c.yaml, line" in ended.err


def test_schema_prints_what_editors_take(iot: Iot) -> None:
    assert json.loads(iot("profile", "schema").out)["properties"]["modbus"]
    assert json.loads(iot("profile", "schema", "--of", "class").out)["properties"]["metrics"]
