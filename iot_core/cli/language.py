"""Which language the help speaks: known before click parses anything, because help texts are made at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot_core.messages import choose_language, set_language

if TYPE_CHECKING:
    from collections.abc import Sequence


def peek(arguments: Sequence[str]) -> str:
    """Set the language of the process from `--lang`, wherever it stands, else from the environment."""
    name = choose_language(_asked(arguments))
    set_language(name)
    return name


def _asked(arguments: Sequence[str]) -> str:
    for position, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--lang":
            return arguments[position + 1] if position + 1 < len(arguments) else ""
        if argument.startswith("--lang="):
            return argument.partition("=")[2]
    return ""
