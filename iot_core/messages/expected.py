"""What a file should have said, in the language of the rest: the English of the code is found in the catalogue again.

Whoever reads files says in English what was expected (`a place within 4 bytes`); `expected.po` has that sentence's end
with its places, and the same in Vietnamese. A test holds every one of them against the code.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from iot_core.messages import codes, text

__all__ = ["known", "spoken"]

_MEANT: Final = re.compile(r"(?P<rest>.*) \(did you mean (?P<word>.*)\?\)", re.DOTALL)
_PLACE: Final = re.compile(r"\\\{(\w+)\\\}")
_DEEPEST: Final = 3
_SENTENCES: Final = frozenset({"wanted", "got", "one", "other"})
"""Places that hold a sentence's end themselves; the others hold words of the file."""


def spoken(expected: str, lang: str = "", depth: int = 0) -> str:
    """Say it in the language of the rest; what the catalogue does not know stays as it is."""
    meant = _MEANT.fullmatch(expected)
    if meant is not None:
        return f"{spoken(meant['rest'], lang)} {text('expected.meant', lang, word=meant['word'])}"
    found = known(expected)
    if found is None:
        return expected
    code, facts = found
    if depth < _DEEPEST:
        facts = {name: spoken(said, lang, depth + 1) if name in _SENTENCES else said for name, said in facts.items()}
    return text(code, lang, **facts) if facts else text(code, lang).replace("{{", "{").replace("}}", "}")


def known(expected: str) -> tuple[str, dict[str, str]] | None:
    """Find the code of a sentence's end, and what stands in its places; None when there is none."""
    for code, pattern in _patterns():
        match = pattern.fullmatch(expected)
        if match is not None:
            return code, match.groupdict()
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Make patterns of the catalogue's English, those with the most words of their own first."""
    sentences = {code: text(code, "en") for code in codes("expected")}
    ordered = sorted(sentences.items(), key=lambda each: len(re.sub(r"\{\w+\}", "", each[1])), reverse=True)
    return tuple((code, _pattern(sentence)) for code, sentence in ordered)


def _pattern(sentence: str) -> re.Pattern[str]:
    plain = re.escape(sentence).replace(r"\{\{", "\0").replace(r"\}\}", "\1")
    return re.compile(_PLACE.sub(r"(?P<\1>.+)", plain).replace("\0", r"\{").replace("\1", r"\}"), re.DOTALL)
