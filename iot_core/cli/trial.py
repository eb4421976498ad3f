"""One message tried with one model: each step, the values it says, judged, and what could not be used."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.output import Column, print_rows
from iot_core.cli.times import local
from iot_core.cli.words import symbol, value, word
from iot_core.messages import text, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot_core.model import Decoded, DeviceClass, Metric, Problem, Sample, Uplink
    from iot_core.profiles import Profile, Step

__all__ = ["decoded_data", "judged", "print_trial", "trial_data"]

GLANCE = 100
RESULTS = frozenset({"sample", "held"})
"""Steps that are shown as what came out, not as a step."""
JUDGED_STYLE = {
    "ok": "green",
    "implausible": "bold red",
    "wrong_type": "bold red",
    "not_finite": "bold red",
    "no_metric": "bold red",
}

STEP_COLUMNS: list[Column[Step]] = [
    Column("cli.col_step", lambda row: word("step", row.name)),
    Column("cli.col_key", lambda row: row.key),
    Column("profile.col_where", lambda row: row.where, drop=2),
    Column("cli.col_before", lambda row: _short(row.before), raw=True),
    Column("cli.col_after", lambda row: _after(row), raw=True),  # noqa: PLW0108 - it is defined below
]


def print_trial(profile: Profile, steps: Sequence[Step], decoded: Decoded) -> None:
    """Print what happened to a message."""
    inner = [step for step in steps if step.name not in RESULTS]
    if inner:
        click.echo(text("cli.head_steps"))
        print_rows(inner, STEP_COLUMNS)
    for sample in decoded.samples:
        click.echo(f"{text('cli.head_values')} {_about(sample)}".rstrip())
        print_rows(list(sample.values.items()), _value_columns(profile.device_class))
        if sample.extra:
            beside = ", ".join(f"{key} {_short(said)}" for key, said in sample.extra.items())
            click.echo(f"  {text('profile.beside')} {beside}")
    if decoded.online is not None and not any(step.name == "presence" for step in inner):
        click.echo(text("cli.head_values") + f" {word('state', 'ok' if decoded.online else 'silent')}")
    if decoded.problems:
        click.echo(text("cli.head_problems"))
    for problem in decoded.problems:
        click.echo(f"  {_problem(problem)}")


def trial_data(profile: Profile, uplink: Uplink, steps: Sequence[Step], decoded: Decoded) -> dict[str, Any]:
    """Give a trial as scripts read it."""
    data = decoded_data(decoded)
    for sample, said in zip(decoded.samples, data["samples"], strict=True):
        said["judged"] = {key: judged(profile.device_class, key, one) for key, one in sample.values.items()}
    return {
        "model": profile.model,
        "class": profile.class_key,
        "topic": uplink.topic,
        "payload": uplink.payload.hex(),
        "registers": uplink.registers,
        "steps": [
            {
                "step": step.name,
                "key": step.key,
                "where": step.where,
                "raw": _data(step.before),
                "value": _data(step.after),
            }
            for step in steps
            if step.name not in RESULTS
        ],
        **data,
    }


def decoded_data(decoded: Decoded) -> dict[str, Any]:
    """Give a decoded message as scripts read it."""
    return {
        "samples": [
            {
                "time": sample.time,
                "channel": sample.channel,
                "seq": sample.seq,
                "run": sample.run,
                "quality": sample.quality.name.lower(),
                "correction": sample.correction,
                "values": sample.values,
                "extra": sample.extra,
            }
            for sample in decoded.samples
        ],
        "problems": [
            {"reason": problem.reason.value, "detail": problem.detail, "part": problem.part}
            for problem in decoded.problems
        ],
        "online": decoded.online,
    }


def judged(device_class: DeviceClass, key: str, said: object) -> str:
    """Hold a value against its class: `ok`, `implausible` (stored, marked), or why it is held, as a word."""
    metric = device_class.metric(key)
    if metric is None:
        return "no_metric"
    kind = metric.type.value
    fits = {
        "bool": isinstance(said, bool),
        "enum": isinstance(said, str) and said in metric.members,
        "int": isinstance(said, int) and not isinstance(said, bool),
        "float": isinstance(said, (int, float)) and not isinstance(said, bool),
    }[kind]
    if not fits or not isinstance(said, (bool, int, float, str)):
        return "wrong_type"
    if isinstance(said, float) and not isfinite(said):
        return "not_finite"
    return "ok" if metric.plausible(said) else "implausible"


def _value_columns(device_class: DeviceClass) -> list[Column[tuple[str, object]]]:
    return [
        Column("cli.col_metric", lambda row: row[0]),
        Column("cli.col_value", lambda row: _value(device_class, *row), right=True),
        Column("cli.col_title", lambda row: _meaning(device_class, row[0])),
        Column(
            "profile.col_judged",
            lambda row: _judgement(device_class, *row),
            lambda row: JUDGED_STYLE[judged(device_class, *row)],
        ),
    ]


def _judgement(device_class: DeviceClass, key: str, said: object) -> str:
    verdict = text(f"profile.judged_{judged(device_class, key, said)}")
    metric = device_class.metric(key)
    return verdict if metric is None else f"{verdict} {_range(metric)}".rstrip()


def _range(metric: Metric) -> str:
    if metric.minimum is None and metric.maximum is None:
        return ""
    ends = ("" if end is None else f"{end:g}" for end in (metric.minimum, metric.maximum))
    return f"({' … '.join(ends)})"


def _value(device_class: DeviceClass, key: str, said: object) -> str:
    metric = device_class.metric(key)
    plain = value(said) if isinstance(said, (bool, int, float, str)) or said is None else repr(said)
    return plain if metric is None else f"{plain} {symbol(metric.ucum)}".rstrip()


def _meaning(device_class: DeviceClass, key: str) -> str:
    metric = device_class.metric(key)
    return text("cli.unknown_metric", device_class=device_class.key) if metric is None else title(metric.title)


def _about(sample: Sample) -> str:
    """Say what a sample says of itself beside its values."""
    said = [
        local(sample.time) if sample.time is not None else "",
        f"seq {sample.seq}" if sample.seq is not None else "",
        text("profile.channel", channel=sample.channel) if sample.channel else "",
        word("quality", sample.quality.name.lower()) if sample.quality else "",
    ]
    return ", ".join(part for part in said if part)


def _problem(problem: Problem) -> str:
    part = "" if problem.part is None else f" {_short(problem.part)}"
    return f"{text(f'held.{problem.reason}')}{part} {problem.detail}".rstrip()


def _after(step: Step) -> str:
    if step.name == "value":
        if step.after is None:
            return text("profile.not_known")
        if isinstance(step.after, dict):
            one = list(step.after.items())
            if len(one) == 1 and one[0][0] == step.key:
                return _short(one[0][1])
            return ", ".join(f"{key} {_short(said)}" for key, said in one)
    return _short(step.after)


def _data(thing: object) -> object:
    if isinstance(thing, (bytes, bytearray)):
        return thing.hex()
    if isinstance(thing, (str, int, float, bool, dict, list, datetime)) or thing is None:
        return thing
    return str(thing)


def _short(thing: object) -> str:
    """Write what a step took or gave on one line; bytes as hexadecimal digits."""
    if thing is None:
        return ""
    if isinstance(thing, datetime):
        return local(thing)
    if isinstance(thing, bool):
        return text("cli.yes") if thing else text("cli.no")
    if isinstance(thing, (bytes, bytearray)):
        said = thing.decode() if thing[:1] in {b"{", b"["} and thing.isascii() else thing.hex(" ")
    else:
        said = f"{thing:.10g}" if isinstance(thing, float) else str(thing)
    return said if len(said) <= GLANCE else said[: GLANCE - 1] + "…"
