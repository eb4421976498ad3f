"""Paths into JSON: `ENERGY.Power`, `switches[0].on`, `'a.b'.c`, `sensordatavalues[value_type=SDS_P1].value`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from iot_core.profiles.fields import MISSING

__all__ = ["Path", "find", "parse_path", "put", "written"]

_STEP: Final = re.compile(r"'([^']+)'|\[(\d+)\]|\[([^=\]]+)=([^\]]*)\]|([^.\[\]']+)")
_MAX_INDEX: Final = 1000


@dataclass(frozen=True, slots=True)
class Where:
    """A step into a list: the first entry whose `key` says `value`."""

    key: str
    value: str


Path = tuple[str | int | Where, ...]


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


def find(data: object, path: Path) -> object:
    """Follow a path; MISSING where it leads nowhere."""
    for step in path:
        if type(step) is str:
            if type(data) is not dict or step not in data:
                return MISSING
            data = data[step]
        elif type(step) is int:
            if type(data) is not list or step >= len(data):
                return MISSING
            data = data[step]
        elif isinstance(step, Where):
            if type(data) is not list:
                return MISSING
            data = next((each for each in data if type(each) is dict and each.get(step.key) == step.value), MISSING)
    return data


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
        data.extend([None] * (step + 1 - len(data)))
        data[step] = put(data[step], rest, value)
    else:
        data = data if isinstance(data, list) else []
        for index, each in enumerate(data):
            if isinstance(each, dict) and each.get(step.key) == step.value:
                data[index] = put(each, rest, value)
                return data
        data.append(put({step.key: step.value}, rest, value))
    return data
