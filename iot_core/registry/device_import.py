"""A list of devices, as a project hands it over: checked row by row, added where new, brought up to date where known.

Run again it changes nothing, least of all a secret. A device whose unit differs is never changed here: exchanging
hardware is `replace`, because the old unit's data must stay its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from iot_core.errors import IotError
from iot_core.folding import fold
from iot_core.registry import device_edits, devices
from iot_core.registry.audit import Change, record
from iot_core.registry.positions import inside, swapped

if TYPE_CHECKING:
    from iot_core.profiles import Profiles

__all__ = ["Imported", "Problem", "import_"]

_AREAS: Final = "SELECT key, code, name FROM iot.area WHERE ended_at IS NULL"
_OUTLINES: Final = "SELECT key, outline FROM iot.area WHERE key = ANY($1) AND outline IS NOT NULL"
_UNITS: Final = """
SELECT device.key, unit.profile, unit.address, unit.serial, device.retired_at IS NOT NULL AS retired
FROM iot.device LEFT JOIN iot.unit ON unit.device_id = device.id AND unit.mounted_to IS NULL
WHERE device.key = ANY($1)
"""
_ADDRESSES: Final = """
SELECT unit.address, device.key FROM iot.unit JOIN iot.device ON device.id = unit.device_id
WHERE unit.mounted_to IS NULL AND unit.address = ANY($1)
"""
_GATEWAYS: Final = "SELECT key FROM iot.device WHERE key = ANY($1) AND retired_at IS NULL"
_DAYS: Final = ("warranty_until", "calibrated_at", "calibration_due")
_EDITED: Final = ("name", "area", "latitude", "longitude", "labels", "notes", "gateway", "serial", *_DAYS)
_COLUMNS: Final = {
    "registry.bad_key": "key", "registry.reserved_key": "key", "registry.half_position": "latitude",
    "registry.no_class": "class",
    "registry.profile_needed": "profile", "registry.other_class": "profile", "profile.unknown": "profile",
    "registry.address_is_key": "address", "registry.address_needed": "address", "registry.bad_address": "address",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a row: an error's code and facts, and the column to look at."""

    row: int
    column: str
    code: str
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Imported:
    """What became of a list. `operations` undo it, the last one first."""

    added: list[devices.Added] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    problems: list[Problem] = field(default_factory=list)
    operations: list[int] = field(default_factory=list)


async def import_(
    connection: asyncpg.Connection,
    profiles: Profiles,
    rows: Sequence[tuple[int, devices.NewDevice]],
    *,
    skip_bad: bool,
    by: str,
    dry: bool = False,
    before: AbstractSet[str] = frozenset(),
) -> Imported:
    """Add or bring up to date numbered rows in one transaction; with problems only when those are to be skipped.

    `dry`: the caller takes everything back. `before` are gateways that the piece before would have added, had it not
    been dry too.
    """
    done = Imported()
    rows = [(number, replace(new, gateway=None) if new.gateway in before else new) for number, new in rows]
    async with connection.transaction():
        there = {row["key"]: row for row in await connection.fetch(_UNITS, [new.key for _, new in rows])}
        waves = await _checked(connection, profiles, rows, there, done)
        if done.problems and not skip_bad:
            return done
        for wave in waves:
            fresh = [new for new in wave if new.key not in there]
            if fresh:
                done.added += await devices.add(connection, profiles, fresh, by=by, dry=dry)
        good = [new for wave in waves for new in wave]
        known = {new.key: {each: _said(new, each) for each in _EDITED} for new in good if new.key in there}
        wanted = {
            key: {each: value for each, value in said.items() if value not in (None, "", [])}
            for key, said in known.items()
        }
        at = datetime.now(UTC)
        done.changes = await device_edits.write(connection, wanted, at=at)
        done.unchanged = len(known) - len(done.changes)
        done.operations = sorted({each.operation for each in done.added if each.operation is not None})
        if done.changes:
            done.operations.append(await record(connection, by, "device.import", *done.changes, effective_at=at))
    return done


async def _checked(
    connection: asyncpg.Connection,
    profiles: Profiles,
    rows: Sequence[tuple[int, devices.NewDevice]],
    there: Mapping[str, Any],
    done: Imported,
) -> list[list[devices.NewDevice]]:
    """Find what is wrong with each row; give the good ones, their areas as keys and their addresses complete.

    They come in waves: a device stands in a later one than its gateway.
    """
    areas = Areas(await connection.fetch(_AREAS))
    # Of the areas that are named: a whole country's outlines are large.
    outlines = await connection.fetch(_OUTLINES, areas.meant(said.area for _, said in rows))
    areas.outlines = {row["key"]: row["outline"] for row in outlines}
    completed: list[tuple[int, devices.NewDevice]] = []
    for number, said in rows:
        try:
            new = devices.completed(_filled_in(said, there.get(said.key)), profiles)
            completed.append((number, areas.place(new)))
        except IotError as error:
            column = "area" if error.code.startswith("registry.area") else _COLUMNS.get(error.code, "key")
            done.problems.append(Problem(row=number, column=column, code=error.code, facts=error.facts))
        except Misplaced as misplaced:
            done.problems.append(Problem(row=number, column=misplaced.column, code=misplaced.code, facts={}))
    taken = await _taken(connection, [new for _, new in completed])
    gateways = {row["key"] for row in await connection.fetch(_GATEWAYS, [new.gateway for _, new in completed])}
    good: list[tuple[int, devices.NewDevice]] = []
    seen: dict[str, int] = {}
    for number, new in completed:
        problem = _clash(number, new, there.get(new.key), taken.get(new.address or ""), seen)
        if problem is None:
            good.append((number, new))
        else:
            done.problems.append(problem)
    waves, left = _behind_gateways(good, gateways)
    done.problems += [
        Problem(row=number, column="gateway", code="registry.no_gateway", facts={"key": new.gateway})
        for number, new in left
    ]
    done.problems.sort(key=lambda each: each.row)
    return waves


def _filled_in(said: devices.NewDevice, there: Any | None) -> devices.NewDevice:
    """Take from a device that is there what a list need not say again: its model and its address."""
    if there is None or there["address"] is None:
        return said
    return replace(said, profile=said.profile or there["profile"], address=said.address or there["address"])


def _behind_gateways(
    rows: Sequence[tuple[int, devices.NewDevice]], there: Iterable[str]
) -> tuple[list[list[devices.NewDevice]], Sequence[tuple[int, devices.NewDevice]]]:
    """Order devices so that each comes after its gateway; give also those whose gateway is nowhere."""
    waves: list[list[devices.NewDevice]] = []
    known, left = set(there), rows
    while ready := [new for _, new in left if new.gateway is None or new.gateway in known]:
        waves.append(ready)
        placed = {new.key for new in ready}
        known |= placed
        left = [(number, new) for number, new in left if new.key not in placed]
    return waves, left


def _clash(
    number: int, new: devices.NewDevice, there: Any | None, taken_by: str | None, seen: dict[str, int]
) -> Problem | None:
    """Find what another row or a device that is there has against this one."""
    for column, value in (("key", new.key), ("address", new.address)):
        first = seen.setdefault(f"{column} {value}", number)
        if first != number:
            return Problem(row=number, column=column, code="registry.row_twice", facts={"first": first, "value": value})
    if there is not None and there["retired"]:
        return Problem(row=number, column="key", code="registry.device_retired", facts={"key": new.key})
    if there is not None:
        for column in ("profile", "address", "serial"):
            said = getattr(new, column)
            if said is not None and there[column] is not None and said != there[column]:
                facts = {"key": new.key, "has": there[column], "said": said}
                return Problem(row=number, column=column, code="registry.other_unit", facts=facts)
        return None
    if taken_by is not None:
        facts = {"address": new.address, "key": taken_by}
        return Problem(row=number, column="address", code="registry.address_taken", facts=facts)
    return None


async def _taken(connection: asyncpg.Connection, new: Sequence[devices.NewDevice]) -> dict[str, str]:
    rows = await connection.fetch(_ADDRESSES, [each.address for each in new])
    return {row["address"]: row["key"] for row in rows}


def _said(new: devices.NewDevice, name: str) -> Any:
    """Give a field as the registry keeps it; what a list leaves empty is not taken away."""
    value = getattr(new, name)
    if name == "labels":
        return list(value)
    if name in _DAYS:
        return None if value is None else value.isoformat()
    return None if name == "name" and value == new.key else value


class Misplaced(Exception):
    """A position that cannot be."""

    def __init__(self, column: str, code: str) -> None:
        self.column = column
        self.code = code


class Areas:
    """The areas as a list names them: by key, by code even without its zeros, by name where only one has it."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.outlines: dict[str, Any] = {}
        self._keys: dict[str, str] = {row["code"]: row["key"] for row in rows if row["code"]}
        self._keys |= {row["key"]: row["key"] for row in rows}
        self._bare: dict[str, list[str]] = {}
        self._names: dict[str, list[str]] = {}
        for row in rows:
            self._names.setdefault(fold(row["name"]), []).append(row["key"])
            if row["code"]:
                self._bare.setdefault(row["code"].lstrip("0"), []).append(row["key"])

    def place(self, new: devices.NewDevice) -> devices.NewDevice:
        """Find a device's area, and hold its position against it. Raises IotError or Misplaced."""
        latitude, longitude = new.latitude, new.longitude
        if latitude is not None and longitude is not None:
            if swapped(latitude, longitude):
                raise Misplaced("latitude", "registry.swapped")
            if abs(latitude) > 90 or abs(longitude) > 180:
                raise Misplaced("latitude", "registry.no_position")
        if new.area is None:
            return new
        key = self.find(new.area)
        outline = self.outlines.get(key)
        if outline is None or latitude is None or longitude is None or inside(outline, latitude, longitude):
            return replace(new, area=key)
        turned = inside(outline, longitude, latitude)
        raise Misplaced("latitude", "registry.swapped" if turned else "registry.outside_area")

    def meant(self, said: Iterable[str | None]) -> list[str]:
        """Give the keys of the areas that rows name, where they can be told."""
        found: set[str] = set()
        for each in {each for each in said if each is not None}:
            with suppress(IotError):
                found.add(self.find(each))
        return sorted(found)

    def find(self, said: str) -> str:
        """Find the area that a list means. Raises IotError when none or several have that name."""
        found = self._keys.get(said) or self._keys.get(said.lower())
        if found is not None:
            return found
        # Of the province 04 and the ward 00004 Excel leaves the same 4: nobody can tell which it was.
        named = self._bare.get(said.lstrip("0")) or self._names.get(fold(said), [])
        if len(named) == 1:
            return named[0]
        if named:
            raise IotError("registry.area_ambiguous", name=said, keys=", ".join(sorted(named)[:5]))
        raise IotError("registry.area_unknown", name=said)
