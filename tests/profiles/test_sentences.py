"""Every mistake that a profile can have is said in both languages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot_core.messages import text
from iot_core.messages.expected import known, spoken

FOLDER = Path(__file__).parents[2] / "iot_core" / "profiles"
GENERAL = {"expected.not", "expected.or"}
"""Frames around other sentences: to be found by one of these alone is not to be found."""


def expectations() -> Iterator[tuple[str, int, str]]:
    """Give what `document.error(place, ...)` says was expected, with an x in each place of it."""
    for path in sorted(FOLDER.glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or len(call.args) < 2:
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in {"error", "_fail"}:
                sentence = _written(call.args[-1])
                if sentence:
                    yield path.name, call.lineno, sentence


def _written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
        return "".join(str(part) for part in parts)
    return ""


@pytest.mark.parametrize(("file", "line", "sentence"), list(expectations()), ids=lambda each: str(each)[:60])
def test_what_was_expected_is_known_to_the_catalogue(file: str, line: int, sentence: str) -> None:
    found = known(sentence) or known(sentence.removesuffix("x"))
    assert found is not None, f"{file}:{line}: {sentence} is missing in messages/*/expected.po"
    assert text(found[0], "vi") != found[0]
    assert spoken(sentence, "vi") != sentence or sentence.startswith("["), f"{file}:{line}: {sentence}"


@pytest.mark.parametrize(
    ("expected", "vi"),
    [
        ("text, not a whole number", "văn bản, không phải một số nguyên"),
        (
            "one of big, little, not litle (did you mean little?)",
            "một trong big, little, không phải litle (có phải ý bạn là little?)",
        ),
        ("a place within 4 bytes", "một chỗ trong 4 byte"),
        ("{address} as one whole level", "{address} là trọn một cấp"),
        (
            "a bit from 0 to 15, or a mask of these bits other than 0",
            "bit từ 0 đến 15, hoặc mặt nạ khác 0 gồm các bit đó",
        ),
        ("something that nobody wrote down", "something that nobody wrote down"),
    ],
)
def test_a_sentence_keeps_the_words_of_the_file(expected: str, vi: str) -> None:
    assert spoken(expected, "vi") == vi
    assert spoken(expected, "en") == expected
