"""Paths into JSON: `ENERGY.Power`, `switches[0].on`, `log[-1]`, `'a.b'.c`, `values[value_type=SDS_P1].value`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from iot_core.profiles.fields import MISSING

__all__ = ["Nth", "Path", "Where", "find", "parse_path", "put", "written"]

_STEP: Final = re.compile(r"'([^']+)'|\[(\d+|-1)\]|\[([^=\]]+)=([^\]]*)\]|([^.\[\]']+)")
_MAX_INDEX: Final = 1000
_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Where:
    """A step into a list: the first entry whose `key` says `value`."""

    key: str
    value: str

    def fits(self, entry: dict[Any, Any]) -> bool:
        """Say whether an entry says it: as text, or as the number or truth value that is written like it."""
        said = entry.get(self.key)
        if isinstance(said, bool):
            return self.value == str(said).lower()
        return said == self.value or (isinstance(said, int) and str(said) == self.value)

    @property
    def said(self) -> str | int:
        """What an entry says that is made for it: most selectors of digits are numbers on the wire."""
        return int(self.value) if is_number(self.value) else self.value


Path = tuple[str | int | Where, ...]


@dataclass(frozen=True, slots=True)
class Nth:
    """One position in the lists of a message that run parallel: a path that leads to a list means its entry there."""

    data: object
    index: int


def parse_path(text: str) -> Path | None:
    """Compile a path; None when it is not one. The empty path is the message itself."""
    steps: list[str | int | Where] = []
    at = 0
    while at < len(text):
        if text[at] == "." and steps and at + 1 < len(text):
            at += 1
        match = _STEP.match(text, at)
        if match is None:
            return None
        quoted, index, key, value, name = match.groups()
        if index is not None:
            if int(index) > _MAX_INDEX:
                return None
            steps.append(int(index))
        else:
            steps.append(Where(key, value) if key is not None else quoted or name)
        at = match.end()
        if at < len(text) and text[at] not in ".[":
            return None
    return tuple(steps)


def written(path: Path) -> str:
    """Write a path as `parse_path` reads it; `.` for the message itself."""
    text = ""
    for step in path:
        if isinstance(step, str):
            text += ("." if text else "") + (f"'{step}'" if set(step) & set(".[]'") else step)
        else:
            text += f"[{step}]" if isinstance(step, int) else f"[{step.key}={step.value}]"
    return text or "."


def find(data: object, path: Path) -> object:  # noqa: C901 - one branch for each kind of step
    """Follow a path; MISSING where it leads nowhere."""
    if type(data) is Nth:
        return _find_nth(data, path)
    for step in path:
        if type(step) is str:
            if type(data) is not dict:
                return MISSING
            if step in data:
                data = data[step]
            elif is_number(step) and int(step) in data:  # CBOR has keys that are numbers
                data = data[int(step)]
            else:
                return MISSING
        elif type(step) is int:
            if type(data) is not list or not -len(data) <= step < len(data):
                return MISSING
            data = data[step]
        elif isinstance(step, Where):
            if type(data) is not list:
                return MISSING
            data = next((each for each in data if type(each) is dict and step.fits(each)), MISSING)
    return data


def _find_nth(source: Nth, path: Path) -> object:
    """Follow a path to the entry of a list; what is no list holds at every position."""
    data = source.data
    for at, step in enumerate(path):
        if type(data) is list and isinstance(step, str):  # a list of tables
            return find(data[source.index], path[at:]) if source.index < len(data) else MISSING
        data = find(data, (step,))
    if type(data) is not list:
        return data
    return data[source.index] if source.index < len(data) else MISSING


def is_number(key: object) -> bool:
    """Say whether a key, as a path writes it, may stand for a whole number."""
    return isinstance(key, str) and len(key) <= _DIGITS and key.removeprefix("-").isdecimal() and key.isascii()


def put(data: Any, path: Path, value: object) -> Any:
    """Put a value where `find` finds it, making what is missing on the way; gives the new top."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        data = data if isinstance(data, dict) else {}
        data[step] = put(data.get(step), rest, value)
    elif isinstance(step, int):
        data = data if isinstance(data, list) else []
        data.extend([None] * (max(step, 0) + 1 - len(data)))
        data[step] = put(data[step], rest, value)
    else:
        data = data if isinstance(data, list) else []
        for index, each in enumerate(data):
            if isinstance(each, dict) and step.fits(each):
                data[index] = put(each, rest, value)
                return data
        data.append(put({step.key: step.said}, rest, value))
    return data
