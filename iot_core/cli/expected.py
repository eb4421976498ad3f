"""What a setting should have been, said in the language of the rest; the checker of types speaks English only."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["spoken"]

_KINDS = frozenset({"int", "float", "str", "bool", "object", "array", "null"})


def spoken(expected: str, key: str = "") -> str:
    """Translate one message of the checker; what it does not know stays as it is."""
    for pattern, say in _FORMS:
        match = re.fullmatch(pattern, expected)
        if match:
            return say(match, key)
    return expected


def _kind(name: str) -> str:
    base = name.partition(" ")[0]
    return text(f"config.kind_{base}") if base in _KINDS else name


def _type(match: re.Match[str], _: str) -> str:
    return text("config.expected_type", expected=_kind(match[1]), got=_kind(match[2]))


def _least(match: re.Match[str], _: str) -> str:
    return text("config.expected_least", expected=_kind(match[1]), n=match[2])


def _more(match: re.Match[str], _: str) -> str:
    return text("config.expected_more", expected=_kind(match[1]), n=match[2])


def _most(match: re.Match[str], _: str) -> str:
    return text("config.expected_most", expected=_kind(match[1]), n=match[2])


def _known(_: re.Match[str], key: str) -> str:
    keys = _keys_beside(key)
    near = difflib.get_close_matches(key.rpartition(".")[2], keys, n=1)
    if near:
        return text("config.expected_known_like", like=near[0])
    return text("config.expected_known", keys=", ".join(keys))


def _keys_beside(key: str) -> list[str]:
    """List the keys that may stand in the table where `key` stands."""
    import msgspec

    from iot_core.settings import Settings

    top = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    section = top.get(key.rpartition(".")[0])
    inside = isinstance(section, type) and issubclass(section, msgspec.Struct)
    return [field.name for field in msgspec.structs.fields(section)] if inside else list(top)  # type: ignore[arg-type]


_FORMS: tuple[tuple[str, Callable[[re.Match[str], str], str]], ...] = (
    (r"Expected `([^`]+)`, got `([^`]+)`", _type),
    (r"Expected `([^`]+)` >= (.+)", _least),
    (r"Expected `([^`]+)` <= (.+)", _most),
    (r"Expected `([^`]+)` > (.+)", _more),
    (r"another port than (.+)", lambda match, _: text("config.expected_other_port", other=match[1])),
    (r"Object contains unknown field `([^`]+)`", _known),
    (r"an IANA name such as (.+)", lambda match, _: text("config.expected_zone", example=match[1])),
    (r"iot-core-\.\.\. or a name with a capital letter.*", lambda *_: text("config.expected_client_id")),
    (r"auto, mosquitto, embedded or external", lambda *_: text("config.expected_broker")),
)
