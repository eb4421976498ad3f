"""Tables on narrow terminals: no word is broken, and what matters least is left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from iot_core.cli.layout import GAP, Room, fit
from tests.cli.test_reach import on_a_terminal

if TYPE_CHECKING:
    from tests.cli.conftest import Core


def test_all_columns_are_as_wide_as_they_want_where_there_is_room() -> None:
    assert fit([Room(3, 3), Room(5, 20, drop=1)], 23 + GAP) == {0: 3, 1: 20}


def test_words_wrap_before_a_column_goes_and_the_least_needed_goes_first() -> None:
    rooms = [Room(3, 3), Room(5, 20, drop=1), Room(8, 9), Room(4, 4, drop=2)]
    assert fit(rooms, 26) == {0: 3, 1: 5, 2: 8, 3: 4}
    assert fit(rooms, 27) == {0: 3, 1: 5, 2: 9, 3: 4}
    assert fit(rooms, 25) == {0: 3, 1: 9, 2: 9}
    assert fit(rooms, 15) == {0: 3, 2: 9}


def test_what_has_no_words_gets_the_room_that_words_leave() -> None:
    assert fit([Room(5, 20, raw=True), Room(5, 40)], 40) == {0: 5, 1: 33}


def test_where_the_needed_columns_do_not_fit_there_is_no_table() -> None:
    assert fit([Room(30, 30), Room(30, 30), Room(3, 3, drop=1)], 40) == {}


@pytest.mark.parametrize("lang", ["en", "vi"])
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_lists_break_no_word_and_no_line_of_a_terminal(core: Core, columns: int, lang: str) -> None:
    key = f"smoke-narrow-{lang}-{columns}"
    name = "Đầu báo khói chợ Bến Thành, cửa Nam"
    secret = core.add(key, "native-fire-detector", "--name", name)
    core.tell(key, secret, smoke=True, smell="a-long-unbroken-word" * 9, seq=1)
    alarm = core.json("alarm", "list", "--device", key)[0]
    core("push", "add", key, "--webhook", f"http://127.0.0.1:9/{'alarms' * 20}")
    whole = {
        ("alarm", "list", "--device", key): [str(alarm["id"]), key, "acknowledged" if lang == "en" else "nguy"],
        ("device", "list", "--search", key): [key, "Thành,"],
        ("held", "--device", key): [key],
        ("telemetry", "latest", key): ["smoke"],
        ("push", "list"): [key],
    }
    for command, words in whole.items():
        seen = on_a_terminal(core, *command, "--lang", lang, COLUMNS=str(columns), NO_COLOR="1").splitlines()
        assert max(len(line.rstrip()) for line in seen) <= columns, seen
        for word in words:
            assert any(re.search(rf"(?<!\S){re.escape(word)}(?!\S)", line) for line in seen), (word, seen)
    core("push", "remove", key)
    rows = on_a_terminal(core, *next(iter(whole)), "--lang", lang, COLUMNS=str(columns)).splitlines()
    if columns == 40:  # no table fits: a line for each heading
        assert [key in line for line in rows].count(True) == 1, rows
        assert not any(line.startswith("-") or line.rstrip().endswith("  -") for line in rows), rows
    else:
        assert len(rows) <= 4


def test_a_narrow_list_of_alarms_keeps_what_one_acts_on(core: Core) -> None:
    core.tell("smoke-acts", core.add("smoke-acts", "native-fire-detector"), smoke=True, seq=1)
    narrow, wide = (
        on_a_terminal(core, "alarm", "list", "--device", "smoke-acts", COLUMNS=columns, NO_COLOR="1")
        for columns in ("80", "160")
    )
    assert all(heading in narrow for heading in ("ID", "Severity", "State", "Alarm", "Device", "Age"))
    assert "Raised" not in narrow
    assert all(heading in wide for heading in ("Raised", "Acknowledged by", "Value"))
