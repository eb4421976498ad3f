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
_COMMA: Final = "a text with a comma inside { } wants quotes"
_MOST_NAMED: Final = 40
_FEW: Final = 12


def expectation(message: str, kind: Any, data: Any) -> tuple[Steps, str]:
    """Turn a message of msgspec into the place within what was read, and a sentence's end of what belongs there."""
    where = re.search(r" - at (`key` in )?`(?:key in )?\$([^`]*)`", message)
    steps = _steps(where[2] if where else "", data)
    if where and where[1]:
        steps = _with_key(steps, message, data)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        keys = _keys(_schema_at(kind, steps))
        if " " in unknown[1] and _at(data, (*steps, unknown[1])) is None:  # {name: half, of it}
            return (*steps, unknown[1]), f"a key of this table, one of {', '.join(keys)}; {_COMMA}"
        return (*steps, unknown[1]), _known_keys(unknown[1], keys)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if missing:
        return (*steps, missing[1]), "this key to be given"
    wrong = re.search(r"Invalid enum value '?([^'`]*)'?", message)
    if wrong:
        words = _words(_schema_at(kind, steps))
        return steps, f"one of {', '.join(words)}, not {wrong[1]}{like(wrong[1], words)}"
    return steps, _type_of(re.sub(r" - at .*$", "", message), _keys(_schema_at(kind, steps)))


def _at(data: Any, steps: Steps) -> Any:
    for step in steps:
        data = data[step]
    return data


def _with_key(steps: Steps, message: str, data: Any) -> Steps:
    """Add the key of a table that has a wrong type: msgspec only says which type it has."""
    for step in steps:
        data = data[step]
    kind = message.rpartition("got `")[2].partition("`")[0]
    wrong = next((key for key in data if type(key).__name__ == kind), None) if isinstance(data, dict) else None
    return steps if wrong is None else (*steps, wrong)


def _known_keys(word: str, known: list[str]) -> str:
    near = like(word, known)
    if near:
        return f"a key of this table; this one is not known{near}"
    return f"a key of this table: {', '.join(known[:_MOST_NAMED])}; this one is not known"


def _type_of(message: str, keys: list[str]) -> str:
    """Say types in words: ``Expected `int | null`, got `str` ``."""
    found = re.fullmatch(r"Expected `([^`]*)`, got `([^`]*)`", message)
    if found is None:
        if message == "Expected `str`":  # a key: {scale: 0,1} says scale 0, and a key 1 without a value
            return "keys that are text, a number among them in quotes; decimals have a point: 0.1"
        return message.removeprefix("Expected ").replace("`", "")
    types = dict(_TYPES)
    if 0 < len(keys) <= _FEW:
        types["object"] = f"a table with the keys {', '.join(keys)}"
    if found[1] in {"str", "str | null"} and found[2] in {"int", "float", "bool"}:
        types["str"] = "text (in quotes)"  # YAML takes 0370 or 6100 without quotes for a number
    wanted = dict.fromkeys(types.get(each, each) for each in found[1].split(" | ") if each != "null")
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
    for step in steps:
        schema = _around(schema, parts, step)
        if isinstance(step, int):
            fixed = schema.get("prefixItems", ())
            items = fixed[step] if step < len(fixed) else schema.get("items")
            schema = items if isinstance(items, dict) else {}
        else:
            schema = schema.get("properties", {}).get(step) or schema.get("additionalProperties") or {}
            schema = schema if isinstance(schema, dict) else {}
    return {"anyOf": _kinds(schema, parts)}


def _kinds(schema: dict[str, Any], parts: dict[str, Any]) -> list[dict[str, Any]]:
    """List what may stand somewhere: references followed, choices opened."""
    if "$ref" in schema:
        return _kinds(parts[schema["$ref"].removeprefix("#/")], parts)
    if "anyOf" in schema:
        return [kind for each in schema["anyOf"] for kind in _kinds(each, parts)]
    return [schema]


def _around(schema: dict[str, Any], parts: dict[str, Any], step: str | int) -> dict[str, Any]:
    """Choose the table, or the list, in which a step is taken, of what may stand somewhere."""
    kinds = _kinds(schema, parts)
    wanted = {"prefixItems", "items"} if isinstance(step, int) else {"properties", "additionalProperties"}
    return next((each for each in kinds if each.keys() & wanted), kinds[0])


def _keys(schema: dict[str, Any]) -> list[str]:
    return [key for each in schema["anyOf"] for key in each.get("properties", ())]


def _words(schema: dict[str, Any]) -> list[str]:
    return [str(word) for each in schema["anyOf"] for word in each.get("enum", ()) if word not in {"", None}]
