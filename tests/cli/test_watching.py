"""Telemetry and alarms: now, before, and as they happen."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from tests.cli.conftest import Core


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_watch_shows_readings_as_they_are_stored_until_ctrl_c(core: Core, output: str) -> None:
    key = f"sl-watch-{output}"
    secret = core.add(key)
    numbers = itertools.count(1)
    with core.watch("telemetry", "watch", key, "--output", output) as watched:

        def arrived() -> bool:
            core.tell(key, secret, power=77.5, seq=next(numbers))
            return "77.5" in watched.said

        wait_until(arrived)
        assert watched.interrupt() == (130, "Watching; Ctrl-C ends.\n" if output == "table" else "")
    if output == "json":
        assert json.loads(watched.lines[0])["device"] == key
    elif output == "csv":
        assert watched.lines[0] == "device,time,quality,metric,value,bad\n"
        assert watched.lines[1].startswith(f"{key},")
    else:
        assert re.search(rf"\d\d:\d\d:\d\d \+07  {key}  power 77\.5", watched.lines[0])


def test_alarms_are_watched_as_they_happen(core: Core) -> None:
    numbers = itertools.count(1)
    with (
        core.watch("alarm", "watch", "--lang", "vi") as people,
        core.watch("alarm", "watch", "--output", "json") as script,
    ):

        def seen() -> bool:
            key = f"smoke-try-{next(numbers)}"
            core.tell(key, core.add(key, "native-fire-detector"), smoke=True, seq=1)
            return bool(
                re.search(r"phát sinh  \[nguy cấp\] .*  smoke-try-\d+  \(cảnh báo \d+\)\n", people.said) and tried()
            )

        def tried() -> list[dict[str, Any]]:
            alarms = [json.loads(line)["alarm"] for line in script.lines]
            return [each for each in alarms if str(each["device"]).startswith("smoke-try-")]

        wait_until(seen)  # alarms of other tests may be told as well
        alarm = tried()[0]
        core("alarm", "ack", str(alarm["id"]))
        wait_until(lambda: '"kind": "acknowledged"' in script.said)
        assert people.interrupt()[0] == script.interrupt()[0] == 130


def test_an_alarm_is_listed_acknowledged_and_shown(core: Core) -> None:
    core.tell("smoke-1", core.add("smoke-1", "native-fire-detector"), smoke=True, seq=1)
    listed = core.json("alarm", "list", "--device", "smoke-1")
    assert [(alarm["severity"], alarm["state"]) for alarm in listed] == [("critical", "unacknowledged")]
    number = str(listed[0]["id"])
    assert f"iot alarm ack {number}" in core("device", "show", "smoke-1").out
    assert re.search(rf"(?m)^ *{number} +critical +not acknowledged +\S.* smoke-1 ", core("alarm", "list").out)
    acknowledged = core("alarm", "ack", number)
    assert acknowledged.code == 0
    assert f"Alarm {number} is acknowledged by" in acknowledged.out
    again = core("alarm", "ack", number)
    assert again.code == 0
    assert re.fullmatch(rf"Alarm {number} was acknowledged already, by .+ at \d{{4}}-\d\d-\d\d .+: .+\n", again.out)
    assert core.json("alarm", "ack", number)["already"] is True
    assert core.json("alarm", "show", number)["state"] == "acknowledged"
    assert re.search(r"raised\n.*acknowledged  \S", core("alarm", "show", number).out)


def test_the_value_of_an_alarm_of_yes_and_no_is_said_so(core: Core) -> None:
    core("area", "add", "cau-giay", "--name", "Cầu Giấy")
    core.tell("smoke-yes", core.add("smoke-yes", "native-fire-detector", "--area", "cau-giay"), smoke=True, seq=1)
    (listed,) = core.json("alarm", "list", "--device", "smoke-yes")
    assert (listed["value"], listed["threshold"], listed["area_name"]) == (True, True, "Cầu Giấy")
    assert re.search(r" smoke-yes +yes +\d{4}-", core("alarm", "list", "--device", "smoke-yes").out)
    assert re.search(r" smoke-yes +có +\d{4}-", core("alarm", "list", "--device", "smoke-yes", "--lang", "vi").out)
    said = core("alarm", "show", str(listed["id"])).out
    assert re.search(r"^Value +yes$", said, re.MULTILINE)
    assert re.search(r"^Threshold +yes$", said, re.MULTILINE)
    assert re.search(r"^Area +Cầu Giấy$", said, re.MULTILINE)


def test_alarms_and_held_messages_that_are_cut_say_so_on_stderr(core: Core) -> None:
    secret = core.add("smoke-cut", "native-fire-detector")
    core.tell("smoke-cut", secret, smoke=True, heat=True, smell=1, seq=1)
    core.tell("smoke-cut", secret, smell=2, seq=2)
    for command in ("alarm list", "held"):
        for output in ("table", "json", "csv"):
            line = [*command.split(), "--device", "smoke-cut", "--output", output]
            assert core(*line, "--limit", "1").err == "1 more; use --limit.\n"
            assert core(*line, "--limit", "2").err == ""
    assert core("held", "--device", "smoke-cut", "--limit", "1", "--lang", "vi").err == (
        "Còn 1 mục nữa; hãy dùng --limit để xem thêm.\n"
    )


def test_watching_what_is_not_there_begins_with_nothing(core: Core) -> None:
    for output in ("table", "json", "csv"):
        ended = core("telemetry", "watch", "zzzz-nope", "--output", output)
        assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "zzzz-nope" in ended.err


def test_an_alarm_that_is_not_there_is_exit_code_1(core: Core) -> None:
    for command in ("ack", "show"):
        ended = core("alarm", command, "999999")
        assert (ended.code, ended.out) == (1, "")
        assert "iot alarm list" in ended.err


def test_of_several_alarms_each_is_done_and_the_refused_are_named(core: Core) -> None:
    core.tell("smoke-each", core.add("smoke-each", "native-fire-detector"), smoke=True, seq=1)
    number = str(core.json("alarm", "list", "--device", "smoke-each")[0]["id"])
    ended = core("alarm", "ack", "999998", number, "999999")
    assert (ended.code, ended.out.count("\n")) == (1, 1)
    assert f"Alarm {number} is acknowledged by" in ended.out
    assert re.findall(r"no alarm (\d+)", ended.err) == ["999998", "999999"]


def test_what_keeps_an_alarm_quiet_and_who_has_it_is_shown(core: Core) -> None:
    core.tell("smoke-quiet", core.add("smoke-quiet", "native-fire-detector"), smoke=True, seq=1)
    number = str(core.json("alarm", "list", "--device", "smoke-quiet")[0]["id"])
    core("alarm", "assign", number, "an")
    assert core("alarm", "shelve", number, "--until", "2h", "--note", "steam").code == 0
    shown = core("alarm", "show", number).out
    assert re.search(r"(?m)^Assigned to +an$", shown)
    assert re.search(r"(?m)^Shelved +until \d{4}-.*: steam$", shown)
    assert re.search(r"(?m)^What to do +\S", shown)
    listed = core("alarm", "list")
    assert "smoke-quiet" not in listed.out
    assert re.search(r"(?m)^Open too, and kept quiet: [1-9]\d* \(iot alarm list --quiet shows them\)\.$", listed.err)
    assert "kept quiet" not in core("alarm", "list", "--quiet").err
    assert number not in [str(each["id"]) for each in core.json("alarm", "list")]
    assert number in [str(each["id"]) for each in core.json("alarm", "list", "--quiet")]
    assert "shelved" in next(row for row in core("alarm", "list", "--quiet").out.splitlines() if "smoke-quiet" in row)
    assert f"The shelving of alarm {number} " in core("alarm", "undo", number).out
    core("alarm", "assign", number, "binh")
    assert core.json("alarm", "undo", number)["undone"] == "assigned"
    vietnamese = core("alarm", "show", number, "--lang", "vi").out
    assert re.search(r"(?m)hoàn tác .*giao việc$", vietnamese)
    assert re.search(r"(?m)^Giao cho +an$", vietnamese)
    assert "cli.event" not in vietnamese + shown


def test_alarm_list_says_when_nothing_is_wrong(core: Core) -> None:
    core.add("sl-quiet")
    assert core("alarm", "list", "--device", "sl-quiet").out == "No alarm is open.\n"
    assert core.json("alarm", "list", "--device", "sl-quiet") == []


def test_a_span_is_exported_as_csv_with_a_column_a_metric(core: Core) -> None:
    secret = core.add("sl-span")
    today = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")).date()
    days = [str(today - timedelta(days=ago)) for ago in (13, 12, 11)]
    for number, day in enumerate(days):
        core.tell("sl-span", secret, time=f"{day}T07:00:00+07:00", power=10.0 + number, on=True)
    ended = core("telemetry", "get", "sl-span", "--from", days[0], "--to", days[2], "--output", "csv", "--lang", "vi")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [(row["time"], row["power"], row["on"]) for row in rows] == [
        (f"{days[0]}T00:00:00+00:00", "10.0", "true"),
        (f"{days[1]}T00:00:00+00:00", "11.0", "true"),
    ]
    one = core.json("telemetry", "get", "sl-span", "--from", days[0], "--metric", "power")
    assert [row["values"] for row in one] == [{"power": 10.0}, {"power": 11.0}, {"power": 12.0}]
    people = core("telemetry", "get", "sl-span", "--from", days[0]).out
    assert re.search(rf"{days[1]} 07:00:00 \+07 +(yes +11|11 +yes)", people)


def test_latest_has_units_ages_and_marks_what_nobody_believes(core: Core) -> None:
    secret = core.add("aq-latest", "native-air-quality")
    core.tell("aq-latest", secret, pm25=35.2, humidity=400, seq=1)
    said = core("telemetry", "latest", "aq-latest").out
    assert re.search(r"pm25 +35\.2 µg/m³ .* \+07 +\d+ s ago +", said)
    assert re.search(r"humidity +400 % .*implausible", said)
    assert {row["metric"]: row["bad"] for row in core.json("telemetry", "latest", "aq-latest")} == {
        "pm25": False,
        "humidity": True,
    }


def test_nothing_in_a_span_says_how_to_widen_it(core: Core) -> None:
    core.add("sl-nothing")
    assert "--from" in core("telemetry", "get", "sl-nothing").out
    assert core("telemetry", "get", "sl-nothing", "--output", "csv").out == "time,received_at,quality,bad\n"


def test_held_says_the_reason_in_the_readers_language(core: Core) -> None:
    secret = core.add("sl-held")
    core.tell("sl-held", secret, power="much", seq=1)
    english, vietnamese = (core("held", "--device", "sl-held", "--lang", lang).out for lang in ("en", "vi"))
    assert "power" in english
    assert "sl-held" in vietnamese
    assert "another type" in english
    assert "another type" not in vietnamese
    assert [row["reason"] for row in core.json("held", "--device", "sl-held")] == ["wrong_type"]


def test_inbox_is_empty_when_every_sender_is_registered(core: Core) -> None:
    assert core("inbox").out == "The inbox is empty: every sender is registered.\n"
    assert core.json("inbox") == []
