"""Search finds what a person means, however the text was typed or stored."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_core.folding import fold
from iot_core.registry.search import patterns

FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
VIETNAMESE = "aàáảãạăằắẳẵặâầấẩẫậbcdđeèéẻẽẹêềếểễệghiìíỉĩịklmnoòóỏõọôồốổỗộơờớởỡợpqrstuùúủũụưừứửữựvxyỳýỷỹỵ 0123456789"
vietnamese = st.text(alphabet=VIETNAMESE + VIETNAMESE.upper())


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ha long", "Vịnh Hạ Long"),
        ("HẠ LONG", "vịnh hạ long"),
        ("duong dien bien phu", "Đường Điện Biên Phủ"),
        ("đường", "DUONG 3/2"),
        ("phủ điện", "Đường Điện Biên Phủ"),
        ("100%", "Đèn 100% sáng"),
        ("a_b", "a_b"),
    ],
)
def test_typed_text_finds_stored_text(typed: str, stored: str) -> None:
    assert _matches(typed, stored)


@pytest.mark.parametrize(("typed", "stored"), [("a_b", "axb"), ("50%", "500"), ("ha noi", "Hạ Long"), ("\\", "x")])
def test_what_is_not_there_is_not_found(typed: str, stored: str) -> None:
    assert not _matches(typed, stored)


@given(st.text())
def test_every_unicode_form_of_a_text_folds_alike(text: str) -> None:
    assert len({fold(unicodedata.normalize(form, text)) for form in FORMS}) == 1


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(vietnamese)
def test_vietnamese_folds_to_plain_small_letters_whatever_its_case(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9 ]*", fold(text))
    assert fold(text.upper()) == fold(text.lower()) == fold(text)


@given(vietnamese, vietnamese, vietnamese)
def test_any_part_of_a_name_finds_it(before: str, part: str, after: str) -> None:
    assert _matches(part, before + part + after)


def _matches(typed: str, stored: str) -> bool:
    """Do what SQL does with LIKE ALL."""
    return all(_like(fold(stored), pattern) for pattern in patterns(typed))


def _like(text: str, pattern: str) -> bool:
    wild = {"%": ".*", "_": "."}
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return re.fullmatch("".join(wild.get(part) or re.escape(part[-1]) for part in parts), text, re.DOTALL) is not None
