"""All rules as they hold now: those of the classes, and over them what people changed for areas, labels and devices.

class.yaml -> class -> areas, from the widest to the narrowest -> labels -> device; what comes later is laid over
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from iot_core.alarms.watch import ClassWatch, Knowledge, Watch, watch_class, watch_rules
from iot_core.errors import ConfigError
from iot_core.model import AlarmRule, DeviceClass
from iot_core.profiles.document import Document
from iot_core.profiles.rules import read_rule

__all__ = ["RuleBook", "RuleRow", "Scoped", "laid_over", "read_body"]

log = structlog.get_logger()

BITS: Final = "SELECT class_key, key, bit FROM iot.metric"
RULES: Final = """
SELECT r.id, r.rule, r.class_key, r.area_id, a.key AS area, r.label, r.device_id, d.key AS device, r.body, r.version,
    r.by, r.created_at
FROM iot.alarm_rule r LEFT JOIN iot.area a ON a.id = r.area_id LEFT JOIN iot.device d ON d.id = r.device_id
WHERE r.ended_at IS NULL ORDER BY r.id
"""
# The devices that any change is about, with the areas around them, the widest first.
REACHED: Final = """
WITH RECURSIVE up AS (
    SELECT id AS area_id, id, parent_id, 0 AS steps FROM iot.area
    UNION ALL SELECT up.area_id, area.id, area.parent_id, up.steps + 1
    FROM iot.area JOIN up ON area.id = up.parent_id WHERE up.steps < 32
), around AS (SELECT area_id, array_agg(id ORDER BY steps DESC) AS areas FROM up GROUP BY area_id)
SELECT d.id, d.class_key, d.labels, COALESCE(around.areas, '{}') AS areas
FROM iot.device d LEFT JOIN around ON around.area_id = d.area_id
WHERE d.retired_at IS NULL AND d.class_key = ANY($1)
    AND (around.areas && $2::integer[] OR d.labels && $3::text[] OR d.id = ANY($4::integer[]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """What a person changed of a rule, or a rule that a person made: where it holds, and its keys."""

    id: int
    rule: str
    class_key: str
    body: Mapping[str, Any]
    version: int
    by: str
    created_at: datetime
    area_id: int | None = None
    area: str | None = None
    label: str | None = None
    device_id: int | None = None
    device: str | None = None

    @property
    def everywhere(self) -> bool:
        """Say whether it holds for the whole class."""
        return self.area_id is None and self.label is None and self.device_id is None

    @property
    def where(self) -> str:
        """Say where it holds, as people write it: `area=hong-gai`."""
        for name, value in (("device", self.device), ("label", self.label), ("area", self.area)):
            if value is not None:
                return f"{name}={value}"
        return f"class={self.class_key}"


@dataclass(frozen=True, slots=True)
class Scoped:
    """A device, as far as rules ask where it stands. `areas`: the widest first."""

    id: int
    class_key: str
    labels: Sequence[str]
    areas: Sequence[int]


class RuleBook:
    """The rules in memory; one for each worker, read anew when somebody changes one."""

    def __init__(self, profiles: Knowledge) -> None:
        self.profiles = profiles
        self.classes: dict[str, ClassWatch] = {}
        self.own: dict[int, ClassWatch] = {}
        self.fed: frozenset[str] = frozenset()
        self.rows: Sequence[RuleRow] = ()
        self._bits: Mapping[tuple[str, str], int] = {}
        self.lay((), ())

    async def load(self, connection: asyncpg.Connection) -> None:
        """Read the bits of the metrics and what people changed."""
        self._bits = {(row["class_key"], row["key"]): row["bit"] for row in await connection.fetch(BITS)}
        rows = [RuleRow(**row) for row in await connection.fetch(RULES)]
        self.lay(rows, await reached(connection, rows))

    def renew(self) -> None:
        """Take over classes that changed, as far as they are known."""
        self.lay(self.rows, ())

    def at(self, device_id: int, class_key: str) -> ClassWatch:
        """Give what is watched at a device."""
        return self.own.get(device_id) or self.classes[class_key]

    def watch(self, rule: str, device_id: int | None = None) -> Watch | None:
        """Find a rule by its full key, as it is for a device; None when it does not hold there."""
        own = self.own.get(device_id) if device_id is not None else None
        class_key = rule.partition(".")[0]
        if own is not None and own.device_class.key != class_key:  # a gateway's alarm of the devices behind it
            own = None
        watched = own or self.classes.get(class_key)
        found = watched.watches.get(rule) if watched is not None else None
        if found is None and device_id is None:
            return next((each.watches[rule] for each in self.own.values() if rule in each.watches), None)
        return found

    def feeds(self, rule: str, device_id: int) -> tuple[Watch, ...]:
        """Give the rules over several devices in which a device's rule counts."""
        watched = self.own.get(device_id) or self.classes.get(rule.partition(".")[0])
        return watched.feeds.get(rule, ()) if watched is not None else ()

    def all(self) -> Iterable[Watch]:
        """Go through all rules of the classes, then those that only some devices have."""
        seen: set[str] = set()
        for watched in (*self.classes.values(), *set(self.own.values())):
            for key, watch in watched.watches.items():
                if key not in seen:
                    seen.add(key)
                    yield watch

    def keys(self) -> list[str]:
        """Give the full keys of all rules."""
        return [watch.rule.key for watch in self.all()]

    def variants(self) -> Iterable[tuple[ClassWatch, frozenset[int] | None]]:
        """Give each set of rules with its devices; None: the class's devices that no other set names."""
        yield from ((watched, None) for watched in self.classes.values())
        devices: dict[int, set[int]] = {}
        sets: dict[int, ClassWatch] = {}
        for device_id, watched in self.own.items():
            sets[id(watched)] = watched
            devices.setdefault(id(watched), set()).add(device_id)
        yield from ((watched, frozenset(devices[number])) for number, watched in sets.items())

    def lay(self, rows: Sequence[RuleRow], devices: Iterable[Scoped]) -> None:
        """Lay changes over the rules of the classes; `devices`: those that changes reach."""
        self.rows = rows
        classes: dict[str, ClassWatch] = {}
        for key, device_class in self.profiles.classes.items():
            mine = [row for row in rows if row.class_key == key and row.everywhere]
            classes[key] = (
                watch_rules(device_class, effective(device_class, mine), self._bits)
                if mine
                else watch_class(device_class, self._bits)
            )
        made: dict[tuple[int, ...], ClassWatch] = {}
        own: dict[int, ClassWatch] = {}
        for device in devices:
            laid = rows_of(rows, device)
            found = self.profiles.classes.get(device.class_key)
            if found is None or all(row.everywhere for row in laid):
                continue
            numbers = tuple(row.id for row in laid)
            if numbers not in made:
                made[numbers] = watch_rules(found, effective(found, laid), self._bits)
            own[device.id] = made[numbers]
        self.classes, self.own = classes, own
        self.fed = frozenset(fed for watched in (*classes.values(), *made.values()) for fed in watched.feeds)


async def reached(connection: asyncpg.Connection, rows: Sequence[RuleRow]) -> list[Scoped]:
    """Find the devices that changes reach which do not hold for their whole class."""
    narrow = [row for row in rows if not row.everywhere]
    if not narrow:
        return []
    found = await connection.fetch(
        REACHED,
        sorted({row.class_key for row in narrow}),
        [row.area_id for row in narrow if row.area_id is not None],
        [row.label for row in narrow if row.label is not None],
        [row.device_id for row in narrow if row.device_id is not None],
    )
    return [Scoped(row["id"], row["class_key"], row["labels"] or (), row["areas"]) for row in found]


def rows_of(rows: Iterable[RuleRow], device: Scoped) -> list[RuleRow]:
    """Give the changes that hold for a device, in the order in which they are laid over each other."""
    found: list[tuple[tuple[int, int, str], RuleRow]] = []
    for row in rows:
        if row.class_key != device.class_key:
            continue
        if row.everywhere:
            found.append(((0, 0, ""), row))
        elif row.area_id is not None and row.area_id in device.areas:
            found.append(((1, list(device.areas).index(row.area_id), ""), row))
        elif row.label is not None and row.label in device.labels:
            found.append(((2, 0, row.label), row))
        elif row.device_id == device.id:
            found.append(((3, 0, ""), row))
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def effective(device_class: DeviceClass, rows: Iterable[RuleRow]) -> list[AlarmRule]:
    """Lay changes over a class's rules. One that cannot be understood any more (its metric is gone) is left out."""
    rules = {rule.key: rule for rule in device_class.rules}
    bodies: dict[str, dict[str, Any]] = {}
    for row in rows:
        body = bodies.get(row.rule) or dict(device_class.rule_bodies.get(row.rule.partition(".")[2], {}))
        bodies[row.rule] = laid_over(body, row.body)
    names = frozenset(key.partition(".")[2] for key in (*rules, *bodies))
    for key, body in bodies.items():
        try:
            rule = read_body(device_class, key, body, names)
        except ConfigError as exc:
            log.warning("alarm.rule_unusable", rule=key, detail=str(exc))
            continue
        if rule is None:
            rules.pop(key, None)
        else:
            rules[key] = rule
    return list(rules.values())


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the keys of a change over a rule's. `when` is one thing: a limit alone keeps the metric of the one below."""
    merged = {**below, **above}
    if isinstance(below.get("when"), dict) and isinstance(above.get("when"), dict):
        old, new = below["when"], above["when"]
        merged["when"] = {**old, **new} if set(new) <= set(old) else new
    return merged


def read_body(
    device_class: DeviceClass,
    key: str,
    body: Mapping[str, Any],
    names: frozenset[str] | None = None,
    classes: Collection[str] | None = None,
) -> AlarmRule | None:
    """Read a rule from its keys, as `read_rule` does. Raises ConfigError; None when it is switched off."""
    class_key, _, name = key.partition(".")
    text = msgspec.json.encode({"rules": {name: body}}).decode()
    metrics = {metric.key: metric for metric in device_class.metrics}
    return read_rule(Document(f"{class_key}.{name}", text), ("rules", name), class_key, metrics, names, classes=classes)
