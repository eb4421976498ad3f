"""Errors: one sentence on stderr, one exit code, no traceback, nothing on stdout."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from iot_core.cli.alarm_deeds import shelve
from iot_core.cli.endings import code_of, ours, sentence
from iot_core.errors import ConfigError, ConflictError, NotFoundError, RequestError, StartError, StoreUnavailable
from iot_core.messages import LANGUAGES, text
from tests.cli.conftest import IOT, one_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot_core.errors import IotError
    from tests.cli.conftest import Iot


USAGE = [
    (["frob"], "There is no command `frob`."),
    (["devise"], "Did you mean device?"),
    (["device", "lst"], "Did you mean list?"),
    (["device", "add"], "KEY is missing."),
    (["device", "add", "a"], "--profile is missing."),
    (["device", "list", "--state", "odd"], "one of alarm, silent, never, ok, retired"),
    (["device", "list", "--limit", "many"], "a number from 1 to 10000"),
    (["device", "list", "--stat", "ok"], "There is no option --stat. Did you mean --state"),
    (["device", "show", "a", "b"], "Too many arguments: b."),
    (["device", "list", "--limit"], "--limit is not used rightly"),
    (["alarm", "ack", "x"], "ID is not right: a number"),
    (["alarm", "ack"], "ID is missing."),
    (["telemetry", "watch"], "KEY is missing."),
    (["telemetry", "get", "a", "--from", "yesterday"], "a time such as 2h"),
    (["--output", "xml", "device", "list"], "one of table, json, csv"),
    (["profile", "try", "native-streetlight", "--registers", "4"], "holding:4=352,12"),
    (["profile", "try", "native-streetlight", "--hex", "xyz"], "hexadecimal digits"),
    (["profile", "try", "native-streetlight", "--text", "{}", "--hex", "00"], "Give only one of"),
]


@pytest.mark.parametrize(("line", "said"), USAGE)
def test_a_wrong_line_says_what_is_wrong_and_where_help_is(iot: Iot, line: list[str], said: str) -> None:
    ended = iot(*line)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "--help`" in ended.err
    assert ended.err.count("\n") == 1


def test_a_wrong_line_is_told_in_vietnamese_too(iot: Iot) -> None:
    ended = iot("--lang", "vi", "device", "list", "--state", "odd")
    assert (
        ended.err == "--state không đúng: một trong alarm, silent, never, ok, retired. Xem `iot device list --help`.\n"
    )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_line_that_is_advised_for_an_active_alarm_works_as_typed(lang: str) -> None:
    said = text("alarm.still_active", lang, id=4)
    line = said[said.index("(iot alarm shelve ") : said.index(")")]
    asked = shelve.make_context("shelve", shlex.split(line)[3:]).params
    assert asked["alarm_ids"] == (4,)
    assert asked["until"]
    assert asked["note"]


def test_without_a_core_the_sentence_says_how_to_get_one(iot: Iot) -> None:
    ended = iot("device", "list")
    assert (ended.code, ended.out) == (3, "")
    assert str(iot.state) in ended.err
    assert "`iot up`" in ended.err


@pytest.mark.parametrize("command", [["device", "list"], ["alarm", "watch"], ["page"], ["push", "list"]])
def test_a_core_that_does_not_answer_is_exit_code_3(iot: Iot, free_port: Callable[[], int], command: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = iot("--url", url, "--token", "t", *command)
    assert ended.code == 3
    assert url in ended.err
    assert "Traceback" not in ended.err


def test_what_is_not_a_core_is_exit_code_3(iot: Iot) -> None:
    with one_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as (url, _):
        ended = iot("--url", url, "--token", "t", "inbox")
    assert ended.code == 3
    assert "Traceback" not in ended.err


def test_an_address_that_is_no_address_is_refused(iot: Iot) -> None:
    ended = iot("--url", "iot.example.vn", "inbox")
    assert (ended.code, ended.out) == (2, "")
    assert "iot.example.vn" in ended.err


def test_the_local_token_is_never_shown_to_an_address_that_was_typed(iot: Iot) -> None:
    iot.state.mkdir()
    (iot.state / "token").write_text("the-local-token")
    (iot.state / "core.json").write_text('{"pid": 1, "url": "http://127.0.0.1:1"}')
    with one_answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as (url, seen):
        iot("inbox", "--url", url)
    assert seen[0].startswith(b"GET ")
    assert b"the-local-token" not in seen[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("x.y"), 1),
        (NotFoundError("x.y"), 1),
        (ConflictError("x.y"), 1),
        (ConfigError("x.y"), 2),
        (StartError("x.y"), 2),
        (StoreUnavailable(), 3),
        (RequestError("api.unreachable"), 3),
    ],
)
def test_the_exit_code_is_the_decision_a_script_takes(error: IotError, code: int) -> None:
    assert code_of(error) == code


def test_one_expected_error_of_several_tasks_is_told_and_anything_else_is_not_hidden() -> None:
    told = StartError("start.disk_full", path="/x")
    assert ours(BaseExceptionGroup("a", [ExceptionGroup("b", [told]), StartError("x.y")])) is told
    assert ours(ExceptionGroup("a", [told, ValueError("a bug")])) is None


def test_a_file_that_cannot_be_written_is_a_sentence_in_both_languages(iot: Iot) -> None:
    ended = iot("firmware", "key", "/nowhere/at/all.pem")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("/nowhere/at/all.pem cannot be used: it is not there")
    assert "không tồn tại" in iot("firmware", "key", "/nowhere/at/all.pem", "--lang", "vi").err


def test_an_error_without_a_sentence_is_said_by_its_code() -> None:
    assert sentence(NotFoundError("x.y", key="a")) == "x.y"


def test_errors_of_a_pipe_that_closed_are_quiet(iot: Iot) -> None:
    shell = f"{' '.join(IOT)} profile list --output json | head -c 1"
    done = subprocess.run(["bash", "-c", shell], env=iot.environment(), capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
