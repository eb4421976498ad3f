"""Sentences: filled with facts, one thing or many, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivers.modbus.link import _REASONS, Malformed, Refused, Silent
from iot_core.messages import FOLDER, LANGUAGES, codes, text
from iot_core.messages.reasons import spoken

NEVER_ONE = {"most", "protocol", "readers", "shown", "published"}
"""Facts that are limits, names, or sums that are never one."""
COUNTED = r"(?<![\w.,:/+-])1 (devices|rows|alarms|messages|targets|areas|models|files|metrics|rules|units)\b"


@pytest.mark.parametrize(
    ("devices", "said"), [(0, "0 devices"), (1, "1 device?"), ("1", "1 device?"), ("1,200", "1,200 devices")]
)
def test_one_thing_is_said_otherwise_than_many(devices: object, said: str) -> None:
    assert said in text("rule.sure", "en", devices=devices)
    assert f"{devices} thiết bị" in text("rule.sure", "vi", devices=devices)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_sentence_can_be_filled_and_counts_one_rightly(lang: str) -> None:
    wrong = []
    for po in sorted((FOLDER / lang).glob("*.po")):
        for code in codes(po.stem):
            names = re.findall(r"\{(\w+)", text(code, lang).replace("{{", ""))
            said = text(code, lang, **{name: "more" if name in NEVER_ONE else 1 for name in names})
            wrong += [f"{code}: {found[0]}" for found in re.finditer(COUNTED, said)]
    assert wrong == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_headings_begin_with_a_capital_and_helps_of_options_are_sentences(lang: str) -> None:
    """Unless they begin with what is typed: `csv or geojson`."""
    wrong = []
    for po in sorted((FOLDER / lang).glob("*.po")):
        for code in codes(po.stem):
            said, kind = text(code, lang), code.partition(".")[2].partition("_")[0]
            shouted = said.isupper() and len(said) > 3 and said not in {"VN_AQI", "SHA-256"}
            if kind in {"col", "fact", "head"} and (said[:1].islower() or shouted):
                wrong.append(code)
            if kind in {"opt", "short"} and po.stem != "page" and "{" not in said and not said.endswith("."):
                wrong.append(code)
    assert wrong == []


def test_why_a_line_is_silent_is_said_in_the_readers_language() -> None:
    """Every word that the Modbus link has for it; JSON and logs keep those."""
    words = {*_REASONS.values(), *map(str, (Silent(), Malformed(), Refused(2))), "closed", "garbage", "left out"}
    for word in words:
        said = text("modbus.says_nothing", "vi", device="wm-1", reason=f"holding:0: {word}, input:7: {word}")
        assert word not in said
        assert said.count(spoken(word, "vi")) == 2
    assert "(mã ngoại lệ 99)" in text("modbus.not_read", "vi", key="volume", reason=str(Refused(99)))
    assert "refused-1" in text("modbus.unreachable", "vi", place="refused-1", reason="no route")


def test_an_alarm_is_one_word_in_vietnamese() -> None:
    """The levels of a flood and the button of a bank are called otherwise by law and trade: docs/words.md."""
    root = Path(__file__).parents[1]
    files = [
        *(FOLDER / "vi").glob("*.po"), *(root / "device_profiles").glob("*/*.yaml"), *(root / "docs/vi").glob("*.md"),
        root / "iot_core/api/page/words.json", root / "docs/alarms.md",
    ]  # fmt: skip
    another = re.compile(r"(?<!mức )(?<!nút )báo\s+động(?! I, II, III)", re.IGNORECASE)
    wrong = [f"{path.name}: {found[0]}" for path in files for found in another.finditer(path.read_text("utf-8"))]
    assert wrong == []


def test_a_class_is_one_word_in_vietnamese() -> None:
    """It was called *lớp* as well as *loại thiết bị*: docs/words.md."""
    root = Path(__file__).parents[1]
    files = [*(FOLDER / "vi").glob("*.po"), *(root / "docs/vi").glob("*.md"), root / "iot_core/api/page/words.json"]
    wrong = [path.name for path in files if re.search(r"\blớp\b", path.read_text("utf-8"), re.IGNORECASE)]
    assert wrong == []
