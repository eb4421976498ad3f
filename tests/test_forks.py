"""A fork is taken for a real start of `iot`: whatever it says has to be the same."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Iot
from tests.forks import Forks

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def iot(tmp_path: Path) -> Iot:
    return Iot(tmp_path / "state", tmp_path)


@pytest.fixture
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--lang", "vi", "--help"),
        ("device", "add", "--help"),
        ("--lang", "vi", "device", "list"),
        ("device", "lits"),
        ("profile", "show", "milesight-em300-th", "--output", "json"),
        ("profile", "check", "nowhere.yaml"),
    ],
)
def test_words_and_exit_code_are_those_of_a_start(iot: Iot, words: tuple[str, ...]) -> None:
    assert iot(*words) == iot.really(*words)


def test_environment_folder_and_input_are_those_that_were_given(iot: Iot) -> None:
    (iot.folder / "own").mkdir()
    given = ("config", "show", "--output", "json")
    env = {"IOT_TIMEZONE": "Asia/Ho_Chi_Minh", "IOT_PROFILES": "own"}
    assert iot(*given, env=env) == iot.really(*given, env=env)
    assert json.loads(iot(*given, env=env).out) != json.loads(iot(*given).out), "the next run knows nothing of it"
    message = b'{"temperature": 21.5}'
    tried = ("profile", "try", "native-temp-humidity", "@-")
    assert iot(*tried, feed=message) == iot.really(*tried, feed=message)


def test_runs_side_by_side_each_get_their_own_end(iot: Iot) -> None:
    words = [("--help",), ("device", "list"), ("nonsense",)] * 3
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda each: iot(*each).code, words))
    assert found == [iot.really(*each).code for each in words[:3]] * 3


def test_what_does_not_end_in_time_is_killed(forks: Forks, iot: Iot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes the question and never answers
        words = ["--url", f"http://127.0.0.1:{mute.getsockname()[1]}", "--token", "t", "device", "list"]
        with pytest.raises(TimeoutExpired):
            forks.run(words, iot.environment(), iot.folder, within_s=0.001)
