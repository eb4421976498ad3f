"""The tables `json`, `cbor`, `protobuf`, `senml`, `sparkplug`, `text` and `presence` of a profile -> formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from iot_core.profiles.classes import read_duration
from iot_core.profiles.fields import Added, Field, Group
from iot_core.profiles.formats import PresenceFormat
from iot_core.profiles.json_format import KEY, JsonEvery, JsonFormat, JsonPlace
from iot_core.profiles.moments import MomentSpec, compile_moment
from iot_core.profiles.near import like
from iot_core.profiles.paths import Path, parse_path
from iot_core.profiles.protobuf import Kind, Member, Message
from iot_core.profiles.senml_format import CHANNEL, SenmlFormat, SenmlPlace, own_unit, parted, senml_adjust
from iot_core.profiles.sparkplug_format import SparkplugFormat
from iot_core.profiles.table import Table
from iot_core.profiles.text_checksums import TEXT_CHECKSUMS
from iot_core.profiles.text_format import Split, TextFormat, TextPlace
from iot_core.profiles.values import Codec, Scalar, ValueSpec, compile_codec, scale_of

if TYPE_CHECKING:
    from datetime import timedelta

    from iot_core.profiles.document import Document, Place
    from iot_core.profiles.entries import Entries, Where

__all__ = [
    "compile_json",
    "compile_presence",
    "compile_protobuf",
    "compile_senml",
    "compile_sparkplug",
    "compile_text",
    "json_path",
    "read_span",
    "text_fields",
]

PathReader = Callable[["Place", str], Path]
"""Compile a path into a message. Raises ConfigError."""
_LAST_NUMBER: Final = (1 << 29) - 1
"""Of a field of protobuf."""


class JsonEverySpec(Table, frozen=True, kw_only=True):
    """A place in the message that says how far elements are apart."""

    path: str
    times: str | None = None
    """The path of a second number that it is multiplied with."""
    scale: float | int = 1
    """Seconds a count, below 0 where each is older than the one before."""


class JsonSpec(Table, frozen=True, kw_only=True):
    """The keys of `json` and `cbor`."""

    time: str | MomentSpec | None = None
    """Where the message says when it was measured."""
    seq: str | None = None
    """Where a number stands that grows by one with each message."""
    run: str | None = None
    """Where a text stands that is new when `seq` starts again."""
    each: str | None = None
    """The path of an array or table whose elements each say values: with their own `time`, or of an own `channel`."""
    columns: str | None = None
    """In place of `each`: the path of a table of lists that run parallel, `{"time": [...], "t": [...]}`; each position
    in them is one element. The paths of its values lead to the lists; what is no list holds for each element."""
    every: str | JsonEverySpec | None = None
    """Of elements without a time of their own: how far apart, `10m`, `-10m` when each is older than the one before, or
    where the message says it: `{path: period, scale: 60}`. `time` is then the first one's, its path and that of `every`
    counted from the whole message; without `time` the first is of the arrival."""
    channel: str | None = None
    """Where an element names its channel; `@key` is the name under which it stands in its table."""
    quiet: bool = False
    """Messages without any of our values are normal; they show that the device is there."""
    constant: dict[str, Any] = msgspec.field(default_factory=dict)
    """What a simulated device sends besides."""
    values: Any = None
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)
    """Values of further devices behind this one, by channel."""


class ProtobufSpec(JsonSpec, frozen=True, kw_only=True):
    """The keys of `protobuf`: what each field number is, then, by these names, the keys of `json`."""

    message: dict[int, Any]
    """Field number -> what it is, as the vendor's `.proto` file says: `{1: {name: serial, type: bytes}, 4: {name:
    samples, type: sint32, repeated: true}}`. Numbers that are not listed are passed over."""


class MemberSpec(Table, frozen=True, kw_only=True):
    """A field of a protobuf message."""

    name: str
    """What paths call it."""
    type: Kind | None = None
    """Its type in the `.proto` file; an enumeration is `enum`. Of `bytes` the value is text in hexadecimal."""
    repeated: bool = False
    """It is a list, packed or not."""
    default: Scalar | None = None
    """What it says where it is missing: senders of proto3 leave out zeros, so that 0 degrees is `default: 0`. Without
    it nothing is known then."""
    message: dict[int, Any] | None = None
    """The fields of a message within, in place of `type`."""


class JsonAtSpec(Table, frozen=True, kw_only=True):
    """Where something stands in JSON."""

    path: str | list[str]


class JsonWhenSpec(JsonAtSpec, frozen=True, kw_only=True):
    """A condition: what must stand there. Without equals or between: anything but zero, false and empty."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False
    """Turn it round: fulfilled when it is not so, or when nothing stands there."""


class JsonPlusSpec(JsonAtSpec, frozen=True, kw_only=True):
    """A second value that is added to the first before `scale` and `offset`."""

    scale: float | int | str = 1


class JsonScaleSpec(JsonAtSpec, frozen=True, kw_only=True):
    """A factor that stands in the message itself."""

    factors: dict[str | int, float | int | str] = msgspec.field(default_factory=dict)
    """What each raw value means; without it the raw value is the factor."""
    power: float | int | None = None
    """The raw value is a power of this: 10."""


class JsonValueSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one value in JSON."""

    path: str | list[str] = msgspec.field(default_factory=list)
    """`a.b`, `list[0].x`, `list[-1].x` (the last), `list[key=value].x`, `'a.b'.c`, `.` for the message itself; of
    several the first that is there."""
    before: str = ""
    """What a text begins with, cut off; one that does not is held."""
    after: str = ""
    """What a text may end with, cut off: the unit of `"3.38 V"`."""
    plus: JsonPlusSpec | None = None
    """A second value, times its own `scale`, that is added to this one before `scale` and `offset`: two tariffs."""
    when: JsonWhenSpec | list[JsonWhenSpec] | None = None
    """What must stand elsewhere in the message for this to be said. Of a list all must hold."""
    scale_from: JsonScaleSpec | list[JsonScaleSpec] | None = None
    """A factor that the message itself carries; of a list the product."""
    unit_from: str | None = None
    """Where the message says its unit; `units` lists what it may say."""
    units: dict[str | int, str] = msgspec.field(default_factory=dict)
    """What each word of `unit_from` means: `{F: "[degF]", C: Cel}`."""


class SenmlSpec(Table, frozen=True, kw_only=True):
    """The keys of `senml`."""

    quiet: bool = False
    """Messages without any of our values are normal; they show that the device is there."""
    values: Any = None
    states: Any = None
    extra: Any = None


class SenmlAtSpec(Table, frozen=True, kw_only=True):
    """A record."""

    name: str


class SenmlWhenSpec(SenmlAtSpec, frozen=True, kw_only=True):
    """A condition: what a record must say. Without equals or between: anything but zero, false and empty."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False
    """Turn it round."""


class SenmlValueSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one value in SenML."""

    name: str = ""
    """The end of the record's name, `3424/0/1`; its parts end at `/` and `:`. `3303/{channel}/5700` makes a channel
    of each instance."""
    when: SenmlWhenSpec | list[SenmlWhenSpec] | None = None
    """What another record must say for this to be said. Of a list all must hold."""
    unit_from: str | None = None
    """The record that names the unit (IPSO 5701); `units` lists what it may say."""
    units: dict[str | int, str] = msgspec.field(default_factory=dict)
    """What each word of `unit_from` means: `{milliCelsius: mCel}`."""


class SparkplugSpec(Table, frozen=True, kw_only=True):
    """The keys of `sparkplug`: Sparkplug B of an edge node or of a device behind one."""

    values: Any = None
    states: Any = None
    extra: Any = None
    channels: dict[str, Any] = msgspec.field(default_factory=dict)
    """Values of further devices behind this one, by channel."""


class SparkplugAtSpec(Table, frozen=True, kw_only=True):
    """A metric."""

    metric: str | list[str]
    path: str = ""


class SparkplugWhenSpec(SparkplugAtSpec, frozen=True, kw_only=True):
    """A condition: what a metric must say, at the same time. Without equals or between: anything but zero and false."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False
    """Turn it round: fulfilled when it is not so, or when the message does not say it."""


class SparkplugValueSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one value in Sparkplug B."""

    metric: str | list[str] = msgspec.field(default_factory=list)
    """Its whole name, folders and all: `Outputs/Lamp 1/Power`; of several the first that is there."""
    path: str = ""
    """Inside a DataSet (a list of rows), an array or a Template, as in JSON: `[0].Level`."""
    when: SparkplugWhenSpec | list[SparkplugWhenSpec] | None = None
    """What must be said beside it for this to be said. Of a list all must hold."""


class TextSpec(Table, frozen=True, kw_only=True):
    """The keys of `text`."""

    split: str | list[str] = ""
    """What stands between the fields, or several such (`[",", " "]`); `sign`: each + or - begins one, as in SDI-12
    (`0+1.2-3`). Without it the whole text is field 0."""
    pairs: str = ""
    """What stands between a field's name and its value: `=`."""
    rows: str = ""
    """What stands between rows: `"\\n"`. With `time` each says values of its own time; without it they are one message
    together, in which the last word counts."""
    checksum: Literal["nmea", "dsmr"] | None = None
    """What each row ends with: `nmea`, `*` and the XOR of what stands between `$` or `!` and it, which are both cut
    off; `dsmr`, after the `!` of a meter's telegram its CRC-16."""
    time: str | int | MomentSpec | None = None
    """The field that says when it was measured."""
    quiet: bool = False
    """Messages without any of our values are normal; they show that the device is there."""
    values: Any = None
    states: Any = None
    extra: Any = None


class TextAtSpec(Table, frozen=True, kw_only=True):
    """A field of a text."""

    field: int | str = 0
    """By number from 0, or by name."""
    before: str = ""
    after: str = ""


class TextWhenSpec(TextAtSpec, frozen=True, kw_only=True):
    """A condition: what a field must say."""

    equals: Scalar | list[Scalar] | None = None
    between: tuple[float | int, float | int] | None = None
    unless: bool = False


class TextPlusSpec(TextAtSpec, frozen=True, kw_only=True):
    """A second field that is added to the first before `scale` and `offset`."""

    scale: float | int | str = 1


class TextValueSpec(ValueSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one value in text."""

    field: int | str = 0
    """The field by number from 0, or by name; without `split` the whole text is field 0."""
    before: str = ""
    """What the field begins with, cut off; a field that does not is held."""
    after: str = ""
    """What the field may end with, cut off: a unit."""
    plus: TextPlusSpec | None = None
    """A second field, times its own `scale`, that is added to this one before `scale` and `offset`: two tariffs."""
    when: TextWhenSpec | list[TextWhenSpec] | None = None
    """What another field must say for this to be said. Of a list all must hold."""
    unit_from: str | int | None = None
    """The field that names the unit; `units` lists what it may say."""
    units: dict[str | int, str] = msgspec.field(default_factory=dict)
    """What each word of `unit_from` means."""


class PresenceSpec(Table, frozen=True, kw_only=True):
    """The keys of `presence`."""

    online: str | bool
    """What the message says when the device is there."""
    offline: str | bool
    """What it says, often as last will, when it is not."""
    path: str = ""
    """Where the word stands, when the message is JSON; the bare word is understood too."""


def compile_protobuf(entries: Entries, place: Place) -> JsonFormat:
    """Compile a `protobuf` table. Raises ConfigError."""
    spec = entries.document.read(place, ProtobufSpec)
    message = _message(entries, (*place, "message"), spec.message)
    return replace(compile_json(entries, place, spec=spec, message=message), message=message)


def _message(entries: Entries, place: Place, said: Mapping[int, Any]) -> Message:
    document = entries.document
    members: dict[int, Member] = {}
    for number in said:
        where = (*place, number)
        if not 1 <= number <= _LAST_NUMBER:
            raise document.error(where, f"a field number from 1 to {_LAST_NUMBER}")
        spec = document.read(where, MemberSpec)
        if (spec.type in {None, "message"}) == (spec.message is None):
            raise document.error((*where, "type"), "a type such as sint32, or the message that stands within")
        if spec.default is not None and (spec.repeated or spec.message is not None):
            raise document.error((*where, "default"), "no default of what is repeated, or of a message")
        if not spec.name or any(spec.name == member.name for member in members.values()):
            raise document.error((*where, "name"), "a name of its own")
        inner = None if spec.message is None else _message(entries, (*where, "message"), spec.message)
        members[number] = Member(spec.name, spec.type or "message", spec.repeated, spec.default, inner)
    if not members:
        raise document.error(place, "at least one field by its number")
    return members


def _known_path(entries: Entries, message: Message, place: Place, text: str) -> Path:
    """Compile a path, and refuse one that the message does not have."""
    path = json_path(entries, place, text)
    _inside(entries, place, message, path)
    return path


def _inside(entries: Entries, place: Place, message: Message, path: Path) -> Message:
    """Give the message that a path leads to: none in what is no message. Raises ConfigError."""
    listed = False
    for step in path:
        if not isinstance(step, str):
            if not listed:
                raise entries.document.error(place, "no [ ] behind what is not repeated")
            listed = False
            continue
        member = next((each for each in message.values() if each.name == step), None)
        if member is None:
            names = [each.name for each in message.values()]
            expected = f"a path of names that message has: {', '.join(names) or 'there is nothing within'}"
            raise entries.document.error(place, expected + like(step, names))
        message, listed = member.message or {}, member.repeated
    return message


def compile_json(
    entries: Entries, place: Place, *, cbor: bool = False, spec: JsonSpec | None = None, message: Message | None = None
) -> JsonFormat:
    """Compile a `json` or `cbor` table, or what `protobuf` has of it. Raises ConfigError."""
    document = entries.document
    spec = spec or document.read(place, JsonSpec)
    many = "each" if spec.each is not None else "columns"
    elements = spec.each if spec.each is not None else spec.columns
    whole = inner = partial(json_path, entries)
    if message is not None:
        whole = partial(_known_path, entries, message)
        around = () if elements is None else whole((*place, many), elements)
        inner = partial(_known_path, entries, _inside(entries, place, message, around))
    where = partial(_json_where, entries, inner)
    groups: list[Group[object]] = []
    if spec.values or spec.states:
        groups.append(Group("", *entries.read(place, JsonValueSpec, where, short="path")))
    groups.extend(
        Group(name, *entries.read((*place, "channels", name), JsonValueSpec, where, short="path"))
        for name in spec.channels
    )
    if not groups:
        raise document.error(place, "values, states or channels")
    if spec.each is not None and spec.columns is not None:
        raise document.error((*place, "columns"), "each or columns, not both")
    if elements is not None and spec.time is None and spec.channel is None and spec.every is None:
        raise document.error((*place, many), "time beside it, each element its own; or every, or channel")
    if elements is None and spec.every is not None:
        raise document.error((*place, "every"), "each or columns beside it: whose elements are so far apart")
    if spec.channel is not None and elements is None and spec.channel == KEY:
        raise document.error((*place, "channel"), "each beside @key: a table whose elements have names")
    moment = compile_moment(
        document, (*place, "time"), document.at((*place, "time")),
        lambda at, path: (inner if spec.every is None else whole)(at, str(path)),
    )  # fmt: skip
    return JsonFormat(
        groups=tuple(groups),
        time=moment,
        seq=_optional_path(inner, (*place, "seq"), spec.seq),
        run=_optional_path(inner, (*place, "run"), spec.run),
        each=_optional_path(whole, (*place, many), elements),
        columns=spec.columns is not None,
        every=_json_every(document, whole, (*place, "every"), spec.every),
        channel=() if spec.channel == KEY else _optional_path(inner, (*place, "channel"), spec.channel),
        quiet=spec.quiet,
        constant=spec.constant,
        cbor=cbor,
    )


def compile_senml(entries: Entries, place: Place) -> SenmlFormat:
    """Compile a `senml` table. Raises ConfigError."""
    spoken = entries.document.read(place, SenmlSpec)
    names: set[str] = set()

    def where(at: Place, spec: Any) -> SenmlPlace:
        name = parted(spec if isinstance(spec, str) else spec.name)
        if not name:
            raise entries.document.error((*at, "name"), "the end of a record's name, such as 3424/0/1")
        if "{" in name and name.split("/").count(CHANNEL) != name.count("{"):
            raise entries.document.error((*at, "name"), "{channel} as one whole part of the name")
        names.add(name)
        return SenmlPlace(name)

    fields, extra = entries.read(place, SenmlValueSpec, where, short="name")
    own = tuple(_with_unit(entries, place, each) for each in fields)
    return SenmlFormat(Group("", own, extra), tuple(sorted(names)), spoken.quiet)


def _with_unit(entries: Entries, place: Place, field: Field[Any]) -> Field[Any]:
    """Let the unit that a record itself names win over the profile's."""
    codec = field.codec
    metric = entries.metrics.get(codec.key)
    measured = isinstance(codec, Codec) and not (codec.map or codec.test or codec.curve or codec.constant is not None)
    if metric is None or not measured or field.adjust is not None or metric.type.value not in {"float", "int"}:
        return field
    where = (*place, "values", codec.key)
    spec = entries.document.at(where)
    unit = spec.get("unit", "") if isinstance(spec, dict) else ""
    mass = entries.molar_mass(metric.key)
    adjust = senml_adjust(field.place.name, unit or metric.ucum, metric.ucum, mass)
    if not unit:
        return Field(codec, field.locate, adjust, field.place, field.when, field.beside)
    plain = msgspec.structs.replace(entries.document.read(where, SenmlValueSpec), unit="")
    codec = compile_codec(entries.document, where, plain, metric, mass)
    given = own_unit(unit, metric.ucum, mass)
    return Field(codec, field.locate, adjust, field.place, field.when, field.beside, given)


def compile_sparkplug(entries: Entries, place: Place) -> SparkplugFormat:
    """Compile a `sparkplug` table. Raises ConfigError."""
    document = entries.document
    spec = document.read(place, SparkplugSpec)

    def where(at: Place, asked: Any) -> JsonPlace:
        names = asked if isinstance(asked, str) else asked.metric
        inner = () if isinstance(asked, str) or not asked.path else json_path(entries, (*at, "path"), asked.path)
        paths = tuple((name, *inner) for name in ([names] if isinstance(names, str) else names))
        if not paths or not all(path[0] for path in paths):
            raise document.error((*at, "metric"), "the name of a metric")
        return JsonPlace(paths)

    groups: list[Group[object]] = []
    if spec.values or spec.states:
        groups.append(Group("", *entries.read(place, SparkplugValueSpec, where, short="metric")))
    for name in spec.channels:
        inside = (*place, "channels", name)
        groups.append(Group(name, *entries.read(inside, SparkplugValueSpec, where, short="metric")))
    if not groups:
        raise document.error(place, "values, states or channels")
    return SparkplugFormat(tuple(groups))


def compile_text(entries: Entries, place: Place) -> TextFormat:
    """Compile a `text` table. Raises ConfigError."""
    document = entries.document
    spec = document.read(place, TextSpec)
    fields, extra, split = text_fields(entries, place, spec.split, spec.pairs)
    moment = compile_moment(document, (*place, "time"), document.at((*place, "time")), lambda _, field: field)
    return TextFormat(
        fields=fields,
        extra=extra,
        split=split,
        pairs=spec.pairs,
        rows=spec.rows,
        time=moment,
        quiet=spec.quiet,
        checksum=TEXT_CHECKSUMS[spec.checksum] if spec.checksum is not None else None,
    )


def text_fields(
    entries: Entries, place: Place, split: str | list[str], pairs: str
) -> tuple[tuple[Field[Any], ...], tuple[Field[Any], ...], Split | None]:
    """Compile the fields of a text, those of extra, and what divides it. Raises ConfigError."""
    document = entries.document
    if pairs and not split:
        raise document.error((*place, "pairs"), "split beside it: what stands between the pairs")

    def where(at: Place, asked: Any) -> TextPlace:
        if isinstance(asked, (str, int)):
            return TextPlace(asked)
        if isinstance(asked.field, str) and not pairs:
            raise document.error((*at, "field"), "a number from 0 on; names need pairs")
        if isinstance(asked.field, int) and not 0 <= asked.field < 1000:
            raise document.error((*at, "field"), "a number from 0 on")
        return TextPlace(asked.field, asked.before, asked.after, _added(document, at, asked, where))

    fields, extra = entries.read(place, TextValueSpec, where, short="field")
    if not fields:
        raise document.error(place, "values or states")
    return fields, extra, _splitting(entries, place, split)


def _splitting(entries: Entries, place: Place, split: str | list[str]) -> Split | None:
    between = (split,) if isinstance(split, str) else tuple(split)
    if split == "":
        return None
    if not between or not all(between):
        raise entries.document.error((*place, "split"), "text that stands between fields, a list of such, or sign")
    return Split(between)


def compile_presence(entries: Entries, place: Place) -> PresenceFormat:
    """Compile a `presence` table. Raises ConfigError."""
    spec = entries.document.read(place, PresenceSpec)
    if spec.online == spec.offline:
        raise entries.document.error(place, "two different texts")
    path = json_path(entries, (*place, "path"), spec.path) if spec.path else None
    online, offline = (str(word).lower() if isinstance(word, bool) else word for word in (spec.online, spec.offline))
    return PresenceFormat(online, offline, path)


def _json_every(
    document: Document, read: PathReader, place: Place, spec: str | JsonEverySpec | None
) -> JsonEvery | None:
    if spec is None:
        return None
    if isinstance(spec, str):
        return JsonEvery(read_span(document, place, spec))
    if not spec.scale:
        raise document.error((*place, "scale"), "seconds a count, below 0 where each is older than before")
    texts = {"path": spec.path, "times": spec.times}
    paths = tuple(read((*place, key), text) for key, text in texts.items() if text is not None)
    return JsonEvery(paths=paths, scale=float(spec.scale))


def read_span(document: Document, place: Place, text: str) -> timedelta:
    """Read a duration, also one that counts back: `-10m`. Raises ConfigError."""
    sign = -1 if text.startswith("-") else 1
    return sign * read_duration(document, place, text.removeprefix("-"))


def _json_where(entries: Entries, read: PathReader, place: Place, spec: Any) -> JsonPlace:
    given = spec if isinstance(spec, str) else spec.path
    texts = [given] if isinstance(given, str) else given
    paths = tuple(read((*place, "path"), text) for text in texts)
    if not paths:
        raise entries.document.error((*place, "path"), "at least one path")
    plus = _added(entries.document, place, spec, partial(_json_where, entries, read))
    return JsonPlace(paths, plus, getattr(spec, "before", ""), getattr(spec, "after", ""))


def _added(document: Document, place: Place, spec: Any, where: Where) -> Added[Any] | None:
    """Compile `plus`."""
    plus = getattr(spec, "plus", None)
    if plus is None:
        return None
    at = (*place, "plus")
    return Added(where(at, plus), float(scale_of(document, (*at, "scale"), plus.scale)))


def _optional_path(read: PathReader, place: Place, text: str | None) -> Path | None:
    return None if text is None else read(place, text)


def json_path(entries: Entries, place: Place, text: str) -> Path:
    """Compile a path into JSON. Raises ConfigError."""
    path = () if text == "." else parse_path(text) or None
    if text.startswith(("$.", "$[")):
        raise entries.document.error(place, "a path without $: ENERGY.Power")
    if path is None:
        raise entries.document.error(place, "a path such as ENERGY.Power, list[0].x or list[key=value].x")
    return path
