"""The document has a row for every fault, with the words of its test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.table import DOCUMENT
from tests.faults.test_broker import KINDS


def test_every_fault_is_in_the_document(request: pytest.FixtureRequest) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    here = Path(__file__).parent
    marks = [item.get_closest_marker("faults") for item in request.session.items if here in item.path.parents]
    missing = {mark.args[0] for mark in marks if mark and f"| {mark.args[0]} | {mark.args[1]}" not in text}
    assert missing <= {"SIGKILL of the broker"}, "run make test-faults"
    assert all(f"| {broker} |" in text for broker in KINDS)
