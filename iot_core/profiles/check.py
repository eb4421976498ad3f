"""Is a profile right? Its examples say; and what happens to one message, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iot_core.errors import ConfigError
from iot_core.profiles.bases import read_document
from iot_core.profiles.classes import read_class
from iot_core.profiles.command_examples import sent
from iot_core.profiles.examples import example_uplink
from iot_core.profiles.load import CLASS_FILE, Broken, Profiles, classes_beside, load, load_file
from iot_core.profiles.mistakes import mistakes
from iot_core.profiles.values import number_of

if TYPE_CHECKING:
    from iot_core.model import Decoded, Sample, Uplink
    from iot_core.profiles.command_examples import CommandExample
    from iot_core.profiles.commands import CommandCodec
    from iot_core.profiles.profile import Example, Profile

__all__ = [
    "CheckResult",
    "Difference",
    "Step",
    "broken_result",
    "check",
    "check_command",
    "check_example",
    "explain",
    "written",
]

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One example and how it went; `example` is empty for the file as a whole."""

    model: str
    example: str
    ok: bool
    got: str = ""
    expected: str = ""
    error: ConfigError | None = None
    differences: tuple[Difference, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One step from the wire to values.

    `name` is envelope, bytes, json, cbor, protobuf, text, block, record, time, value, sample, held or presence. Of a
    value `before` is the raw one, `after` what it says, None when that is unknown, and `where` its place.
    """

    name: str
    key: str
    before: object
    after: object
    where: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that an example expected otherwise: where in it, and both sides as they are written in YAML."""

    place: str
    expected: str
    got: str


def check(path_or_model: Path | str, profiles: Profiles | None = None) -> list[CheckResult]:
    """Check a model, or a profile file, or every file in a folder of class folders, by their examples.

    In a folder each file is checked by itself: a mistake in one hides nothing of the others.
    """
    path = Path(path_or_model)
    try:
        known = profiles or load()
        if path.is_dir():
            return [result for file in _files_in(path) for result in _check_file(file, known)]
        if path.suffix in {".yaml", ".yml"} or path.is_file():
            return _check_file(path, known)
        wrong = [each for each in known.broken if each.model == str(path_or_model)]
        if wrong:
            return [broken_result(each) for each in wrong]
        found = known.get(str(path_or_model))
    except ConfigError as exc:
        return [_broken(str(path_or_model), exc)]
    return _check_profile(found)


def _files_in(folder: Path) -> list[Path]:
    """List the profiles and classes of a folder of class folders, or of one class's folder."""
    own = sorted(each for each in folder.glob("*.yaml"))
    return own or [each for each in sorted(folder.glob("*/*.yaml")) if not each.parent.name.startswith((".", "_"))]


def _check_file(path: Path, known: Profiles) -> list[CheckResult]:
    try:
        if path.name == CLASS_FILE:
            read_class(read_document(path), path.resolve().parent.name, classes_beside(path, known))
            return []
        profile = load_file(path, known)
    except ConfigError as exc:
        return [_broken(path.name, each) for each in mistakes(path, known) or [exc]]
    return _check_profile(profile)


def _check_profile(profile: Profile) -> list[CheckResult]:
    results = [check_example(profile, example) for example in profile.examples]
    results += [
        check_command(profile, codec, example) for codec in profile.commands.values() for example in codec.examples
    ]
    return results if profile.lacking is None else [*results, _broken(profile.model, profile.lacking)]


def broken_result(broken: Broken) -> CheckResult:
    """Say of a file that cannot be used what is wrong with it."""
    return _broken(broken.model or Path(broken.file).name, broken.error)


def _broken(name: str, error: ConfigError) -> CheckResult:
    facts = error.facts
    return CheckResult(
        name, "", ok=False, got=str(error), expected=str(facts.get("expected", "")), error=error,
        file=str(facts.get("file", "")), line=int(str(facts.get("line", 0)) or 0),
    )  # fmt: skip


def check_example(profile: Profile, example: Example) -> CheckResult:
    """Decode one example and compare."""
    decoded = profile.decode(example_uplink(profile, example))
    expected: dict[str, Any] = {}
    if example.values is not None:
        expected["values"] = dict(example.values)
    if example.samples is not None:
        expected["samples"] = [dict(each) for each in example.samples]
    if example.online is not None:
        expected["online"] = example.online
    if example.held is not None:
        expected["held"] = example.held
    got = _said(decoded, expected)
    kept = {metric.key: metric.precision for metric in profile.device_class.metrics}
    differences = tuple(_differences(got, expected, "", kept))
    return CheckResult(
        profile.model, example.name, not differences, written(got), written(expected), None, differences,
        profile.file, example.line,
    )  # fmt: skip


def check_command(profile: Profile, codec: CommandCodec, example: CommandExample) -> CheckResult:
    """Write the command of an example and compare."""
    got, expected = sent(codec, example), dict(example.expected)
    differences = tuple(_differences(got, expected, "", {}))
    name = f"{codec.name} {written(dict(example.params))}" if example.params else codec.name
    return CheckResult(
        profile.model, name, not differences, written(got), written(expected), None, differences,
        profile.file, example.line,
    )  # fmt: skip


def explain(profile: Profile, uplink: Uplink) -> list[Step]:
    """Tell each step from the wire to values, for `iot profile try`."""
    steps: list[Step] = []
    decoded = profile.decode(uplink, lambda *step: steps.append(Step(*step)))
    if decoded.online is not None and not any(step.name == "presence" for step in steps):
        steps.append(Step("presence", "online", None, decoded.online))
    steps.extend(Step("sample", sample.channel, sample.time, dict(sample.values)) for sample in decoded.samples)
    steps.extend(Step("held", problem.reason.value, problem.part, problem.detail) for problem in decoded.problems)
    return steps


def _said(decoded: Decoded, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of a result what an example speaks of. Values may be expected of the one sample only."""
    said: dict[str, Any] = {}
    if "values" in expected:
        one = decoded.samples[0].values if decoded.samples else {}
        said["values"] = _listed(decoded) if len(decoded.samples) > 1 else dict(one)
    if "samples" in expected:
        wanted = expected["samples"]
        said["samples"] = [
            _as_expected(sample, wanted[index] if index < len(wanted) else {})
            for index, sample in enumerate(decoded.samples)
        ]
    if "online" in expected:
        said["online"] = decoded.online
    reasons = [problem.reason.value for problem in decoded.problems]
    if "held" in expected:
        said["held"] = expected["held"] if expected["held"] in reasons else reasons
    elif reasons:
        said["held"] = [f"{problem.reason}: {problem.detail}" for problem in decoded.problems]
    if not expected.keys() & {"values", "samples"} and any(sample.values for sample in decoded.samples):
        said["values"] = _listed(decoded)
    return said


def _listed(decoded: Decoded) -> list[dict[str, object]]:
    return [dict(sample.values) for sample in decoded.samples]


def _as_expected(sample: Sample, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Write a sample as examples do: `values`, and beside them only what the example speaks of."""
    written: dict[str, Any] = {"values": dict(sample.values)}
    if "time" in expected:
        written["time"] = None if sample.time is None else sample.time.isoformat().replace("+00:00", "Z")
    for key in ("channel", "seq", "run"):
        if key in expected:
            written[key] = getattr(sample, key)
    if "quality" in expected:
        written["quality"] = sample.quality.name.lower()
    if "extra" in expected:
        written["extra"] = dict(sample.extra or {})
    return written


def written(data: object) -> str:
    """Write data on one line as YAML has it."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key}: {written(value)}" for key, value in data.items()) + "}"
    if isinstance(data, (list, tuple)):
        return "[" + ", ".join(written(each) for each in data) + "]"
    if data is None or isinstance(data, bool):
        return {None: "null", True: "true", False: "false"}[data]
    if isinstance(data, str) and (number_of(data) is not None or data in {"", "null", "true", "false"}):
        return f'"{data}"'  # told apart from what it looks like
    return f"{data:.10g}" if isinstance(data, float) else str(data)


def _differences(
    got: object, expected: object, place: str, kept: Mapping[str, int], key: str = ""
) -> Iterator[Difference]:
    """Say each thing that differs, as deep as both sides have the same form; numbers as far as they are `kept`."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in dict.fromkeys((*expected, *got)):
            where = f"{place}.{name}" if place else str(name)
            if name in got and name in expected:
                yield from _differences(got[name], expected[name], where, kept, str(name))
            elif name in got or expected[name] is not None:  # null is what is not said
                yield Difference(
                    where,
                    written(expected[name]) if name in expected else "-",
                    written(got[name]) if name in got else "-",
                )
    elif isinstance(expected, list) and isinstance(got, list) and len(got) == len(expected):
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]", kept)
    elif not _alike(got, expected, kept.get(key)):
        yield Difference(place, written(expected), written(got))


def _alike(got: object, expected: object, decimals: int | None) -> bool:
    if isinstance(expected, bool) or isinstance(got, bool):
        return got is expected
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        if decimals is not None and round(got, decimals) == round(expected, decimals):
            return True
        return abs(got - expected) <= _TOLERANCE * max(1.0, abs(expected))
    if isinstance(expected, str) and isinstance(got, str) and got != expected:
        try:
            return datetime.fromisoformat(got) == datetime.fromisoformat(expected)
        except (ValueError, TypeError):
            return False
    return got == expected
