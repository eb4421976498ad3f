"""One device on one screen: is it alive, what says it, what is wrong, what next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from iot_core.cli.alarm import marks
from iot_core.cli.output import console, fact_lines, print_rows
from iot_core.cli.telemetry import LATEST_COLUMNS
from iot_core.cli.times import local
from iot_core.cli.words import SEVERITY_STYLE, STATE_STYLE, headline, moment, position, word
from iot_core.messages import language, text

if TYPE_CHECKING:
    from iot_core.api import shapes

__all__ = ["next_step", "print_portrait", "wrongs"]


def print_portrait(device: shapes.DeviceDetail) -> None:
    """Print all that a technician asks first."""
    _print_name(device)
    fact_lines(_facts(device))
    click.echo(f"\n{text('cli.head_says')}")
    if device.latest:
        print_rows(device.latest, LATEST_COLUMNS)
    else:
        click.echo(text("page.withheld" if device.withheld else "cli.telemetry_none_yet"))
    click.echo(f"\n{text('cli.head_wrong')}")
    for style, sentence in wrongs(device) or [("green", text("cli.wrong_nothing"))]:
        _styled(sentence, style)
    click.echo(f"\n{text('cli.head_next')}")
    click.echo(next_step(device))


def wrongs(device: shapes.DeviceDetail) -> list[tuple[str, str]]:
    """List what is wrong as (style, sentence): open alarms, no secret, silence, what is held or may double."""
    found = [(SEVERITY_STYLE[alarm.severity], _alarm(alarm)) for alarm in device.alarms]
    found += [("cyan", _window(window)) for window in device.windows]
    if _shut_out(device):
        found.append(("yellow", text("portrait.shut_out")))
    if device.silent_since is not None:
        found.append(("yellow", text("cli.wrong_silent", since=moment(device.silent_since))))
    if device.held:
        found.append(("yellow", text("cli.wrong_held", n=device.held)))
    if device.stored_once is False:
        found.append(("", text("cli.wrong_at_least_once")))
    found += [("yellow", sentence) for sentence in _overdue(device)]
    return found


def _window(window: shapes.Window) -> str:
    reason = f" ({window.reason})" if window.reason else ""
    begun = window.starts <= datetime.now(UTC)
    code = f"portrait.{window.kind}" if begun else f"portrait.{window.kind}_planned"
    return text(code, starts=local(window.starts), ends=local(window.ends), id=window.id) + reason


def _shut_out(device: shapes.DeviceDetail) -> bool:
    """Say whether a device that should sign in by a secret has none. One that is planned claims its own."""
    unit = _mounted(device)
    if unit is None or unit.has_secret or device.lifecycle == "planned":
        return False
    return unit.address.startswith("iot:")


def _overdue(device: shapes.DeviceDetail) -> list[str]:
    """Say which days of its unit are past."""
    unit = _mounted(device)
    if unit is None or unit.calibration_due is None or unit.calibration_due >= datetime.now(UTC).date():
        return []
    return [text("portrait.calibration_overdue", day=unit.calibration_due)]


def next_step(device: shapes.DeviceDetail) -> str:
    """Say the one thing to do next."""
    waiting = next((alarm for alarm in device.alarms if alarm.acknowledged_at is None), None)
    if device.state == "retired":
        return text("cli.next_restore", key=device.key)
    if device.state == "never" or _mounted_unheard(device) is not None:
        return text("cli.next_first_message", key=device.key) + " " + text("portrait.next_test", key=device.key)
    if waiting is not None:
        return text("cli.next_acknowledge", id=waiting.id)
    if _shut_out(device) or device.state == "silent":
        return text("portrait.next_secret" if _shut_out(device) else "cli.next_silent", key=device.key)
    if device.held:
        return text("cli.next_held", key=device.key)
    return text("cli.next_watch", key=device.key)


def _print_name(device: shapes.DeviceDetail) -> None:
    from rich.text import Text

    name = "" if device.name == device.key else device.name
    simulated = text("cli.mark_simulated") if device.simulated else ""
    parts = Text("  ").join(
        Text(part, style=style)
        for part, style in (
            (device.key, "bold"),
            (name, ""),
            (word("state", device.state).upper(), STATE_STYLE[device.state]),
            (simulated, "dim"),
        )
        if part
    )
    console().print(parts)


def _facts(device: shapes.DeviceDetail) -> list[tuple[str, object]]:
    unit = _mounted(device)
    serial = f", {text('cli.serial', serial=unit.serial)}" if unit is not None and unit.serial else ""
    always: list[tuple[str, object]] = [
        ("cli.col_class", device.class_key),
        ("cli.col_profile", f"{device.profile}{serial}" if device.profile else None),
        ("cli.col_address", device.address),
        ("cli.col_area", " › ".join(device.area_path_en if language() == "en" else device.area_path)),
        ("cli.col_position", position(device.latitude, device.longitude)),
        ("cli.col_alive", _alive(device)),
        ("cli.col_heard", moment(device.last_received_at)),
    ]
    sometimes = [
        ("cli.col_measured", None if device.last_time is None else moment(device.last_time)),
        ("cli.col_connection", _connection(device)),
        ("cli.col_gateway", device.gateway),
        ("portrait.lifecycle", _lifecycle(device)),
        ("portrait.labels", ", ".join(device.labels)),
        ("portrait.firmware", unit.firmware if unit is not None else None),
        ("portrait.warranty", unit.warranty_until if unit is not None else None),
        ("portrait.calibrated", _calibrated(unit)),
        ("cli.col_notes", device.notes),
        ("portrait.photos", ", ".join(device.photos)),
    ]
    return always + [(heading, said) for heading, said in sometimes if said]


def _mounted(device: shapes.DeviceDetail) -> shapes.Unit | None:
    return next((unit for unit in device.units if unit.mounted_to is None), None)


def _mounted_unheard(device: shapes.DeviceDetail) -> datetime | None:
    """Say since when a unit is mounted of which nothing was heard: what the device said last was the one before."""
    unit, heard = _mounted(device), device.last_received_at
    return unit.mounted_from if unit is not None and heard is not None and unit.mounted_from > heard else None


def _lifecycle(device: shapes.DeviceDetail) -> str:
    said = word("lifecycle", device.lifecycle)
    if device.commissioned_at is None:
        return said
    return f"{said}, {text('portrait.commissioned', at=local(device.commissioned_at))}"


def _calibrated(unit: shapes.Unit | None) -> str | None:
    if unit is None or (unit.calibrated_at is None and unit.calibration_due is None):
        return None
    return text("portrait.calibration", on=unit.calibrated_at or "-", due=unit.calibration_due or "-")


def _alive(device: shapes.DeviceDetail) -> str:
    """Answer the first question with yes or no, and since when."""
    if device.state == "retired":
        return text("cli.alive_retired", since=local(device.retired_at))
    if device.last_received_at is None:
        return text("cli.alive_never", since=local(device.created_at))
    if (since := _mounted_unheard(device)) is not None:
        return text("portrait.alive_mounted", since=local(since))
    if device.silent_since is not None:
        return text("cli.alive_silent", since=local(device.silent_since))
    return text("cli.alive_yes")


def _connection(device: shapes.DeviceDetail) -> str | None:
    if device.online is None:
        forgotten = device.online_changed_at
        return None if forgotten is None else text("portrait.presence_unknown", since=moment(forgotten))
    code = "cli.online" if device.online else "cli.offline"
    return text(code, since=moment(device.online_changed_at))


def _alarm(alarm: shapes.Alarm) -> str:
    return text(
        "cli.wrong_alarm",
        severity=word("severity", alarm.severity),
        title=headline(alarm.title) + marks(alarm),
        state=word("alarm_is", alarm.state),
        since=moment(alarm.raised_at),
        id=alarm.id,
    )


def _styled(sentence: str, style: str) -> None:
    from rich.text import Text

    console().print(Text(f"  {sentence}", style=style))
