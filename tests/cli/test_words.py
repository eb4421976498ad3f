"""What stands in the tables in one language is read in the reader's own."""

from __future__ import annotations

from iot_core.cli.words import headline, person
from iot_core.messages import LOCAL, language, set_language, text
from iot_core.model import Title


def test_the_local_command_line_is_named_in_the_readers_language() -> None:
    before = language()
    try:
        set_language("en")
        assert (person(LOCAL), person("an"), person(None)) == ("local command line", "an", "")
        set_language("vi")
        assert person(LOCAL) == "dòng lệnh trên máy chủ"
        assert text("command.cancelled", by=LOCAL) == "Đã hủy bởi dòng lệnh trên máy chủ."
        assert text("command.cancelled", "en", by="an") == "Cancelled by an."
    finally:
        set_language(before)


def test_a_long_title_is_cut_where_others_stand_beside_it() -> None:
    for whole, cut in (("Cháy", "Cháy"), ("x" * 120, "x" * 120), ("a\n b " * 2500, "a b " * 29 + "a b…")):
        assert headline(Title(whole, whole)) == cut
