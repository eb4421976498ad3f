"""Every sentence a person sees, by code, in Vietnamese and English.

A code is `<domain>.<what>`; its domain is the file it stands in: `en/<domain>.po` and `vi/<domain>.po`, compiled to
`.mo` beside them by `python -m iot_core.messages`. `{n} {n:row|rows}` says one row or several rows. JSON, codes and
logs are language-free and never come through here.
"""

from __future__ import annotations

import gettext
import re
import string
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iot_core.settings import environment

if TYPE_CHECKING:
    from iot_core.errors import IotError
    from iot_core.model import Title

__all__ = ["LANGUAGES", "LOCAL", "choose_language", "codes", "language", "said", "set_language", "text", "title"]

LANGUAGES = ("vi", "en")
LOCAL: Final = "local command line"
"""What the core calls its own machine's command line where others have a name."""
_WHY: Final = {
    "modbus.says_nothing": "reason",
    "modbus.unreachable": "reason",
    "modbus.broke_off": "reason",
    "modbus.not_read": "reason",
    "modbus.silent": "detail",
}
"""Sentences with a fact that says in two words why a line is silent."""
FOLDER = Path(__file__).parent
_current = ""


def choose_language(asked: str = "") -> str:
    """Pick `vi` or `en`: what was asked for, else IOT_LANG, else the locale, else English."""
    for candidate in (
        asked,
        environment("IOT_LANG"),
        *(environment(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG")),
    ):
        prefix = candidate[:2].lower()
        if prefix in LANGUAGES:
            return prefix
    return "en"


def set_language(name: str) -> None:
    """Set the language of this process."""
    global _current  # noqa: PLW0603 - the language of a process is one thing, set once at its start
    _current = name if name in LANGUAGES else "en"


def language() -> str:
    """Return the language of this process."""
    if not _current:
        set_language(choose_language())
    return _current


def text(code: str, lang: str = "", /, **facts: object) -> str:
    """Say the sentence `code`, filled with facts. A code without a sentence is said as itself."""
    sentence = _catalogue(lang or language(), code.partition(".")[0]).gettext(code)
    if facts.get("by") == LOCAL:
        facts["by"] = text("cli.local_person", lang)
    fact = _WHY.get(code)
    if fact in facts:
        from iot_core.messages.reasons import spoken  # noqa: PLC0415 - it needs the catalogues of this module

        facts[fact] = spoken(str(facts[fact]), lang)
    return _Formatter().vformat(sentence, (), facts) if facts else sentence


def codes(domain: str) -> list[str]:
    """List the codes of one catalogue."""
    catalogue = _catalogue("en", domain)
    return [code for code in getattr(catalogue, "_catalog", {}) if code]


def said(error: IotError, lang: str = "") -> str:
    """Say an error to a person."""
    if error.code in ("profile.invalid", "rule.invalid") and (lang or language()) != "en":
        from iot_core.messages.expected import spoken  # noqa: PLC0415 - it needs the catalogues of this module

        return text(error.code, lang, **error.facts | {"expected": spoken(str(error.facts["expected"]), lang)})
    return text(error.code, lang, **error.facts) if error.facts else text(error.code, lang)


def title(both: Title, lang: str = "") -> str:
    """Pick the language of a title that comes from data."""
    return both.vi if (lang or language()) == "vi" else both.en


_STEERING: Final = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""What steers a terminal, or turns the direction of writing: facts may be a stranger's words."""


class _Formatter(string.Formatter):
    """Leaves a placeholder without a fact as it is: a poor sentence is better than a second error."""

    def get_value(self, key: int | str, args: object, kwargs: object) -> object:  # noqa: ARG002 - the signature is string.Formatter's
        assert isinstance(kwargs, dict)
        return kwargs.get(key, f"{{{key}}}")

    def format_field(self, value: object, format_spec: str) -> str:
        """Choose the word for one or for many: `{n} {n:device|devices}`; a count may be written out already."""
        one, several, many = format_spec.partition("|")
        if several:
            return one if str(value) == "1" else many
        return _STEERING.sub("·", str(super().format_field(value, format_spec)))


@cache
def _catalogue(lang: str, domain: str) -> gettext.NullTranslations:
    try:
        with (FOLDER / lang / f"{domain}.mo").open("rb") as file:
            return gettext.GNUTranslations(file)
    except OSError:
        return gettext.NullTranslations()
