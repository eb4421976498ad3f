"""The entries of `values`, `states` and `extra`: their keys checked, each compiled to a field, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from iot_core.profiles.classes import ClassFile, check_metric_key
from iot_core.profiles.fields import Field, When, always, chained, scaled_by, unit_named
from iot_core.profiles.near import like
from iot_core.profiles.units import SAME, Linear, conversion
from iot_core.profiles.values import Cases, Codec, Test, ValueSpec, compile_cases, compile_codec, compile_test, scale_of

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place

__all__ = ["Entries"]

S = TypeVar("S")
Spec = TypeVar("Spec", bound=ValueSpec)
Where = Callable[["Place", Any], Any]
"""Compile where something stands: gives an object with `locate` and `place`. Raises ConfigError."""


class Entries:
    """Compiles the entries of one document against its class."""

    def __init__(self, document: Document, class_file: ClassFile) -> None:
        self.document = document
        self.class_file = class_file
        self.metrics = {metric.key: metric for metric in class_file.device_class.metrics}

    def read(
        self,
        place: Place,
        kind: type[Spec],
        where: Where,
        *,
        short: str = "",
        section: str = "values",
        completed: Callable[[Place, Spec], Spec] | None = None,
    ) -> tuple[tuple[Field[Any], ...], tuple[Field[Any], ...]]:
        """Compile `values` (or `points`), `states` and `extra` of the table at a place: fields, and those of extra."""
        table = self.document.table(place) if place else self.document.data
        fields: list[Field[Any]] = []
        extra: list[Field[Any]] = []
        for name in (section, "states", "extra"):
            if table.get(name) is None:
                continue
            for key in self.document.table((*place, name)):
                own = (*place, name, key)
                spec = self._spec(own, kind, short)
                if completed is not None:
                    spec = completed(own, spec)
                codec = self._codec(own, name, key, spec)
                if codec is None:
                    continue
                beside = name == "extra" or (isinstance(codec, Codec) and codec.type is None)
                (extra if beside else fields).append(self._field(own, spec, codec, where))
        return tuple(fields), tuple(extra)

    def condition(self, place: Place, spec: Any, where: Where) -> When[Any]:
        """Compile what must stand somewhere, or a list of such, which must all hold. Raises ConfigError."""
        if isinstance(spec, list):
            if not spec:
                raise self.document.error(place, "at least one condition")
            first, *also = (self.condition((*place, index), each, where) for index, each in enumerate(spec))
            return replace(first, also=tuple(also))
        found = where(place, spec)
        test = compile_test(self.document, place, spec.equals, spec.between, negated=spec.unless)
        return When(found.locate, test or Test(negated=spec.unless), found)

    def molar_mass(self, key: str) -> float | None:
        """Give a gas's molar mass."""
        return self.class_file.molar_mass.get(key)

    def _spec(self, place: Place, kind: type[Spec], short: str) -> Spec:
        value: Any = self.document.data
        for step in place:
            value = value[step]
        if short and isinstance(value, (str, int)) and not isinstance(value, bool):
            return self.document.convert(place, {short: value}, kind)
        if short in {"path", "metric"} and isinstance(value, list):
            return self.document.convert(place, {short: value}, kind)
        if not isinstance(value, dict):
            known = {field.name for field in msgspec.structs.fields(kind)}
            shape = "address: 4, type: uint16" if "address" in known else "at: 2, type: int16"
            raise self.document.error(place, f"a table such as {{{f'{short}: ...' if short else shape}}}")
        return self.document.read(place, kind)

    def _codec(self, place: Place, section: str, key: str, spec: ValueSpec) -> Codec | Cases | None:
        """Compile an entry's value keys. None: of what is inherited, a state that says nothing of this class."""
        inherited = self.document.inherited(place)
        if section in {"states", "extra"} or inherited:
            check_metric_key(self.document, place, key)
        if section == "states":
            if inherited and spec.cases is not None:
                mine = {
                    raw: {name: value for name, value in says.items() if name in self.metrics}
                    for raw, says in spec.cases.items()
                }
                if not any(mine.values()):
                    return None
                spec = msgspec.structs.replace(spec, cases=mine)
            return compile_cases(self.document, place, spec, self.metrics)
        if spec.cases is not None:
            raise self.document.error((*place, "cases"), "cases only under states")
        if section == "extra" or (inherited and key not in self.metrics):
            if section != "extra":  # the class of this model has no such metric: it is kept beside the row
                spec = msgspec.structs.replace(spec, unit="")
            return compile_codec(self.document, place, spec, None)
        if key not in self.metrics:
            hint = like(key, self.metrics)
            raise self.document.error(
                place, f"a metric of the class {self.class_file.device_class.key}: {', '.join(self.metrics)}{hint}"
            )
        return compile_codec(self.document, place, spec, self.metrics[key], self.molar_mass(key))

    def _field(self, place: Place, spec: Any, codec: Codec | Cases, where: Where) -> Field[Any]:
        beside: list[tuple[Any, object]] = []
        given = SAME
        when = None
        if getattr(spec, "when", None) is not None:
            when = self.condition((*place, "when"), spec.when, where)
            beside.extend(when.wanted)
        if spec.value is not None:
            return Field(codec, always, None, None, when, tuple(beside))
        found = where(place, spec)
        adjust: Any = None
        power = None
        for at, scale in _listed((*place, "scale_from"), getattr(spec, "scale_from", None)):
            own = where(at, scale)
            factors = {
                raw: float(scale_of(self.document, (*at, "factors", raw), each)) for raw, each in scale.factors.items()
            }
            if factors and scale.power is not None:
                raise self.document.error(at, "factors or power, not both")
            adjust = chained(adjust, scaled_by(own.locate, factors, scale.power))
            raw = next(iter(factors)) if factors else 0 if scale.power is not None else 1
            given = Linear(given.factor * (factors[raw] if factors else 1.0))
            beside.append((own, raw))
            power = own if scale.power is not None else None
        if getattr(spec, "unit_from", None) is not None:
            own = where((*place, "unit_from"), spec.unit_from)
            units = self._units(place, spec.units)
            raw, linear = next(iter(units.items()))
            adjust = chained(adjust, unit_named(own.locate, units))
            given = Linear(given.factor * linear.factor, given.offset * linear.factor + linear.offset)
            beside.append((own, raw))
        elif getattr(spec, "units", None):
            raise self.document.error((*place, "units"), "unit_from beside it: where the unit stands")
        delta = {"add": 1, "subtract": -1}.get(str(getattr(spec, "delta", "")), 0)
        return Field(codec, found.locate, adjust, found, when, tuple(beside), given, power, delta)

    def _units(self, place: Place, said: Mapping[Any, str]) -> Mapping[object, Linear]:
        key = str(place[-1])
        metric = self.metrics.get(key)
        units: dict[object, Linear] = {}
        for raw, ucum in said.items():
            linear = SAME if metric is None else conversion(ucum, metric.ucum, self.molar_mass(key))
            if linear is None:
                into = metric.ucum if metric is not None else ""
                raise self.document.error((*place, "units", raw), f"a unit of measure that can be converted to {into}")
            units[raw] = linear
        if not units:
            raise self.document.error((*place, "units"), "what each unit that unit_from may say means")
        return units


def _listed(place: Place, said: Any) -> list[tuple[Place, Any]]:
    """Give what is said once, or several times in a list, each with its place."""
    if isinstance(said, list):
        return [((*place, index), each) for index, each in enumerate(said)]
    return [] if said is None else [(place, said)]
