"""One message tried with one model: each step, the values it says, and what could not be used."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.output import Column, print_rows
from iot_core.cli.times import local
from iot_core.cli.words import symbol, value, word
from iot_core.messages import text, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot_core.model import Decoded, DeviceClass, Problem, Sample
    from iot_core.profiles import Profile, Step

__all__ = ["decoded_data", "print_trial"]

GLANCE = 100
RESULTS = frozenset({"sample", "held"})
"""Steps that are shown as what came out, not as a step."""

STEP_COLUMNS: list[Column[Step]] = [
    Column("cli.col_step", lambda row: word("step", row.name)),
    Column("cli.col_key", lambda row: row.key),
    Column("cli.col_before", lambda row: _short(row.before)),
    Column("cli.col_after", lambda row: _short(row.after)),
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
    if decoded.problems:
        click.echo(text("cli.head_problems"))
    for problem in decoded.problems:
        click.echo(f"  {_problem(problem)}")


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


def _value_columns(device_class: DeviceClass) -> list[Column[tuple[str, object]]]:
    return [
        Column("cli.col_metric", lambda row: row[0]),
        Column("cli.col_value", lambda row: _value(device_class, *row), right=True),
        Column("cli.col_title", lambda row: _meaning(device_class, row[0])),
    ]


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
        sample.channel,
        word("quality", sample.quality.name.lower()) if sample.quality else "",
    ]
    return ", ".join(part for part in said if part)


def _problem(problem: Problem) -> str:
    part = "" if problem.part is None else f" {_short(problem.part)}"
    return f"{text(f'held.{problem.reason}')}{part} {problem.detail}".rstrip()


def _short(thing: object) -> str:
    """Write what a step took or gave on one line; bytes as hexadecimal digits."""
    if thing is None:
        return ""
    if isinstance(thing, datetime):
        return local(thing)
    said = thing.hex(" ") if isinstance(thing, (bytes, bytearray)) else str(thing)
    return said if len(said) <= GLANCE else said[: GLANCE - 1] + "…"
