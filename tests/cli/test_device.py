"""`iot device`: what goes into a device works as printed; one screen says how it is."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from typing import TYPE_CHECKING

import aiomqtt

from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Core


def facts(said: str) -> dict[str, str]:
    """Read `heading  value` lines."""
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in said.splitlines() if re.search(r"\S\s{2,}\S", line))


def test_what_add_prints_is_what_a_device_signs_in_and_publishes_with(core: Core) -> None:
    said = core("device", "add", "sl-printed", "--profile", "native-streetlight").out
    told = facts(said)
    host, _, port = told["MQTT broker"].rpartition(":")

    async def publish() -> None:
        async with aiomqtt.Client(
            host,
            int(port),
            username=told["MQTT user name"],
            password=told["MQTT password"],
            identifier=told["MQTT user name"],
        ) as client:
            await client.publish(told["MQTT topic"], json.dumps({"power": 61.5, "seq": 1}), qos=1)

    asyncio.run(publish())
    wait_until(lambda: core.json("device", "show", "sl-printed")["state"] == "ok")
    assert told["or CoAP POST"] == (
        f"coap://127.0.0.1:{core.port + 2}/v1/sl-printed/telemetry?token={told['MQTT password']}"
    )
    assert core.tell("sl-printed", told["MQTT password"], power=62.5, seq=2) == "2.04"
    assert "shown this once" in said


def test_what_the_core_polls_needs_nothing_typed_in(core: Core) -> None:
    said = core("device", "add", "aq-polled", "--profile", "seeed-s500", "--address", "127.0.0.1:1/3").out
    assert "nothing goes into it" in said
    assert facts(said)["Address"] == "modbus://127.0.0.1:1/3"
    assert "MQTT password" not in facts(said), "there is no secret to type in"
    core("device", "remove", "aq-polled")


def test_show_answers_alive_values_wrong_and_next_on_one_screen(core: Core) -> None:
    core("area", "add", "quan-1", "--name", "Quận Một", "--kind", "zone")
    secret = core.add("sl-screen", "native-streetlight", "--name", "Đèn góc", "--area", "quan-1", "--serial", "S-7")
    before = core("device", "show", "sl-screen").out
    assert "unknown: nothing was heard" in before
    assert "iot inbox" in before
    assert core.tell("sl-screen", secret, power=85.25, lamp_failure=True, odd=1) == "2.04"
    said = core("device", "show", "sl-screen", env={"IOT_TIMEZONE": "Asia/Ho_Chi_Minh"}).out
    told = facts(said)
    assert told["Alive?"] == "yes"
    assert re.search(r"\d\d:\d\d:\d\d \+07 \(\d+ (s|min) ago\)", told["Last heard"])
    assert told["Area"] == "Quận Một"
    assert "serial number S-7" in told["Profile"]
    assert re.search(r"power +85\.25 W +Active power", said)
    wrong, _, after = said.partition("What is wrong")[2].partition("Next")
    assert "medium: Lamp failure, not acknowledged" in wrong
    assert "could not be used" in wrong
    assert "at least once" in wrong
    assert re.search(r"iot alarm ack \d+", after)
    assert len(said.splitlines()) <= 40


def test_show_says_nothing_of_at_least_once_when_messages_are_numbered(core: Core) -> None:
    secret = core.add("sl-numbered")
    core.tell("sl-numbered", secret, power=1.0, seq=1)
    assert "at least once" not in core("device", "show", "sl-numbered").out


def test_show_in_vietnamese_has_no_english_left(core: Core) -> None:
    secret = core.add("sl-viet", "native-streetlight", "--name", "Đèn Việt")
    core.tell("sl-viet", secret, power=85.25, lamp_failure=True)
    said = core("device", "show", "sl-viet", "--lang", "vi").out
    assert "CẢNH BÁO" in said
    assert "trung bình: Đèn hỏng, chưa xác nhận" in said
    for word in ("Alive", "ago", "Next", "Value", "alarm list", "medium", "cli."):
        assert word not in said


def test_an_unknown_key_names_the_near_ones(core: Core) -> None:
    core.add("sl-near-0101")
    for command in (["device", "show"], ["device", "remove"], ["telemetry", "latest"], ["telemetry", "watch"]):
        ended = core(*command, "sl-near-101")
        assert (ended.code, ended.out) == (1, "")
        assert "Did you mean sl-near-0101" in ended.err
    assert "Ý bạn là sl-near-0101" in core("device", "show", "sl-near-101", "--lang", "vi").err


def test_an_unknown_area_names_the_near_ones(core: Core) -> None:
    core("area", "add", "cau-ong-lanh", "--name", "Cầu Ông Lãnh")
    for command in (
        ["device", "list", "--area", "cau-ong-lan"],
        ["device", "add", "sl-lost", "--profile", "native-streetlight", "--area", "cau-ong-lan"],
        ["area", "add", "cau-kho", "--name", "x", "--parent", "cau-ong-lan"],
    ):
        ended = core(*command)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith("There is no area “cau-ong-lan”. Did you mean cau-ong-lanh"), ended.err
    assert "`iot area tree`" in core("device", "list", "--area", "zzzz").err


def test_a_bad_key_is_refused_before_the_core_is_asked(core: Core) -> None:
    ended = core("device", "add", "Đèn 1", "--profile", "native-streetlight")
    assert ended.code == 2
    assert "lower-case letters, digits and hyphens" in ended.err


def test_adding_twice_and_unknown_models_are_refused_with_a_next_step(core: Core) -> None:
    core.add("sl-twice")
    twice = core("device", "add", "sl-twice", "--profile", "native-streetlight")
    assert twice.code == 1
    assert "iot device show sl-twice" in twice.err
    unknown = core("device", "add", "sl-model", "--profile", "native-streetligt")
    assert unknown.code == 1
    assert "native-streetlight" in unknown.err


def test_a_removed_device_leaves_lists_keeps_its_history_and_comes_back(core: Core) -> None:
    secret = core.add("sl-back")
    core.tell("sl-back", secret, power=5.5, seq=1)
    assert "iot device restore sl-back" in core("device", "remove", "sl-back").out
    assert "sl-back" not in core("device", "list").out
    assert "sl-back" in core("device", "list", "--state", "retired").out
    assert "iot device restore sl-back" in core("device", "show", "sl-back").out
    assert core.tell("sl-back", secret, power=6.5, seq=2) == "4.01"
    back = core.json("device", "restore", "sl-back")
    assert back["secret"] is None
    assert core.tell("sl-back", secret, power=7.5, seq=3) == "2.04"
    assert [row["values"]["power"] for row in core.json("telemetry", "get", "sl-back")] == [5.5, 7.5]
    core("device", "remove", "sl-back")
    fresh = core.json("device", "restore", "sl-back", "--fresh-secret")["secret"]
    assert core.tell("sl-back", secret, power=8.5, seq=4) == "4.01"
    assert core.tell("sl-back", fresh, power=9.5, seq=5) == "2.04"


def test_lists_are_the_same_data_in_json_and_csv_whatever_the_language(core: Core) -> None:
    core.add("sl-list", "native-streetlight", "--name", 'Đèn "ngõ", số 1')
    listed = core.json("device", "list", "--search", "ngo so")
    assert [device["name"] for device in listed] == ['Đèn "ngõ", số 1']
    assert listed == core.json("device", "list", "--search", "ngo so", env={"IOT_LANG": "vi"})
    said = core("device", "list", "--search", "ngo so", "--output", "csv", "--lang", "vi").out
    assert [row["key"] for row in csv.DictReader(io.StringIO(said))] == ["sl-list"]
    assert said.startswith("key,name,class,area,latitude,longitude,lifecycle,state,simulated,profile,address,")


def test_a_list_that_is_cut_says_so(core: Core) -> None:
    core.add("sl-cut-1")
    core.add("sl-cut-2")
    for output in ("table", "json", "csv"):
        cut = core("device", "list", "--search", "sl-cut", "--limit", "1", "--output", output)
        assert (cut.code, cut.err) == (0, "1 more; use --limit.\n")
        assert "sl-cut-2" not in cut.out
        assert core("device", "list", "--search", "sl-cut", "--limit", "2", "--output", output).err == ""


def test_areas_are_a_tree_with_names_of_the_language(core: Core, tmp_path: Path) -> None:
    core("area", "add", "hn", "--name", "Hà Nội", "--name-en", "Hanoi", "--kind", "province")
    core("area", "add", "hoan-kiem", "--name", "Phường Hoàn Kiếm", "--kind", "ward", "--parent", "hn")
    core.add("sl-hn", "native-streetlight", "--area", "hoan-kiem")
    assert re.search(
        r"^Hanoi \(hn, province\): 1\n└── Phường Hoàn Kiếm \(hoan-kiem, ward\): 1$",
        core("area", "tree").out,
        re.MULTILINE,
    )
    assert "Hà Nội (hn" in core("area", "tree", "--lang", "vi").out
    assert [root["children"][0]["key"] for root in core.json("area", "tree") if root["key"] == "hn"] == ["hoan-kiem"]
    table = core("area", "tree", "--output", "csv").out
    copied = tmp_path / "areas.csv"
    copied.write_text(table, encoding="utf-8")
    assert core("area", "import", str(copied), "--yes").out == "Nothing to change.\n", "what it writes, it reads"
    assert [device["key"] for device in core.json("device", "list", "--area", "hn")] == ["sl-hn"]
    assert core("area", "add", "hn", "--name", "x").code == 1


def test_what_gets_no_secret_is_shown_none(core: Core) -> None:
    """Neither one that will claim its own, nor one that a bridge speaks for."""
    planned = core("device", "add", "sl-planned", "--profile", "native-streetlight", "--serial", "P-1", "--planned").out
    assert ("comes with its claim" in planned, "unchanged" in planned, "SECRET" in planned) == (True, False, False)
    core("device", "remove", "sl-planned")


def test_a_device_with_a_critical_alarm_is_not_removed_unasked(core: Core) -> None:
    core.tell("smoke-burns", core.add("smoke-burns", "native-fire-detector"), smoke=True, seq=1)
    wait_until(lambda: core.json("device", "show", "smoke-burns")["state"] == "alarm")
    for lang in ("en", "vi"):
        refused = core("--lang", lang, "device", "remove", "smoke-burns")
        assert (refused.code, refused.out) == (1, "")
        assert "smoke-burns" in refused.err
        assert "--yes" in refused.err
    assert core.json("device", "show", "smoke-burns")["state"] == "alarm"
    gone = core("device", "remove", "smoke-burns", "--yes")
    assert (gone.code, "1 alarm of it is still open" in gone.err) == (0, True)
    assert core.json("device", "show", "smoke-burns")["state"] == "retired"
    core.add("smoke-calm", "native-fire-detector")
    assert core("device", "remove", "smoke-calm").err == ""


def test_adding_one_can_say_what_a_list_says(core: Core) -> None:
    core.json("device", "add", "sl-cabinet", "--profile", "native-lighting-cabinet")
    added = core.json(
        "device", "add", "sl-behind", "--class", "streetlight", "--gateway", "sl-cabinet", "--label", "phase-1",
        "--label", "gần chợ",
    )  # fmt: skip
    row = core.json("device", "show", "sl-behind")
    assert added["device"]["profile"] == "native-streetlight"
    assert (row["gateway"], row["labels"]) == ("sl-cabinet", ["phase-1", "gần chợ"])
    neither = core("device", "add", "sl-neither")
    assert (neither.code, "--profile is missing" in neither.err) == (2, True)
