"""Every step of an alarm, and every type of message about one, has a word for people and a line in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import iot_core
from iot_core.alarms.alarm import EventKind
from iot_core.messages import text

CODE = Path(iot_core.__file__).parent / "alarms"
TYPES = sorted(
    {
        kind
        for file in CODE.glob("*.py")
        for said in re.findall(r"(?:push|push: str \| None|type) ?= ?(.*alarm\..*)", file.read_text())
        for kind in re.findall(r'"alarm\.([a-z]+)"', said)
    }
)


@pytest.mark.parametrize("lang", ["en", "vi"])
@pytest.mark.parametrize("kind", sorted({*EventKind, *TYPES}))
def test_every_step_has_a_word(kind: str, lang: str) -> None:
    read = {"cli.event": True, "page.event": kind in set(EventKind), "push.event": kind in TYPES}
    for place in (place for place, does in read.items() if does):
        assert text(f"{place}_{kind}", lang) != f"{place}_{kind}"


def test_the_types_are_those_that_the_docs_name() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()
    assert {"raised", "severity", "reopened", "escalated", "open"} <= set(TYPES)
    assert sorted(re.findall(r"(?m)^\| `alarm\.([a-z]+)` \|", docs)) == TYPES
