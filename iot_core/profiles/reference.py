"""The language told from its own types: a reference for people, and a JSON Schema for editors.

    Spec (fields, types, defaults, the sentence below each field) -> docs/profiles.md, device_profiles/*.schema.json

`python -m iot_core.profiles.reference` writes both; a test says when they are not current.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from iot_core.profiles import (
    classes,
    command_examples,
    compile_bytes,
    compile_commands,
    compile_messages,
    compile_modbus,
    detect,
    examples,
    modbus,
    moments,
    places,
    resources,
    values,
)
from iot_core.profiles import (
    compile as top,
)

__all__ = ["SECTIONS", "class_schema", "profile_schema", "profile_schema_text", "reference", "write_all"]

BEGIN: Final = "<!-- reference: made by python -m iot_core.profiles.reference -->"
END: Final = "<!-- end of the reference -->"
_DOCS: Final = Path(__file__).parents[2] / "docs" / "profiles.md"
_SHIPPED: Final = Path(__file__).parents[2] / "device_profiles"
_MAP, _LIST, _ONE = "map", "list", "one"


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the language: its heading, its type, and what its untyped keys hold."""

    heading: str
    spec: type[msgspec.Struct]
    holds: Mapping[str, tuple[str, type[msgspec.Struct] | str]] = field(default_factory=dict)
    short: tuple[str, ...] = ()
    """What may stand in place of the table."""
    base: type[msgspec.Struct] | None = None
    """Keys that are told in the section of this type."""


def _entries(spec: type[msgspec.Struct]) -> dict[str, tuple[str, type[msgspec.Struct] | str]]:
    return {"values": (_MAP, spec), "states": (_MAP, spec), "extra": (_MAP, spec)}


_LAYOUT: Final = {
    **_entries(places.ByteSpec),
    "blocks": (_LIST, compile_bytes.BlockSpec),
    "records": (_MAP, compile_bytes.RecordSpec),
    "text": (_ONE, compile_bytes.TextPartSpec),
}
_FORMATS: Final[dict[str, tuple[str, type[msgspec.Struct] | str]]] = {
    "json": (_ONE, compile_messages.JsonSpec),
    "cbor": (_ONE, compile_messages.JsonSpec),
    "protobuf": (_ONE, compile_messages.ProtobufSpec),
    "senml": (_ONE, compile_messages.SenmlSpec),
    "text": (_ONE, compile_messages.TextSpec),
    "bytes": (_ONE, compile_bytes.BytesSpec),
}
_MEMBER: Final = compile_messages.MemberSpec
SECTIONS: Final[tuple[Section, ...]] = (
    Section(
        "A profile",
        top.ProfileSpec,
        {
            **_FORMATS,
            "sparkplug": (_ONE, compile_messages.SparkplugSpec),
            "lorawan": (_ONE, top.LorawanSpec),
            "modbus": (_ONE, compile_modbus.ModbusSpec),
            "coap": (_ONE, resources.CoapSpec),
            "topics": (_MAP, "format"),
            "commands": (_MAP, compile_commands.CommandSpec),
            "examples": (_LIST, examples.ExampleSpec),
        },
    ),
    Section("Keys of every value", values.ValueSpec),
    Section(
        "`json` and `cbor`",
        compile_messages.JsonSpec,
        {**_entries(compile_messages.JsonValueSpec), "channels": (_MAP, "json_channel")},
    ),
    Section(
        "`protobuf`",
        compile_messages.ProtobufSpec,
        {**_entries(compile_messages.JsonValueSpec), "channels": (_MAP, "json_channel"), "message": (_MAP, _MEMBER)},
        base=compile_messages.JsonSpec,
    ),
    Section("A field of `protobuf`", _MEMBER, {"message": (_MAP, _MEMBER)}),
    Section("A value in JSON", compile_messages.JsonValueSpec, short=("string", "array"), base=values.ValueSpec),
    Section("`senml`", compile_messages.SenmlSpec, _entries(compile_messages.SenmlValueSpec)),
    Section("A value in SenML", compile_messages.SenmlValueSpec, short=("string",), base=values.ValueSpec),
    Section(
        "`sparkplug`",
        compile_messages.SparkplugSpec,
        {**_entries(compile_messages.SparkplugValueSpec), "channels": (_MAP, "sparkplug_channel")},
    ),
    Section(
        "A value in Sparkplug B", compile_messages.SparkplugValueSpec, short=("string", "array"), base=values.ValueSpec
    ),
    Section("`text`", compile_messages.TextSpec, _entries(compile_messages.TextValueSpec)),
    Section("A value in text", compile_messages.TextValueSpec, short=("string", "integer"), base=values.ValueSpec),
    Section("A `time` in JSON and text", moments.MomentSpec, short=("string", "integer")),
    Section("`presence`", compile_messages.PresenceSpec),
    Section("`bytes`", compile_bytes.BytesSpec, {**_LAYOUT, "frames": (_LIST, compile_bytes.FrameSpec)}),
    Section("A frame", compile_bytes.FrameSpec, _LAYOUT, base=compile_bytes.BytesSpec),
    Section("A block", compile_bytes.BlockSpec, _LAYOUT, base=compile_bytes.LayoutSpec),
    Section("A record", compile_bytes.RecordSpec, _LAYOUT, base=compile_bytes.LayoutSpec),
    Section("A `text` among bytes", compile_bytes.TextPartSpec, _entries(compile_messages.TextValueSpec)),
    Section("A value in bytes", places.ByteSpec, base=values.ValueSpec),
    Section("A `time` among bytes", places.TimeSpec, base=places.AtSpec),
    Section(
        "`lorawan`",
        top.LorawanSpec,
        {
            "bytes": (_ONE, compile_bytes.BytesSpec),
            **{key: held for key, held in _FORMATS.items() if key != "native"},
            "ports": (_MAP, "format"),
            "decoded": (_ONE, compile_messages.JsonSpec),
        },
    ),
    Section("An `envelope`", top.EnvelopeSpec),
    Section(
        "`modbus`",
        compile_modbus.ModbusSpec,
        {
            "points": (_MAP, modbus.PointSpec),
            "states": (_MAP, modbus.PointSpec),
            "extra": (_MAP, modbus.PointSpec),
            "channels": (_MAP, "modbus_channel"),
            "repeat": (_ONE, compile_modbus.RepeatSpec),
        },
    ),
    Section("A point", modbus.PointSpec, base=values.ValueSpec),
    Section("`repeat`", compile_modbus.RepeatSpec),
    Section("`detect`", detect.DetectSpec),
    Section("A sign", detect.SignSpec, base=modbus.RegisterSpec),
    Section("`coap`", resources.CoapSpec, {"resources": (_MAP, "resource")}),
    Section("A resource", resources.ResourceSpec),
    Section(
        "A command",
        compile_commands.CommandSpec,
        {
            "metrics": (_MAP, compile_commands.MetricWriteSpec),
            "write": (_LIST, compile_commands.WriteSpec),
            "examples": (_LIST, command_examples.CommandExampleSpec),
        },
    ),
    Section("An example of a command", command_examples.CommandExampleSpec),
    Section("A metric of a command", compile_commands.MetricWriteSpec),
    Section("A parameter of a command", compile_commands.ParamSpec),
    Section("A write of registers", compile_commands.WriteSpec, base=modbus.RegisterSpec),
    Section("An example", examples.ExampleSpec, {"samples": (_LIST, examples.SampleSpec)}),
    Section("A sample", examples.SampleSpec),
    Section(
        "A class (`class.yaml`)",
        classes.ClassSpec,
        {
            "metrics": (_MAP, classes.MetricSpec),
            "rules": (_MAP, classes.RuleSpec),
            "commands": (_MAP, classes.CommandTypeSpec),
            "config": (_MAP, classes.SettingSpec),
        },
    ),
    Section("A metric", classes.MetricSpec),
    Section("A rule", classes.RuleSpec),
    Section("A rule's `when`", classes.ConditionSpec),
    Section("A command of a class", classes.CommandTypeSpec, {"params": (_MAP, classes.MetricSpec)}),
    Section("A setting of a class", classes.SettingSpec),
)


def reference() -> str:
    """Write the reference as Markdown."""
    return "\n\n".join("\n".join(_told(section)) for section in SECTIONS)


def profile_schema() -> dict[str, Any]:
    """Make the JSON Schema of a profile file."""
    return _schema(top.ProfileSpec, "profile", ["model", "examples"])


def class_schema() -> dict[str, Any]:
    """Make the JSON Schema of a class.yaml."""
    return _schema(classes.ClassSpec, "class", ["title", "metrics"])


def profile_schema_text() -> str:
    """Write the schema of a profile as it lies beside profiles."""
    return _dumped(profile_schema())


def write_all(docs: Path = _DOCS, shipped: Path = _SHIPPED) -> list[Path]:
    """Write reference and schemas where they belong; give the files that changed."""
    text = docs.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = {
        docs: f"{before}{BEGIN}\n{reference()}\n{END}{after}",
        shipped / "profile.schema.json": _dumped(profile_schema()),
        shipped / "class.schema.json": _dumped(class_schema()),
    }
    changed = [path for path, said in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != said]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed


# ---------------------------------------------------------------- for people
def _told(section: Section) -> Iterator[str]:
    yield f"#### {section.heading}"
    yield re.sub(r"\s+", " ", inspect.getdoc(section.spec) or "").strip()
    yield ""
    told = {each.encode_name for each in msgspec.structs.fields(section.base)} if section.base is not None else set()
    rows = list(_rows(section, told))
    if rows:
        yield "| key | is | meaning |"
        yield "|---|---|---|"
        yield from rows
    if section.base is not None:
        heading = next((other.heading for other in SECTIONS if other.spec is section.base), "")
        if rows:
            yield ""
        if heading:
            more = "And the" if rows else "The"
            yield f"{more} keys of: {heading.lower() if not heading.startswith('`') else heading}."
        else:
            like = _TOLD_IN[section.base.__name__]
            yield f"And, as in {like}: {' '.join(f'`{name}`' for name in sorted(told))}."


def _rows(section: Section, told: Container[str]) -> Iterator[str]:
    """Give a row for each key that the section's base does not tell in the same words."""
    sentences = _sentences(section.spec)
    schema = _components()[section.spec.__name__]["properties"]
    for each in msgspec.structs.fields(section.spec):
        name = each.encode_name
        if name in told and _sentences(section.base).get(each.name) == sentences.get(each.name):
            continue
        kind = _kind_of(section, name, schema[name])
        yield f"| `{name}` | {kind}{_default(each)} | {sentences.get(each.name) or _COMMON.get(name, '')} |"


def _kind_of(section: Section, name: str, schema: Mapping[str, Any]) -> str:
    held = section.holds.get(name)
    if held is None:
        return _shown(schema)
    how, what = held
    inner = _NAMED_FOR_PEOPLE[what] if isinstance(what, str) else _heading(what.__name__)
    return {_MAP: f"table of: {inner}", _LIST: f"list of: {inner}", _ONE: inner}[how]


_TOLD_IN: Final = {"LayoutSpec": "`bytes`", "AtSpec": "a value in bytes", "RegisterSpec": "a point"}
"""Where the keys are told of a base that has no section of its own."""
_COMMON: Final = {
    "title": "`{vi: ..., en: ...}`: what people read.",
    "vendor": "Who makes it.",
    "values": "Metrics of the class, each with its place.",
    "states": "Raw values that each say several metrics at once, by their `cases`.",
    "extra": "What the class has no metric for, under keys of your own; kept beside the row.",
    "json": "Every message is JSON of one form.",
    "cbor": "Every message is CBOR of one form.",
    "protobuf": "Every message is a protobuf message of one form.",
    "senml": "Every message is a SenML pack, JSON or CBOR.",
    "text": "Every message is plain text of one form.",
    "bytes": "Every message is bytes.",
    "lorawan": "It speaks through a LoRaWAN network server.",
    "modbus": "It is polled over Modbus.",
    "scale": "value = raw x scale + offset. A fraction may be written as text: `100/254`.",
    "offset": "What is added after `scale`.",
    "unit": "The unit on the wire, converted to the metric's.",
    "map": "Raw value -> value.",
    "type": "How the raw value is written.",
    "endian": "`big` or `little`.",
    "length": "The bytes of a `string` or `hex`.",
    "mask": "The bits that are written.",
    "bit": "The one bit that is written; 0 is the lowest.",
    "param": "The parameter that is written.",
    "value": "What is always written.",
    "encoding": "How the bytes are written there.",
    "retain": "The broker keeps it for a device that is away.",
    "count": "How often.",
    "start": "How far the first repetition is from the message's time.",
    "when": "What it waits for.",
    "severity": "How urgent it is, after ISA-18.2.",
    "metric": "The metric that is judged.",
    "above": "It waits for more than this.",
    "below": "It waits for less than this.",
    "equals": "It waits for exactly this.",
}
"""What keys mean that say no more in their own table."""
_NAMED_FOR_PEOPLE: Final = {
    "format": "one format",
    "json_channel": "`values`, `states`, `extra`",
    "sparkplug_channel": "`values`, `states`, `extra`",
    "modbus_channel": "`points`, `states`, `extra`",
    "resource": "one format, and the keys of a resource",
}


def _heading(name: str) -> str:
    """Name a table by its section; one without a section by its keys."""
    found = next((section.heading for section in SECTIONS if section.spec.__name__ == name), None)
    if found is None:
        return "{" + " ".join(f"`{key}`" for key in _components()[name]["properties"]) + "}"
    return found if found.startswith("`") else found[0].lower() + found[1:]


def _shown(schema: Mapping[str, Any]) -> str:
    """Say what a key may hold."""
    if "enum" in schema:
        return " ".join(f"`{each}`" for each in schema["enum"] if each not in {"", None})
    if "$ref" in schema:
        return _heading(str(schema["$ref"]).rpartition("/")[2])
    if "anyOf" in schema:
        kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
        if {each.get("type") for each in kinds} >= _SCALAR:
            kinds = [{"type": "scalar"}, *(each for each in kinds if each.get("type") not in _SCALAR)]
        return " or ".join(dict.fromkeys(_shown(each) for each in kinds))
    if "prefixItems" in schema:
        return "[" + ", ".join(_shown(each) for each in schema["prefixItems"]) + "]"
    if schema.get("type") == "array":
        return f"list of {_shown(schema.get('items', {}))}"
    return _TYPES.get(str(schema.get("type")), "anything")


_SCALAR: Final = {"string", "integer", "number", "boolean"}
_TYPES: Final = {
    "object": "table",
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "true or false",
    "scalar": "a value",
}


def _default(each: msgspec.structs.FieldInfo) -> str:
    if each.required:
        return ", **needed**"
    if each.default in (msgspec.NODEFAULT, None, "", False, msgspec.UNSET) or each.default == 0:
        return ""
    return f", default `{str(each.default).lower() if isinstance(each.default, bool) else each.default}`"


@cache
def _sentences(spec: type[msgspec.Struct] | None) -> Mapping[str, str]:
    """Read the sentence below each field out of the source, those of base types included."""
    found: dict[str, str] = {}
    for base in reversed(spec.__mro__ if spec is not None else ()):
        if base.__module__.startswith("iot_core."):
            found.update(_sentences_of(base))
    return found


def _sentences_of(spec: type) -> Iterator[tuple[str, str]]:
    tree = ast.parse(inspect.getsource(spec)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field_node, next_node in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(field_node, ast.AnnAssign) or not isinstance(field_node.target, ast.Name):
            continue
        if isinstance(next_node, ast.Expr) and isinstance(next_node.value, ast.Constant):
            yield field_node.target.id, re.sub(r"\s+", " ", str(next_node.value.value)).strip()


# ---------------------------------------------------------------- for editors
@cache
def _components() -> dict[str, Any]:
    specs = [section.spec for section in SECTIONS]
    _, components = msgspec.json.schema_components(specs, ref_template="#/$defs/{name}")
    return components


def _schema(spec: type[msgspec.Struct], name: str, required: list[str]) -> dict[str, Any]:
    """Make a schema that knows every key; what must be given is left to `iot profile check`, as a base may give it."""
    parts: dict[str, Any] = json.loads(json.dumps(_components()))
    for part in parts.values():
        part.pop("required", None)
    for section in SECTIONS:
        part = parts[section.spec.__name__]
        sentences = _sentences(section.spec)
        for each in msgspec.structs.fields(section.spec):
            schema = part["properties"][each.encode_name]
            held = section.holds.get(each.encode_name)
            if held is not None:
                schema = part["properties"][each.encode_name] = _held(*held)
            if held is None:  # null takes away what a base says
                schema = part["properties"][each.encode_name] = {"anyOf": [schema, {"type": "null"}]}
            sentence = sentences.get(each.name) or _COMMON.get(each.encode_name)
            if sentence:
                schema["description"] = sentence
    for key, formats in (
        ("format", _FORMATS),
        ("json_channel", _entries(compile_messages.JsonValueSpec)),
        ("sparkplug_channel", _entries(compile_messages.SparkplugValueSpec)),
    ):
        parts[key] = _choice({other: _held(*what) for other, what in formats.items()})
    parts["modbus_channel"] = _choice(
        {("points" if key == "values" else key): _held(*what) for key, what in _entries(modbus.PointSpec).items()}
    )
    settings = parts["ResourceSpec"]["properties"]
    parts["resource"] = _choice({**{other: _held(*what) for other, what in _FORMATS.items()}, **settings})
    parts["resource"]["properties"] |= {"native": {}, "presence": {"$ref": "#/$defs/PresenceSpec"}}
    parts["format"]["properties"] |= {
        "native": {},
        "quiet": {},
        "presence": {"$ref": "#/$defs/PresenceSpec"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"iot-core {name}",
        **parts[spec.__name__],
        "required": required,
        "$defs": {key: parts[key] for key in sorted(_used(parts, spec.__name__))},
    }


def _choice(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _held(how: str, what: type[msgspec.Struct] | str) -> dict[str, Any]:
    """Describe what an untyped key holds; null takes away what a base says."""
    name = what if isinstance(what, str) else what.__name__
    short = next((section.short for section in SECTIONS if section.spec.__name__ == name), ())
    one: dict[str, Any] = {
        "anyOf": [{"$ref": f"#/$defs/{name}"}, *({"type": kind} for kind in short), {"type": "null"}]
    }
    if how == _MAP:
        return {"anyOf": [{"type": "object", "additionalProperties": one}, {"type": "null"}]}
    return {"type": "array", "items": one} if how == _LIST else one


def _used(parts: Mapping[str, Any], name: str) -> set[str]:
    """Find the parts that a part needs, itself too only when it is needed again."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        text = json.dumps(parts[waiting.pop()])
        for other in re.findall(r'"#/\$defs/(\w+)"', text):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _dumped(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in write_all():
        sys.stdout.write(f"{path}\n")
