"""Minh's first hour: a thousand lamps from a sheet of Excel, a mistake, and the way back."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Core
    from tests.walkthroughs.terminal import Terminal

HEAD = "Mã thiết bị;Tên;Loại;Khu vực;Vĩ độ;Kinh độ;Nhãn\n"


def lamps(first: int, last: int) -> str:
    return "".join(
        f"minh-{n:04};Đèn {n};streetlight;minh-ward;20,9{n:04};107,0{n:04};đợt 1\n" for n in range(first, last)
    )


def windows_1258(text: str) -> bytes:
    """Write text as an old Windows in Vietnam does: tones stand after their letter."""
    tones = "\u0300\u0301\u0303\u0309\u0323"
    parts = []
    for letter in text:
        apart = unicodedata.normalize("NFD", letter)
        tone = "".join(mark for mark in apart if mark in tones)
        parts.append(unicodedata.normalize("NFC", "".join(mark for mark in apart if mark not in tones)) + tone)
    return "".join(parts).encode("cp1258")


def test_a_thousand_lamps_come_from_a_sheet_and_a_mistake_is_taken_back(terminal: Terminal, city: Core) -> None:
    terminal("area add minh-ward", "--name", "Phường Bãi Cháy")
    terminal("area add minh-other", "--name", "Phường Hà Khẩu")
    sheet = city.folder / "minh.csv"
    wrong = "minh-9999;Đèn hỏng;streetlight;minh-ward;107,08;20,95;\n"
    sheet.write_bytes(windows_1258(HEAD + lamps(0, 1000) + wrong))
    tried = terminal("device import minh.csv --dry-run", code=1).has("1002", "latitude")
    assert "minh-0001" not in tried.text

    sheet.write_text(HEAD + lamps(0, 1000), encoding="utf-8-sig")
    done = terminal("device import minh.csv", answers={"[y/N]": "y"}).has("1000", "iot undo", "minh-secrets.csv")
    added = done.number("iot undo")
    terminal("device list --area minh-ward --limit 1").has("999 more")
    terminal("device import minh.csv").has("0 added, 0 changed, 1000 were the same")

    moved = terminal(
        "device edit --where", "area=minh-ward", "--area", "minh-other", answers={"[y/N]": "y"}
    ).has("1000", "iot undo")  # fmt: skip
    terminal("device list --area minh-ward").has("No device")
    terminal(f"undo {added}", code=1).has("changed again")
    terminal(f"undo {moved.number('iot undo')}").has("1000")
    terminal("device list --area minh-ward --limit 1").has("999 more")
    terminal(f"undo {added}").has("1000")
    terminal("device list --area minh-ward").has("No device")
    terminal("device import minh.csv", "--yes").has("1000 added")


def test_nobody_changes_many_things_without_being_asked(terminal: Terminal, city: Core) -> None:
    (city.folder / "few.csv").write_text(HEAD + lamps(0, 20).replace("minh-", "few-").replace("few-ward", "minh-ward"))
    terminal("area add minh-ward --name x", code=1).has("minh-ward")
    terminal("device import few.csv", answers={"[y/N]": "n"}, code=1).has("Nothing was done")
    terminal("device list --search few-").has("No device")
