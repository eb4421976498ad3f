"""A job file: what was found on site without signal, to be imported later with `iot device import job.json`.

Its `devices` are rows as the API takes them; a person may add names, areas and positions. Whatever is `undecided` has
no proven model yet: move it up with a profile, or leave it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from iot_core.errors import ConfigError

if TYPE_CHECKING:
    from drivers.modbus.scan import Found

__all__ = ["key_of", "save"]

_LONGEST_KEY: Final = 63


def key_of(found: Found, model: str, address: str) -> str:
    """Make a device's key of its model and address: the same for the same unit, whenever it is found."""
    place = address.removeprefix("modbus://").removeprefix("rtu@").lower()
    return re.sub(r"[^a-z0-9]+", "-", f"{model}-{place}").strip("-")[:_LONGEST_KEY].strip("-") or f"u-{found.unit_id}"


def save(path: Path, place: str, found: Sequence[Found], reached_as: str | None) -> int:
    """Write a job file; what people changed in one that is there stays. Gives the number of devices in it.

    Raises ConfigError when the file is none of ours.
    """
    before = _before(path)
    known = {device["address"]: device for device in before["devices"]}
    undecided = {each["address"]: each for each in before["undecided"]}
    for each in found:
        address = _as_seen(each, reached_as)
        if each.model is None:
            if address not in known:
                undecided[address] = {**each.data(), "address": address}
            continue
        undecided.pop(address, None)
        undecided.pop(each.address, None)
        notes = ", ".join(f"{name}: {said}" for name, said in each.identification.items())
        known.setdefault(
            address,
            {"key": key_of(each, each.model, address), "profile": each.model, "address": address, "notes": notes},
        )
    job = {
        "job": "modbus", "version": 1, "made_at": datetime.now(UTC).isoformat(timespec="seconds"), "place": place,
        "devices": list(known.values()), "undecided": list(undecided.values()),
    }  # fmt: skip
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(job, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return len(known)


def _as_seen(found: Found, reached_as: str | None) -> str:
    """Write an address as the server will reach it, where that is another way than the laptop's."""
    return found.address if reached_as is None else f"modbus://{reached_as}/{found.unit_id}"


def _before(path: Path) -> dict[str, list[Any]]:
    if not path.exists():
        return {"devices": [], "undecided": []}
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        _expect(job.get("job") == "modbus" and _are_rows(job["devices"]) and _are_rows(job["undecided"]))
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise ConfigError("modbus.no_job", file=path) from exc
    return {"devices": job["devices"], "undecided": job["undecided"]}


def _are_rows(rows: Iterable[Any]) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and "address" in row for row in rows)


def _expect(right: bool) -> None:
    if not right:
        raise ValueError
