"""SenML under the names of a vendor's or a standard's objects: LwM2M `3424/0/1`, several instances as channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from iot_core.errors import DecodeError
from iot_core.model import Decoded, Problem, Quality, Reason, Sample
from iot_core.profiles.fields import MISSING, Group, Trace, collect
from iot_core.profiles.senml import CBOR_FORMAT, JSON_FORMAT, Record, read_pack, resolve, sheets, write_pack
from iot_core.profiles.units import Linear, conversion

if TYPE_CHECKING:
    from iot_core.model import Uplink, Value
    from iot_core.profiles.formats import Context

__all__ = ["CHANNEL", "SenmlFormat", "SenmlPlace", "senml_adjust", "senml_locate"]

Pack = Mapping[str, Record]
CHANNEL: Final = "{channel}"
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class SenmlPlace:
    """A record's name."""

    name: str

    @property
    def text(self) -> str:
        """Say where it is, for a person."""
        return self.name

    def locate(self, pack: Pack) -> object:
        """Find a record's value."""
        record = pack.get(self.name)
        return MISSING if record is None else record.value

    def place(self, raw: object, fields: dict[str, object]) -> None:
        """Put a record where `locate` finds it."""
        fields[self.name] = raw


@dataclass(frozen=True, slots=True)
class SenmlFormat:
    """Values under names. Where a name holds `{channel}`, each instance is a channel."""

    group: Group[Pack]
    names: tuple[str, ...]
    """Every name that the profile asks for; as many parts are compared, from the end."""
    quiet: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return self.group.keys

    @property
    def channels(self) -> tuple[str, ...]:
        return () if self._wild else ("",)

    @property
    def _wild(self) -> bool:
        return any(CHANNEL in name for name in self.names)

    def read(self, uplink: Uplink, trace: Trace | None = None) -> Decoded:
        content = uplink.content_format
        if content not in {None, JSON_FORMAT, CBOR_FORMAT}:
            return Decoded(problems=(Problem(Reason.WRONG_FORMAT, f"content format {content}"),))
        problems: list[Problem] = []
        try:
            records = resolve(read_pack(uplink.payload, content), uplink.received_at, problems)
        except DecodeError as exc:
            return Decoded(problems=(Problem(exc.reason, exc.detail),))
        samples: list[Sample] = []
        speaks = self.quiet
        for sheet in sheets(records, lambda record: record.name):
            for channel, pack in self._packs(sheet, trace).items():
                values = collect(self.group.fields, pack, problems, trace)
                extra = collect(self.group.extra, pack, problems, trace) or None
                every = (*self.group.fields, *self.group.extra)
                speaks = speaks or any(each.locate(pack) is not MISSING for each in every)
                if values:
                    quality = Quality.UNCERTAIN if sheet[0].relative else Quality.GOOD
                    samples.append(Sample(values, sheet[0].time, channel, quality=quality, extra=extra))
        if not samples and not problems:
            if speaks:
                return Decoded(online=True)
            problems.append(Problem(Reason.NO_VALUES))
        return Decoded(samples, problems)

    def _packs(self, sheet: list[Record], trace: Trace | None) -> dict[str, dict[str, Record]]:
        """Sort the records of one time by channel, under the names that the profile knows them by."""
        lengths = {name.count("/") + 1 for name in self.names}
        wild = {(name.count("/") + 1, name.split("/").index(CHANNEL)) for name in self.names if CHANNEL in name}
        packs: dict[str, dict[str, Record]] = {}
        for record in sheet:
            parts = parted(record.name).split("/")
            plain = packs.setdefault("", {})
            plain.update(("/".join(parts[-length:]), record) for length in lengths)
            for length, at in wild:
                if len(parts) >= length:
                    own = parts[-length:]
                    channel, own[at] = own[at], CHANNEL
                    packs.setdefault(channel, {})["/".join(own)] = record
            if trace is not None:
                trace("record", record.name, record.unit, record.value)
        return packs

    def write(self, values: Mapping[str, Value], context: Context) -> Sequence[bytes]:
        fields: dict[str, object] = {}
        for each in self.group.fields:
            if each.place is not None and any(key in values for key in each.codec.keys):
                each.place.place(each.raw(values), fields)
                for place, wanted in each.beside:
                    place.place(wanted, fields)
        named = {f"/{name.replace(CHANNEL, context.channel or '0')}": raw for name, raw in fields.items()}
        return (write_pack(named, context.time, context.content_format or JSON_FORMAT),)


def parted(name: str) -> str:
    """Write a name with one separator: RFC 8428 lets `:` and `/` divide it (`urn:dev:ow:10e2073a0108006:temp`)."""
    return name.replace(":", "/").strip("/")


def senml_locate(name: str) -> Callable[[Pack], object]:
    """Make the function that finds a record's value."""
    return SenmlPlace(name).locate


def senml_adjust(name: str, own: str, ucum: str, molar_mass: float | None) -> Callable[[Pack], Linear | None]:
    """Make the function that converts from the unit a record names, where it is not the profile's `own`."""
    default = conversion(own, ucum, molar_mass) or Linear()

    def adjust(pack: Pack) -> Linear | None:
        unit = pack[name].unit
        if not unit or unit == own:
            return default
        linear = conversion(unit, ucum, molar_mass)
        if linear is None:
            raise DecodeError(Reason.BAD_FIELD, f"unit {unit[:_SHOWN]} is not one of {ucum}'s")
        return linear

    return adjust


def own_unit(own: str, ucum: str, molar_mass: float | None) -> Linear:
    """Say how a record in the profile's own unit becomes the metric's."""
    return conversion(own, ucum, molar_mass) or Linear()
