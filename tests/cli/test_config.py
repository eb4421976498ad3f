"""`iot config`: what is in force, and what is wrong on which line."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Iot

WRONG = [
    ('[mqtt]\nport = "x"', 2, "mqtt.port", "a whole number, not text"),
    ("[mqtt]\nport = 0", 2, "mqtt.port", "a whole number of at least 1"),
    ("\n[mqtt]\nport = 70000", 3, "mqtt.port", "a whole number of at most 65535"),
    ("[mqtt]\nprot = 1", 2, "mqtt.prot", "did you mean port?"),
    ("[mqt]\nport = 1", 1, "mqt", "did you mean mqtt?"),
    ("colour = 1", 1, "colour", "one of timezone, language"),
    ('timezone = "Asia/Saigonn"', 1, "timezone", "a time zone such as Asia/Ho_Chi_Minh"),
    ('[mqtt]\nbroker = "rabbit"', 2, "mqtt.broker", "auto, mosquitto, embedded or external"),
    ("store = 3", 1, "store", "a table, not a whole number"),
    ("[mqtt]\ntls = 1", 2, "mqtt.tls", "true or false, not a whole number"),
]


@pytest.mark.parametrize(("written", "line", "key", "expected"), WRONG)
def test_a_wrong_setting_is_named_with_line_key_and_what_was_expected(
    iot: Iot, written: str, line: int, key: str, expected: str
) -> None:
    (iot.folder / "iot.toml").write_text(written)
    ended = iot("config", "check")
    assert (ended.code, ended.out) == (2, "")
    assert f"iot.toml, line {line}: {key} is wrong; expected: " in ended.err
    assert expected in ended.err


def test_a_wrong_setting_is_told_in_vietnamese(iot: Iot) -> None:
    (iot.folder / "iot.toml").write_text('[mqtt]\nport = "x"')
    assert iot("config", "check", "--lang", "vi").err == (
        "iot.toml, dòng 2: mqtt.port sai; cần: số nguyên, không phải văn bản. Hãy sửa rồi chạy `iot config check`.\n"
    )


def test_a_wrong_variable_names_the_environment(iot: Iot) -> None:
    ended = iot("config", "check", env={"IOT_API_PORT": "many"})
    assert ended.code == 2
    assert ended.err.startswith("environment: api.port is wrong; expected: a whole number, not text.")


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_file_that_cannot_be_read_is_one_sentence(iot: Iot, command: str) -> None:
    ended = iot("config", command, "--config", "nowhere.toml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("nowhere.toml cannot be read (it is not there, or its folder is not).")


def test_a_file_that_is_not_toml_is_one_sentence_with_the_place(iot: Iot) -> None:
    (iot.folder / "iot.toml").write_text("[api\nport = 1")
    ended = iot("up")
    assert ended.code == 2
    assert "is not TOML" in ended.err
    assert "line 1" in ended.err


def test_shown_settings_are_toml_that_comes_from_file_environment_and_defaults(iot: Iot) -> None:
    (iot.folder / "iot.toml").write_text("[api]\nport = 9090\n")
    said = iot("config", "show", env={"IOT_MQTT_PORT": "1999"}).out
    told = tomllib.loads(said)
    assert (told["api"]["port"], told["mqtt"]["port"], told["coap"]["port"]) == (9090, 1999, 5683)
    assert said.startswith("# Settings from iot.toml")


def test_secrets_are_masked_in_every_output(iot: Iot) -> None:
    secrets = {"IOT_STORE_DSN": "postgresql://u:hushhush@h/d", "IOT_MQTT_PASSWORD": "hushhush"}
    for output in ("table", "json", "csv"):
        said = iot("config", "show", "--output", output, env=secrets).out
        assert "hushhush" not in said
        assert "********" in said


def api_port(iot: Iot, *line: str, env: dict[str, str] | None = None) -> int:
    told = json.loads(iot("config", "show", "--output", "json", *line, env=env).out)
    found: int = told["api"]["port"]
    return found


def test_a_named_file_wins_over_the_environment_and_the_folder(iot: Iot) -> None:
    for name, port in (("iot.toml", 1001), ("a.toml", 1002), ("b.toml", 1003)):
        (iot.folder / name).write_text(f"[api]\nport = {port}\n")
    env = {"IOT_CONFIG": "a.toml"}
    assert api_port(iot) == 1001
    assert api_port(iot, env=env) == 1002
    assert api_port(iot, "--config", "b.toml", env=env) == 1003


def test_a_folder_of_profiles_that_the_core_would_refuse_is_refused(iot: Iot) -> None:
    (iot.folder / "iot.toml").write_text('profiles = "mine"\n')
    missing = iot("config", "check")
    assert (missing.code, missing.out) == (2, "")
    assert "mine" in missing.err
    own = iot.folder / "mine" / "streetlight"
    own.mkdir(parents=True)
    assert iot("config", "check").code == 0
    (own / "odd.yaml").write_text("model: odd\ncolour: red\n")
    broken = iot("config", "check")
    assert (broken.code, broken.out) == (2, "")
    assert "odd.yaml" in broken.err


def test_settings_that_are_right_end_with_0(iot: Iot) -> None:
    (iot.folder / "iot.toml").write_text("[api]\nport = 9090\n")
    ended = iot("config", "check", "--output", "json")
    assert ended.code == 0
    assert json.loads(ended.out) == {"file": "iot.toml", "ok": True}
