"""What strangers write reaches a person's terminal as letters, and steers nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from iot_core.cli.root import iot
from iot_core.messages import text

STEERING = ("\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\r", "\b", "\u202e")


@pytest.mark.parametrize("said", STEERING, ids=ascii)
def test_a_sentence_shows_the_words_of_a_stranger_and_obeys_none(said: str) -> None:
    sentence = text("sheet.no_column", "vi", file="a.csv", column="key", headings=f"tên {said} Hạ\u00a0Long\nđèn")
    assert said not in sentence
    assert "Hạ\u00a0Long\nđèn" in sentence


@pytest.mark.parametrize("command", [("device", "import"), ("area", "import")])
def test_a_file_with_steering_headings_is_refused_in_letters(tmp_path: Path, command: tuple[str, str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{''.join(STEERING)},name\n1,2\n")
    ended = CliRunner().invoke(iot, [*command, str(path), "--dry-run", "--url", "http://127.0.0.1:9", "--token", "t"])
    assert ended.exit_code != 0
    assert not [each for each in STEERING if each in ended.output]
