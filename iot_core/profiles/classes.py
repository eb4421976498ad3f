"""class.yaml -> DeviceClass: metrics, plausible ranges, default alarm rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from iot_core.model import (
    RESERVED_COMMANDS,
    RESERVED_METRIC_KEYS,
    CommandType,
    DeviceClass,
    Metric,
    MetricType,
    Setting,
    Title,
    is_metric_key,
)
from iot_core.profiles.document import Document, Place
from iot_core.profiles.rules import ConditionSpec, RuleSpec, StepSpec, Titles, read_duration, read_rule
from iot_core.profiles.table import Table
from iot_core.profiles.units import is_ucum, meant

__all__ = [
    "ClassFile",
    "ClassSpec",
    "CommandTypeSpec",
    "ConditionSpec",
    "MetricSpec",
    "RuleSpec",
    "SettingSpec",
    "StepSpec",
    "Titles",
    "check_metric_key",
    "read_class",
    "read_duration",
    "read_rule",
]


_UNIT: Final = "a unit of measure of UCUM: Cel, %, ug/m3, kW.h, g/m2"


class MetricSpec(Table, frozen=True, kw_only=True):
    """One measurable quantity, or a parameter of a command. The SQL type of its column follows from these keys."""

    title: Titles
    """`{vi: ..., en: ...}`: what people read."""
    ucum: str = "1"
    """The unit of measure (UCUM): `Cel`, `%`, `m3/h`, `ug/m3`; `1` for none."""
    type: Literal["float", "int", "bool", "enum"] = "float"
    precision: int = 3
    """Decimals that are kept, of a float."""
    range: tuple[float | int | None, float | int | None] = (None, None)
    """What is plausible, `[lowest, highest]`; null for an open end. What lies outside is stored and marked."""
    counter: bool = False
    """It only grows: consumption is the difference, and a fall is a rollover or an exchange."""
    members: dict[str, int] = msgspec.field(default_factory=dict)
    """Of an enum: what it can say, and the number that stands for it in the database."""
    molar_mass: float | None = None
    """Of a gas in g/mol: lets a profile say `unit: "[ppm]"`."""
    smart_data_model: str | None = None
    """The matching attribute of a Smart Data Models entity: `Streetlight.powerState`."""


class CommandTypeSpec(Table, frozen=True, kw_only=True):
    """What devices of the class can be asked to do."""

    title: Titles
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    """Its parameters, with the keys of a metric; all must be given."""
    done: dict[str, str] = msgspec.field(default_factory=dict)
    """How a later reading shows it done: `{METRIC: PARAMETER}`, all of them equal."""
    tolerance: float | int = 0
    """How far a number may be from its parameter and still show it done."""
    confirm: Literal["one", "two"] = "one"
    """How many people must want it: `two` for a valve."""
    once: bool = False
    """It must not be carried out twice: where nobody knows whether it arrived, it is not sent again by itself."""
    harmless: bool = False
    """It changes nothing where all is well, so `iot device test` tries it. No parameters, not `once`, not `two`."""


class SettingSpec(MetricSpec, frozen=True, kw_only=True):
    """What devices of the class can be set to and keep, with the keys of a metric."""

    command: str = ""
    """The command that sets it on a device that is not native; a native one takes it as configuration."""
    param: str = ""
    """The parameter of that command which takes the value."""


class ClassSpec(Table, frozen=True, kw_only=True):
    """The keys of `class.yaml`; the folder's name is the class's key."""

    title: Titles
    metrics: dict[str, Any]
    """What it measures."""
    rules: dict[str, Any] = msgspec.field(default_factory=dict)
    """Its default alarms."""
    commands: dict[str, Any] = msgspec.field(default_factory=dict)
    """What its devices can be asked to do."""
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    """What its devices can be set to and keep."""
    keeps_schedule: bool = False
    """Its native devices can keep a schedule and carry it out by themselves."""
    window: str = "400d"
    """How old a reading may be and still be stored."""
    life_safety: bool = False
    """Fire: never rate-limited, and an implausible value raises a fault."""
    household: bool = False
    """One device is one home: its values leave only grouped, or for who has the right."""


@dataclass(frozen=True, slots=True)
class ClassFile:
    """A class, and what only profiles need of it: the molar mass of its gases."""

    device_class: DeviceClass
    molar_mass: Mapping[str, float]


def read_class(document: Document, key: str, classes: Collection[str] | None = None) -> ClassFile:
    """Read one class.yaml; `classes` are all that there are. Raises ConfigError naming file, line and key."""
    if not is_metric_key(key):
        raise document.error((), f"a folder named [a-z][a-z0-9_]{{0,39}}, not {key}")
    spec = document.read((), ClassSpec)
    metrics: list[Metric] = []
    masses: dict[str, float] = {}
    for name in document.table(("metrics",)):
        metric, mass = _read_metric(document, ("metrics", name))
        metrics.append(metric)
        if mass is not None:
            masses[name] = mass
    if len(metrics) > 63:
        raise document.error(("metrics",), "at most 63 metrics, one bit of the bad mask each")
    by_key = {metric.key: metric for metric in metrics}
    return ClassFile(
        DeviceClass(
            key=key,
            title=Title(spec.title.vi, spec.title.en),
            metrics=tuple(metrics),
            rules=tuple(
                rule
                for name in spec.rules
                if (rule := read_rule(document, ("rules", name), key, by_key, classes=classes))
            ),
            rule_bodies=spec.rules,
            commands=(told := tuple(_read_command(document, name, by_key) for name in spec.commands)),
            settings=tuple(_read_setting(document, name, told) for name in spec.config),
            keeps_schedule=spec.keeps_schedule,
            window=read_duration(document, ("window",), spec.window),
            life_safety=spec.life_safety,
            household=spec.household,
        ),
        masses,
    )


def check_metric_key(document: Document, place: Place, name: str) -> None:
    """Raise ConfigError unless `name` can be a metric's key."""
    if name in RESERVED_METRIC_KEYS:
        raise document.error(place, f"a name that is not reserved ({', '.join(sorted(RESERVED_METRIC_KEYS))})")
    if not is_metric_key(name):
        raise document.error(place, "a metric key of the form [a-z][a-z0-9_]{0,39}")


def _read_command(document: Document, name: str, metrics: Mapping[str, Metric]) -> CommandType:
    place: Place = ("commands", name)
    check_metric_key(document, place, name)
    if name in RESERVED_COMMANDS:
        raise document.error(place, f"a name that the platform does not use ({', '.join(sorted(RESERVED_COMMANDS))})")
    spec = document.read(place, CommandTypeSpec)
    params = {param: _read_metric(document, (*place, "params", param))[0] for param in spec.params}
    for metric, param in spec.done.items():
        if metric not in metrics:
            raise document.error((*place, "done", metric), f"a metric of this class: {', '.join(metrics)}")
        if param not in params or _kind(params[param]) is not _kind(metrics[metric]):
            raise document.error((*place, "done", metric), "a parameter of this command, of the metric's type")
    if spec.harmless and (params or spec.once or spec.confirm == "two"):
        raise document.error((*place, "harmless"), "true only without params, once and confirm: two")
    return CommandType(
        key=name,
        title=Title(spec.title.vi, spec.title.en),
        params=tuple(params.values()),
        done=spec.done,
        tolerance=float(spec.tolerance),
        confirm_two=spec.confirm == "two",
        once=spec.once,
        harmless=spec.harmless,
    )


def _read_setting(document: Document, name: str, commands: tuple[CommandType, ...]) -> Setting:
    place: Place = ("config", name)
    spec = document.read(place, SettingSpec)
    metric, _ = _metric_of(document, place, spec)
    if spec.command:
        told = next((each for each in commands if each.key == spec.command), None)
        if told is None or [each.key for each in told.params] != [spec.param]:
            raise document.error((*place, "command"), "a command of this class whose one parameter is param")
    return Setting(metric=metric, command=spec.command, param=spec.param)


def _kind(metric: Metric) -> MetricType:
    """Numbers are compared as numbers, whatever they are stored as."""
    return MetricType.FLOAT if metric.type is MetricType.INT else metric.type


def _read_metric(document: Document, place: Place) -> tuple[Metric, float | None]:
    return _metric_of(document, place, document.read(place, MetricSpec))


def _metric_of(document: Document, place: Place, spec: MetricSpec) -> tuple[Metric, float | None]:
    name = str(place[-1])
    check_metric_key(document, place, name)
    if spec.type in {"float", "int"} and spec.ucum != "1" and not is_ucum(spec.ucum):
        hint = f" (did you mean {meant(spec.ucum)}?)" if meant(spec.ucum) else ""
        raise document.error((*place, "ucum"), _UNIT + hint)
    if not 0 <= spec.precision <= 9:
        raise document.error((*place, "precision"), "a number of decimals from 0 to 9")
    low, high = spec.range
    if low is not None and high is not None and low > high:
        raise document.error((*place, "range"), "[lowest, highest]")
    if (spec.type == "enum") != bool(spec.members):
        raise document.error((*place, "members"), "members exactly when type is enum")
    metric = Metric(
        key=name,
        title=Title(spec.title.vi, spec.title.en),
        type=MetricType(spec.type),
        ucum=spec.ucum,
        precision=spec.precision,
        minimum=low,
        maximum=high,
        counter=spec.counter,
        members=spec.members,
        smart_data_model=spec.smart_data_model,
    )
    return metric, spec.molar_mass
