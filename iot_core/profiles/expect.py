"""What should have stood in a file, told from the type that was asked for: one of these words, a key of this table."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec

from iot_core.profiles.near import like

__all__ = ["Steps", "expectation"]

Steps = tuple[str | int, ...]
_TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}
_MOST_NAMED: Final = 40


def expectation(message: str, kind: Any, data: Any) -> tuple[Steps, str]:
    """Turn a message of msgspec into the place within what was read, and a sentence's end of what belongs there."""
    where = re.search(r" - at `(?:key in )?\$([^`]*)`", message)
    steps = _steps(where[1] if where else "", data)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        known = list(_schema_at(kind, steps).get("properties", {}))
        return (*steps, unknown[1]), _known_keys(unknown[1], known)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if missing:
        return (*steps, missing[1]), "this key to be given"
    wrong = re.search(r"Invalid enum value '?([^'`]*)'?", message)
    if wrong:
        words = _words(_schema_at(kind, steps))
        return steps, f"one of {', '.join(words)}, not {wrong[1]}{like(wrong[1], words)}"
    return steps, _type_of(re.sub(r" - at .*$", "", message))


def _known_keys(word: str, known: list[str]) -> str:
    near = like(word, known)
    if near:
        return f"a key of this table; this one is not known{near}"
    return f"a key of this table: {', '.join(known[:_MOST_NAMED])}; this one is not known"


def _type_of(message: str) -> str:
    """Say types in words: ``Expected `int | null`, got `str` ``."""
    found = re.fullmatch(r"Expected `([^`]*)`, got `([^`]*)`", message)
    if found is None:
        return message.removeprefix("Expected ").replace("`", "")
    wanted = dict.fromkeys(_TYPES.get(each, each) for each in found[1].split(" | ") if each != "null")
    return f"{' or '.join(wanted)}, not {_TYPES.get(found[2], found[2])}"


def _steps(path: str, data: Any) -> Steps:
    """Read msgspec's path; it writes `[...]` for any key of a table, so the table itself is what can be named."""
    steps: list[str | int] = []
    for name, index, some in re.findall(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])", path):
        if some:
            # Which of the table's keys is wrong is not told; if there is one only, it is this.
            if isinstance(data, dict) and len(data) == 1:
                steps.append(next(iter(data)))
                data = next(iter(data.values()))
                continue
            if isinstance(data, list):
                continue
            break
        step: str | int = name or int(index)
        steps.append(step)
        data = data.get(step) if isinstance(data, dict) else data[step] if isinstance(data, list) else None  # type: ignore[index]
    return tuple(steps)


@cache
def _schema(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/{name}")
    return schema, parts


def _schema_at(kind: Any, steps: Steps) -> dict[str, Any]:
    """Find what the type says of a place; nothing when it cannot be told."""
    schema, parts = _schema(kind)
    for step in (*steps, None):
        schema = _resolved(schema, parts)
        if step is None:
            return schema
        if isinstance(step, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(step) or schema.get("additionalProperties") or {}
            schema = schema if isinstance(schema, dict) else {}
    return schema


def _resolved(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and choose the table or the words out of several kinds."""
    if "$ref" in schema:
        return _resolved(parts[schema["$ref"].removeprefix("#/")], parts)
    kinds = [_resolved(each, parts) for each in schema.get("anyOf", ())]
    chosen = [each for each in kinds if "properties" in each] or [each for each in kinds if "enum" in each]
    return chosen[0] if chosen else kinds[0] if kinds else schema


def _words(schema: dict[str, Any]) -> list[str]:
    return [str(each) for each in schema.get("enum", ()) if each not in {"", None}]
