"""A first profile out of a few answers: what a technician knows -> YAML that loads, with examples that hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import MetricType
from iot_core.profiles.check import written
from iot_core.profiles.checksums import CHECKSUMS, Checksum
from iot_core.profiles.envelope import LorawanFormat
from iot_core.profiles.examples import uplink_of
from iot_core.profiles.formats import Context
from iot_core.profiles.text_checksums import TEXT_CHECKSUMS
from iot_core.profiles.times import parse_time

if TYPE_CHECKING:
    from iot_core.model import Decoded, DeviceClass, Metric, Uplink
    from iot_core.profiles.profile import Profile

__all__ = [
    "WAYS",
    "Draft",
    "Entry",
    "built",
    "checksum_of",
    "columns_of",
    "examples_of",
    "file_name",
    "guessed",
    "leaves",
    "moment_of",
    "rendered",
    "typical",
    "uplink_given",
]

WAYS: Final = ("modbus", "json", "text", "lorawan", "records", "bytes", "senml", "cbor")
"""What `iot profile new` can begin: behind a network server `lorawan` is a fixed frame, `records` type-length-value."""
SCHEMA_LINE: Final = "# yaml-language-server: $schema=../profile.schema.json"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+-][A-Za-z0-9_./ +-]*")
_NEEDS_QUOTES: Final = re.compile(r"(?i:on|off|yes|no|true|false|null|~|[-+.]?\d.*)")
_MOST_LEAVES: Final = 60
_BARE: Final = frozenset({"value", "val", "v", "now", "current", "measurement"})
_MOMENTS: Final = frozenset({"time", "timestamp", "ts", "datetime", "date", "measured_at", "last_seen", "unixtime"})
_FIRST_YEAR: Final = 2020
_SURE: Final = 2
"""Bytes of a checksum that no sample has by chance."""
_CHECKSUM: Final = "# checksum: crc16_modbus  # where the last bytes are one; its kinds: docs/profiles.md"
_TEXT_CHECKSUM: Final = "# checksum: nmea  # or dsmr, where a message ends with one"
_COLUMNS: Final = '# columns: .  # and time: ts, for {"ts": [..], "t": [..]}; or each: PATH, for an array of tables'
_PROTOBUF: Final = "# protobuf: {message: {1: {name: t, type: sint32}}, values: {METRIC: t}}  # in place of the next"
_HINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "pm25": ("pm2_5", "pm2.5", "pm25", "p2"),
    "temperature": ("temp", "tc", "t"),
    "humidity": ("hum", "rh", "h"),
    "battery": ("batt", "bat", "battery_level", "batterylevel"),
    "power": ("apower", "watt", "p"),
    "energy": ("total", "kwh", "aenergy"),
    "on": ("state", "output", "switch", "power_state"),
    "dim": ("brightness", "dimmer", "level"),
    "volume": ("total", "totalizer", "consumption"),
    "wind_speed": ("windspeed", "wind_avg", "wind_spd", "ws"),
    "wind_direction": ("wind_dir", "winddir", "wind_deg", "wd"),
    "wind_gust": ("gust", "windgust", "wind_max"),
    "pressure": ("press", "baro", "barometer", "air_pressure"),
    "distance": ("dist",),
    "level": ("water_level", "waterlevel"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric and the keys that say where it stands."""

    metric: str
    keys: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All that a first profile needs."""

    model: str
    vendor: str
    vi: str
    en: str
    source: str
    interval: str
    way: str
    entries: Sequence[Entry]
    topic: str = ""
    port: int | None = None
    length: int = 0
    split: str = ""
    pairs: str = ""
    time: str = ""
    """JSON: where the message says when it was measured."""
    columns: str = ""
    """JSON: the table of lists that run parallel."""
    checksum: str = ""
    examples: Sequence[Mapping[str, object]] = field(default_factory=tuple)


def rendered(draft: Draft) -> str:
    """Write the file."""
    lines = [
        SCHEMA_LINE,
        f"model: {draft.model}",
        f"vendor: {_quoted(draft.vendor)}",
        f"title: {{vi: {_quoted(draft.vi)}, en: {_quoted(draft.en)}}}",
        f"source: {_quoted(draft.source)}",
        f"interval: {draft.interval}",
        *_way(draft),
        "examples:",
    ]
    for example in draft.examples:
        first, *rest = example.items()
        lines.append(f"  - {first[0]}: {_flow(first[1])}")
        lines += [f"    {key}: {_flow(value)}" for key, value in rest]
    return "\n".join(lines) + "\n"


def _way(draft: Draft) -> Iterator[str]:
    match draft.way:
        case "modbus":
            yield from ("modbus:", "  points:")
            yield from _entry_lines(draft, 4)
        case "lorawan" | "records":
            yield "lorawan:"
            if draft.port is not None:
                yield f"  port: {draft.port}"
            yield from ("  bytes:", *(f"    {line}" for line in _bytes(draft)))
        case "bytes":
            yield from (_PROTOBUF, "bytes:", *(f"  {line}" for line in _bytes(draft)))
        case "senml":
            yield from ("senml:", "  values:")
            yield from _entry_lines(draft, 4)
        case way:
            yield f'address: "mqtt:{_scheme(draft.topic)}"'
            yield from ("topics:", f"  {_flow(draft.topic)}:")
            if way == "cbor":
                yield f"    {_PROTOBUF}"
            yield f"    {way}:"
            beside = {
                "split": draft.split, "pairs": draft.pairs, "checksum": draft.checksum, "columns": draft.columns,
                "time": draft.time,
            }  # fmt: skip
            yield from (f"      {key}: {_flow(said)}" for key, said in beside.items() if said)
            if not draft.checksum and not draft.columns:
                yield f"      {_TEXT_CHECKSUM if way == 'text' else _COLUMNS}"
            yield "      values:"
            yield from _entry_lines(draft, 8)


def _bytes(draft: Draft) -> Iterator[str]:
    yield f"checksum: {draft.checksum}" if draft.checksum else _CHECKSUM
    if draft.way != "records":
        yield f"length: {draft.length}"
        yield "values:"
        yield from _entry_lines(draft, 2)
        return
    yield "endian: little"
    yield "records:"
    for entry in draft.entries:
        keys = {key: value for key, value in entry.keys.items() if key not in {"key", "length"}}
        inner = f"{{{_key(entry.metric)}: {_flow(keys)}}}"
        yield f'  "{entry.keys["key"]}": {{length: {entry.keys["length"]}, values: {inner}}}'


def _entry_lines(draft: Draft, indent: int) -> Iterator[str]:
    for entry in draft.entries:
        only = next(iter(entry.keys.items()))
        short = len(entry.keys) == 1 and only[0] in {"path", "name", "field"}
        yield f"{'':{indent}}{_key(entry.metric)}: {_flow(only[1] if short else dict(entry.keys))}"


def _scheme(topic: str) -> str:
    """Make the form of an address out of a topic: what is fixed before the device, and the device."""
    before = topic.partition("/{address}")[0] if "/{address}" in topic else ""
    return f"{before}/{{address}}" if before and "+" not in before else "{address}"


# ---------------------------------------------------------------- examples
def built(profile: Profile, way: str) -> dict[str, object]:
    """Build a message of plausible values, for a model whose manual shows none."""
    values = typical(profile.device_class, profile.metrics)
    if profile.modbus is not None:
        return {"registers": profile.modbus.write(values)}
    spoken = profile.routes[0].format if profile.routes else profile.format
    assert spoken is not None
    if isinstance(spoken, LorawanFormat):
        spoken = next(iter(spoken.ports.values()))
    (payload, *_) = spoken.write(values, Context())
    return {"payload": payload.decode()} if way in {"json", "text", "senml"} else {"hex": payload.hex()}


def uplink_given(profile: Profile, given: Mapping[str, object]) -> Uplink:
    """Make the uplink of a message that is written as an example."""
    registers: Any = given.get("registers")
    port: Any = given.get("port")
    return uplink_of(
        profile,
        text=str(given["payload"]) if "payload" in given else None,
        data=bytes.fromhex(str(given["hex"])) if "hex" in given else None,
        registers=registers,
        topic=str(given.get("topic", "")),
        port=port,
    )


def examples_of(profile: Profile, given: Mapping[str, object], decoded: Decoded) -> list[dict[str, object]]:
    """Make a good example out of a message that decodes, and a bad one of the same message cut off."""
    good: dict[str, object] = {"name": "first message", **given}
    if len(decoded.samples) == 1:
        good["values"] = dict(decoded.samples[0].values)
    else:
        good["samples"] = [
            {**({"channel": each.channel} if each.channel else {}), "values": dict(each.values)}
            for each in decoded.samples
        ]
    if decoded.problems:
        good["held"] = decoded.problems[0].reason.value
    return [good, _damaged(profile, given)]


def _damaged(profile: Profile, given: Mapping[str, object]) -> dict[str, object]:
    """Cut a message off so that all of it is held."""
    for bad in _shortened(given):
        decoded = profile.decode(uplink_given(profile, bad))
        if decoded.problems and not decoded.samples:
            return {"name": "cut off", **bad, "held": decoded.problems[0].reason.value}
    kept = {key: value for key, value in given.items() if key in {"topic", "port"}}
    return {"name": "empty", **kept, "payload": "", "held": "empty"}


def _shortened(given: Mapping[str, object]) -> Iterator[dict[str, object]]:
    if "registers" in given:
        yield {**given, "registers": {}}
    for key, unit in (("hex", 2), ("payload", 1)):
        if key in given:
            text = str(given[key])
            for keep in (len(text) - unit, len(text) // 2 // unit * unit, unit, 0):
                yield {**given, key: text[: max(keep, 0)]}


# ---------------------------------------------------------------- guesses
def leaves(data: object, path: str = "") -> Iterator[tuple[str, object]]:
    """List the paths of a JSON message that lead to a value."""
    if isinstance(data, dict):
        for key, value in data.items():
            step = f"'{key}'" if set(str(key)) & set(".[]'") else str(key)
            yield from leaves(value, f"{path}.{step}" if path else step)
    elif isinstance(data, list):
        for index, value in enumerate(data[:3]):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path or ".", data


def guessed(data: object, device_class: DeviceClass) -> list[tuple[str, object, str]]:
    """List the values of a message, each with the metric that its name suggests, or none."""
    taken: set[str] = set()
    found: list[tuple[str, object, str]] = []
    for path, value in list(leaves(data))[:_MOST_LEAVES]:
        names = _names(path)
        metric = next(
            (
                each.key
                for name in names
                for each in device_class.metrics
                if _fits(each, name, value) and each.key not in taken
            ),
            "",
        )
        taken.add(metric)
        found.append((path, value, metric))
    return found


def _names(path: str) -> list[str]:
    """List what a value may be called: its key, that with the key around it, that one alone (`temperature.value`)."""
    steps = [step for step in re.split(r"[.\[\]']+", path.lower()) if step and not step.isdigit()]
    last = steps[-1] if steps else ""
    around = steps[-2] if len(steps) > 1 else ""
    return [last, f"{around}_{last}", around] if last in _BARE or around else [last]


def moment_of(data: object) -> str:
    """Find where a message says when it was measured: under a usual name, as a time that can be placed; else empty."""
    for path, value in leaves(data):
        last = _names(path)[0]
        time = parse_time(value) if last in _MOMENTS else None
        if time is not None and time.year >= _FIRST_YEAR:  # a small number is a span, or a clock that was never set
            return path
    return ""


def columns_of(data: object, path: str = "") -> tuple[str, object]:
    """Find the table whose lists run parallel with one of times: its path, and its first row; else nothing."""
    if not isinstance(data, dict):
        return "", data
    lists = {key: each for key, each in data.items() if isinstance(each, list) and len(each) > 1}
    first = {key: each[0] for key, each in lists.items()}
    if len(lists) > 1 and len({len(each) for each in lists.values()}) == 1 and moment_of(first):
        return path or ".", data | first
    found = (columns_of(each, f"{path}.{key}".lstrip(".")) for key, each in data.items() if str(key).isidentifier())
    return next((each for each in found if each[0]), ("", data))


def checksum_of(way: str, said: bytes) -> str:
    """Name the checksum that a message ends with; empty where it has none, or one that may be chance."""
    if way != "text":
        known = (Checksum(name, size, make) for name, (size, make) in CHECKSUMS.items() if size >= _SURE)
        return next((each.name for each in known if each.holds(said)), "")
    text = said.decode("utf-8", "replace").strip()
    for each in TEXT_CHECKSUMS.values():
        with suppress(DecodeError):
            for part in (text,) if each.whole else text.splitlines():
                each.opened(part)
            return each.name if text else ""
    return ""


def _fits(metric: Metric, name: str, value: object) -> bool:
    if name != metric.key and name not in _HINTS.get(metric.key, ()):
        return False
    if metric.type is MetricType.BOOL:
        return isinstance(value, bool) or str(value).lower() in {"on", "off", "0", "1"}
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def typical(device_class: DeviceClass, keys: Sequence[str]) -> dict[str, Any]:
    """Give a plausible value for each metric, for an example that no manual publishes."""
    values: dict[str, Any] = {}
    for key in keys:
        metric = device_class.metric(key)
        if metric is None:
            continue
        values[key] = _typical(metric)
    return values


def _typical(metric: Metric) -> Any:
    if metric.type is MetricType.BOOL:
        return True
    if metric.type is MetricType.ENUM:
        return next(iter(metric.members))
    low = max(metric.minimum or 0, 0)
    high = metric.maximum if metric.maximum is not None else low + 40
    some = low + min(high - low, 40) / 4
    return round(some, 1) if metric.type is MetricType.FLOAT else round(some)


def file_name(vendor: str, model: str) -> str:
    """Name the file of a model."""
    stem = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")
    brand = re.sub(r"[^a-z0-9]+", "_", vendor.lower()).strip("_")
    return f"{stem}.yaml" if not brand or stem.startswith(brand) else f"{brand}_{stem}.yaml"


# ---------------------------------------------------------------- YAML
def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _NEEDS_QUOTES.fullmatch(text) and text == text.strip():
        return text
    if '"' in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return msgspec.json.encode(text).decode()


def _key(text: object) -> str:
    return _quoted(text) if isinstance(text, str) else str(text)


def _flow(data: object) -> str:
    if isinstance(data, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {_flow(value)}" for key, value in data.items()) + "}"
    if isinstance(data, (list, tuple)):
        return "[" + ", ".join(_flow(each) for each in data) + "]"
    if isinstance(data, str):
        return _quoted(data)
    return written(data)
