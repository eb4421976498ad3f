"""A profile draft from what was probed: complete where the readings were clear, with the alternatives as comments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivers.modbus.tools.probe import Candidate, Probed
    from iot_core.profiles import Profile

__all__ = ["draft_from_model", "draft_from_registers"]

_SHOWN = 4
_EVERYDAY = (1e-3, 1e6)


def draft_from_model(profile: Profile, probed: Sequence[Probed], address: str, found_as: str) -> str:
    """Write a draft for a device that is like a known model: its points, another reading where that was the one."""
    points: list[str] = []
    registers: dict[tuple[str, int], int] = {}
    values: dict[str, Any] = {}
    for each in probed:
        if each.metric is None:
            continue
        best = each.best
        if best is None:
            points += _unclear(each)
            continue
        points.append(_point(each.key, best, profile))
        registers |= _words(each, best)
        values[each.key] = best.value
    head = _head(f"{profile.model}-variant", profile.title.en, address, found_as, profile.interval.total_seconds())
    body = ["modbus:", "  points:", *points]
    return "\n".join([*head, *body, *_examples(registers, values)]) + "\n"


def draft_from_registers(probed: Sequence[Probed], address: str, found_as: str) -> str:
    """Write a draft for an unknown device: every register as it is likeliest read, for a person to name."""
    points = [
        "    # put the key of a metric in place of each register, here and in `values` below; take away what is none",
    ]
    registers: dict[tuple[str, int], int] = {}
    values: dict[str, Any] = {}
    for each in probed:
        likeliest = next((one for one in sorted(each.candidates, key=_rank) if one.value is not None), None)
        points += _unclear(each)
        if likeliest is not None:
            points.append(f'    "{each.key}": {_where(likeliest)}')
            registers |= _words(each, likeliest)
            values[each.key] = likeliest.value
    head = _head("my-model", "My model", address, found_as, 60)
    return "\n".join([*head, "modbus:", "  points:", *points, *_examples(registers, values)]) + "\n"


def _head(model: str, title: str, address: str, found_as: str, interval_s: float) -> list[str]:
    return [
        f"# Draft of `iot modbus probe {address}`; {found_as}",
        "# Put it into device_profiles/CLASS/ of your own folder, complete it, then: iot profile check FILE",
        f"model: {model}",
        "vendor: CHANGE ME",
        f"title: {{vi: {_plain(title)}, en: {_plain(title)}}}",
        "source: CHANGE ME, the manual and its page",
        f"interval: {interval_s:g}s",
    ]


def _plain(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _point(key: str, best: Candidate, profile: Profile) -> str:
    assert profile.modbus is not None
    own: Any = next(each for _, each in profile.modbus.points if each.codec.key == key)
    parts = [f"table: {best.table}", f"address: {best.address}"]
    if best.type != "bit":
        parts.append(f"type: {best.type}")
    if best.order not in {"", "ABCD"}:
        parts.append(f"order: {best.order}")
    if best.expected and own.place.mask:
        parts.append(f"mask: {own.place.mask:#x}")
    if best.expected and own.place.plus is not None:
        parts.append(f"plus: {_plus(own.place.plus)}")
    linear = getattr(own.codec, "linear", None)
    if linear is not None and linear.factor != 1:
        parts.append(f"scale: {linear.factor:.9g}")
    if linear is not None and linear.offset:
        parts.append(f"offset: {linear.offset:.9g}")
    note = "" if best.expected else "    # not as the model says: compare with the display"
    return f'    "{key}": {{{", ".join(parts)}}}{note}'


def _plus(place: Any) -> str:
    kind = f"type: {place.wire.kind}{place.wire.size * 8}, order: {place.order}"
    return f"{{table: {place.table}, address: {place.address}, {kind}, scale: {place.scale:.9g}}}"


def _unclear(each: Probed) -> list[str]:
    """Write a point as comments: what it may be, the plausible first."""
    said = [f"    # {each.key}: {each.failure or 'unclear'}"]
    ranked = sorted(each.candidates, key=_rank)
    shown = [one for one in ranked if one.value is not None][:_SHOWN]
    return said + [f"    #   {_where(one)}  -> {one.value}" for one in shown]


def _where(one: Candidate) -> str:
    order = f", order: {one.order}" if one.order not in {"", "ABCD"} else ""
    kind = f", type: {one.type}" if one.type != "bit" else ""
    return f"{{table: {one.table}, address: {one.address}{kind}{order}}}"


def _rank(one: Candidate) -> tuple[bool, bool, bool, int]:
    """Put first what a measurement is most likely: plausible, expected, a float of everyday size, not beside."""
    size = abs(one.value) if isinstance(one.value, float) and one.type.startswith("float") else 0.0
    return not one.plausible, not one.expected, not _EVERYDAY[0] < size < _EVERYDAY[1], abs(one.shift)


def _words(each: Probed, best: Candidate) -> dict[tuple[str, int], int]:
    """Give the registers of a reading; of the model's own all around, for it may be made of several."""
    if best.expected:
        return {(each.table, each.first + at): word for at, word in enumerate(each.words) if word is not None}
    start = best.address - each.first
    width = 1 if best.type == "bit" else max(1, int("".join(filter(str.isdigit, best.type))) // 16)
    words = each.words[start : start + width]
    return {(best.table, best.address + at): word for at, word in enumerate(words) if word is not None}


def _examples(registers: dict[tuple[str, int], int], values: dict[str, Any]) -> list[str]:
    blocks: dict[tuple[str, int], list[int]] = {}
    last, block = ("", -2), ("", 0)
    for place in sorted(registers):
        if place != (last[0], last[1] + 1):
            block = place
        blocks.setdefault(block, []).append(registers[place])
        last = place
    said = ", ".join(f'"{table}:{first}": {words}' for (table, first), words in blocks.items())
    means = ", ".join(f'"{key}": {_yaml(value)}' for key, value in values.items())
    return [
        "examples:",
        "  - name: read at the device",
        f"    registers: {{{said}}}",
        f"    values: {{{means}}}",
        "  - name: an answer without registers",
        "    registers: {}",
        "    held: truncated",
    ]


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9g}" if isinstance(value, float) else str(value)
