"""The technician's guide is true: its commands are there, what it shows is what is printed, its twin says the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from iot_core.cli.root import iot as command

if TYPE_CHECKING:
    from tests.cli.conftest import Core

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = {"en": DOCS / "technician.md", "vi": DOCS / "vi" / "technician.md"}


def blocks(lang: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDES[lang].read_text(encoding="utf-8"), re.DOTALL)


def commands(lang: str) -> list[list[str]]:
    """Take every line that begins with `iot` out of the code blocks, up to a redirection or comment."""
    lines = "".join(blocks(lang, "sh")).splitlines()
    return [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in lines if line.startswith("iot ")]


@pytest.mark.parametrize("line", commands("en"), ids=" ".join)
def test_every_command_of_the_guide_is_there_with_its_options(line: list[str]) -> None:
    ended = CliRunner().invoke(command, [*line, "--help"])
    assert ended.exit_code == 0, ended.output


def test_both_guides_have_the_same_commands() -> None:
    assert commands("en") == commands("vi")
    assert len(commands("en")) > 15


def test_the_first_minutes_of_the_guide_work_as_typed(core: Core) -> None:
    for line in commands("en"):
        if line[:2] in (
            ["area", "add"],
            ["device", "add"],
            ["telemetry", "get"],
            ["device", "remove"],
            ["profile", "try"],
        ):
            # A device on this machine's own wire, where none answers; one that is read needs a real one (--live).
            typed = [word.replace("10.0.3.7", "127.0.0.9") for word in line]
            if "--live" not in typed:
                assert core(*typed).code == 0, line


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_what_the_guide_shows_is_what_is_printed(core: Core, lang: str) -> None:
    """Addresses, secrets and padding apart."""
    key = f"den-{lang}"
    said = core("device", "add", key, "--profile", "native-streetlight", "--name", "Đèn 001", "--lang", lang).out
    shown = blocks(lang, "text")[0].replace("den-001", key)

    def bare(text: str) -> list[str]:
        text = re.sub(r"(token=|password +|Mật khẩu MQTT +)[\w-]+", r"\1SECRET", text)
        text = re.sub(r"[\d.]+:\d+", "HOST:PORT", text)
        return [" ".join(line.split()) for line in text.splitlines() if line]

    assert bare(said)[: len(bare(shown))] == bare(shown)
