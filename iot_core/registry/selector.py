"""Which devices are meant: `class=streetlight and area=hong-gai and label!=old`. Parsed, then SQL with parameters.

condition = term { "and" term }         term = FIELD ("=" | "!=") VALUE         VALUE = word | "quoted words"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from iot_core.errors import NotFoundError, RequestError
from iot_core.registry.search import patterns

__all__ = ["FIELDS", "Term", "known", "parse", "where"]

_TERM: Final = re.compile(r"""\s*(\w+)\s*(!=|=)\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=!]+))\s*""")
_AND: Final = re.compile(r"and\b", re.IGNORECASE)
_INSIDE: Final = """(WITH RECURSIVE inside AS (
    SELECT id FROM iot.area WHERE key = {0} OR code = {0}
    UNION SELECT area.id FROM iot.area JOIN inside ON area.parent_id = inside.id
) SELECT id FROM inside)"""
_UNIT: Final = "EXISTS (SELECT FROM iot.unit WHERE unit.device_id = d.id AND unit.mounted_to IS NULL AND {})"
FIELDS: Final = {
    "key": "d.key = {0}",
    "class": "d.class_key = {0}",
    "area": f"d.area_id IN {_INSIDE}",
    "label": "{0} = ANY(d.labels)",
    "lifecycle": "{0} = CASE WHEN d.id IN (SELECT device_id FROM iot.maintained(now(), now())"
    " WHERE kind = 'maintenance') THEN 'maintenance' ELSE d.lifecycle END",
    "gateway": "d.gateway_id = (SELECT id FROM iot.device WHERE key = {0})",
    "profile": _UNIT.format("unit.profile = {0}"),
    "serial": _UNIT.format("unit.serial = {0}"),
    "firmware": _UNIT.format("unit.firmware = {0}"),
    "search": "(d.search || ' ' || coalesce((SELECT path_search FROM iot.area WHERE id = d.area_id), ''))"
    " LIKE ALL ({0}::text[])",
}
"""Field -> condition over `iot.device d`; `{0}` is the parameter."""
_LIFECYCLES: Final = ("planned", "provisioned", "active", "maintenance")
_CLASSES: Final = "SELECT DISTINCT class_key FROM iot.metric WHERE retired_at IS NULL ORDER BY class_key"
_THERE: Final = {
    "area": ("SELECT FROM iot.area WHERE key = $1 OR code = $1", "registry.no_area"),
    "gateway": ("SELECT FROM iot.device WHERE key = $1", "registry.no_device"),
    "key": ("SELECT FROM iot.device WHERE key = $1 AND retired_at IS NULL", "registry.no_device"),
}
"""Field -> whether there is what it names, and how to say that there is not."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition."""

    field: str
    negated: bool
    value: str


def parse(said: str) -> tuple[Term, ...]:
    """Read a selector. Raises RequestError saying where it cannot be understood; an empty one selects nothing."""
    terms: list[Term] = []
    at = 0
    while True:
        found = _TERM.match(said, at)
        if found is None:
            raise RequestError("registry.bad_selector", selector=said, near=said[at : at + 20] or "…")
        field = found[1].lower()
        if field not in FIELDS:
            raise RequestError("registry.no_selector_field", field=field, known=", ".join(FIELDS))
        value = next(group for group in found.groups()[2:] if group is not None)
        terms.append(Term(field, found[2] == "!=", value))
        at = found.end()
        if at == len(said):
            return tuple(terms)
        joint = _AND.match(said, at)
        if joint is None:
            raise RequestError("registry.bad_selector", selector=said, near=said[at : at + 20])
        at = joint.end()


async def known(connection: asyncpg.Connection, terms: Sequence[Term]) -> None:
    """Refuse what a person mistyped: a class, area, gateway, key or lifecycle that is none would select nothing.

    Raises NotFoundError. For selectors that are used now: one that is kept may outlive what it names.
    """
    for term in terms:
        if term.field in _THERE:
            query, code = _THERE[term.field]
            if await connection.fetchrow(query, term.value) is None:
                raise NotFoundError(code, key=term.value)
        elif term.field == "class":
            classes = [row["class_key"] for row in await connection.fetch(_CLASSES)]
            if term.value not in classes:
                raise NotFoundError("registry.no_class", key=term.value, known=", ".join(classes))
        elif term.field == "lifecycle" and term.value not in _LIFECYCLES:
            raise NotFoundError("registry.no_lifecycle", said=term.value, known=", ".join(_LIFECYCLES))


def where(terms: tuple[Term, ...], first: int = 1) -> tuple[str, list[Any]]:
    """Write the condition over `iot.device d` and its parameters, numbered from `first`."""
    parts = []
    parameters: list[Any] = []
    for number, term in enumerate(terms, first):
        condition = FIELDS[term.field].format(f"${number}")
        parts.append(f"({condition}) IS NOT TRUE" if term.negated else f"({condition})")
        parameters.append(patterns(term.value) if term.field == "search" else term.value)
    return " AND ".join(parts), parameters
