"""`iot modbus`: look for devices, and see what their registers hold; with neither server nor login."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from iot_core.cli.base import Command, Group, option
from iot_core.cli.config import found as found_config
from iot_core.cli.endings import REFUSED
from iot_core.cli.keys import MODEL
from iot_core.cli.output import Column, note, show_rows
from iot_core.errors import CommandRejected, ConfigError, DeviceUnreachable, IotError, NotFoundError, RequestError
from iot_core.messages import said, text
from iot_core.settings import load as load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.modbus.address import Address, Place
    from drivers.modbus.scan import Found, Guess
    from drivers.modbus.tools.probe import Candidate, Probed
    from iot_core.profiles import Profiles

__all__ = ["modbus"]

_PROFILES = option("--folder", type=click.Path(path_type=Path), metavar="DIR", help=text("cli.opt_folder"))
_TIMEOUT = option(
    "--timeout", "timeout_s", type=click.FloatRange(0.02, 10), default=0.4, metavar="SECONDS",
    help=text("modbus.opt_timeout"),
)  # fmt: skip
_LINE = option("--line", "lines", multiple=True, metavar="9600-8N1", help=text("modbus.opt_line"))


class _Choice(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """UNIT=MODEL."""

    name = "choice"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """Take it apart."""
        unit, _, model = str(value).partition("=")
        if not (unit.isascii() and unit.isdecimal() and model):
            self.fail(text("modbus.bad_choice", choice=value), param, ctx)
        return int(unit), model


CHOICE = _Choice()


@click.group(
    "modbus",
    cls=Group,
    help=text("modbus.help"),
    examples=[
        "iot modbus scan 10.0.3.7",
        "iot modbus scan /dev/ttyUSB0 --units 1-32 --save job.json",
        "iot modbus probe 10.0.3.7/12 --model tuf-2000m",
    ],
)
def modbus() -> None:
    """Group the tools."""


_SHOWN: Final = 3
"""Guesses that a table shows; --output json has all."""


def _model(found: Found) -> str:
    model = _named(found)
    return text("modbus.cut_short", model=model) if found.cut_short else model


def _named(found: Found) -> str:
    if found.model is not None:
        return found.model
    if not found.guesses:
        return text("modbus.unknown")
    return text("modbus.maybe", models=", ".join(_why(each) for each in found.guesses[:_SHOWN]))


def _why(guess: Guess) -> str:
    """Name a guess with what speaks for it."""
    if guess.of:
        return text("modbus.guess_signs", model=guess.model, signs=guess.signs, of=guess.of, values=guess.values)
    return text("modbus.guess", model=guess.model, values=guess.values)


FOUND_COLUMNS: list[Column[Found]] = [
    Column("modbus.col_unit", lambda row: text("modbus.every_id") if row.every_id else row.unit_id, right=True),
    Column("cli.col_model", _model, lambda row: "green" if row.model else ""),
    Column("modbus.col_says", lambda row: " ".join(row.identification.values())),
    Column("cli.col_address", lambda row: row.address, whole=True),
]


@modbus.command(
    "scan",
    cls=Command,
    help=text("modbus.help_scan"),
    examples=[
        "iot modbus scan 10.0.3.7 --units 1-247",
        "iot modbus scan rtu@10.0.3.7:4001 --units 1-32",
        "iot modbus scan /dev/ttyUSB0 --line 9600-8N1 --save job.json",
        "iot modbus scan 10.0.3.7 --units 3 --choose 3=tuf-2000m --save job.json",
        "iot modbus scan 10.0.3.7 --via https://iot.example.vn",
    ],
)
@click.argument("place", metavar="HOST|PORT")
@option("--units", default="1-247", metavar="1-247", help=text("modbus.opt_units"))
@_LINE
@_TIMEOUT
@option("--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=text("modbus.opt_save"))
@option("--choose", type=CHOICE, multiple=True, metavar="UNIT=MODEL", help=text("modbus.opt_choose"))
@option("--as", "reached_as", metavar="PLACE", help=text("modbus.opt_as"))
@option("--via", metavar="SERVER", help=text("modbus.opt_via"))
@_PROFILES
def scan(
    place: str,
    *,
    units: str,
    lines: tuple[str, ...],
    timeout_s: float,
    save: Path | None,
    choose: tuple[tuple[int, str], ...],
    reached_as: str | None,
    via: str | None,
    folder: Path | None,
) -> int:
    from drivers.modbus.address import parse_place
    from drivers.modbus.scan import unit_ids

    if reached_as is not None:
        reached_as = str(parse_place(reached_as))
    places = _places(place, lines)
    ids = [unit_ids(units, each) for each in places]
    if via is not None:
        found, whole = _via(via, str(places[0]), units, timeout_s, len(ids[0]))
    else:
        found, whole = _here(places, ids, _profiles(folder), timeout_s)
    if choose:
        known = _profiles(folder)
        picked = {unit_id: known.get(model).model for unit_id, model in choose}
        for unit_id in sorted(picked.keys() - {each.unit_id for each in found}):
            note("modbus.chosen_nobody", unit=unit_id, model=picked[unit_id])
        found = [replace(each, model=picked.get(each.unit_id, each.model)) for each in found]
    show_rows(found, FOUND_COLUMNS, nothing="modbus.nobody", data=lambda row: row.data())
    if save is not None:
        from drivers.modbus.tools.job import save as write

        devices = write(save, str(places[0]), found, reached_as)
        note("modbus.saved", file=save, devices=devices, undecided=sum(each.model is None for each in found))
    return 0 if found and whole else REFUSED


@modbus.command(
    "probe",
    cls=Command,
    help=text("modbus.help_probe"),
    examples=[
        "iot modbus probe 10.0.3.7/12 --model tuf-2000m",
        "iot modbus probe /dev/ttyUSB0:9600-8N1/12 --at holding:0-9",
        "iot modbus probe 10.0.3.7/12 --model tuf-2000m --draft my_meter.yaml",
    ],
)
@click.argument("address", metavar="PLACE/UNIT")
@option("--model", type=MODEL, metavar="MODEL", help=text("modbus.opt_model"))
@option("--at", "spots", multiple=True, metavar="holding:0-9", help=text("modbus.opt_at"))
@option("--all", "everything", is_flag=True, help=text("modbus.opt_all"))
@option("--draft", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=text("modbus.opt_draft"))
@_TIMEOUT
@_PROFILES
def probe(
    address: str,
    *,
    model: str | None,
    spots: tuple[str, ...],
    everything: bool,
    draft: Path | None,
    timeout_s: float,
    folder: Path | None,
) -> int:
    if bool(model) == bool(spots):
        raise click.UsageError(text("modbus.model_or_at"))
    where = _address(address)
    if draft is not None and draft.exists():
        raise ConfigError("modbus.draft_exists", file=draft)
    probed = _probed(where, model, spots, timeout_s, _profiles(folder))
    readings = [(each, one) for each in probed for one in each.candidates if everything or _worth(each, one)]
    show_rows(readings, READING_COLUMNS, nothing="modbus.nothing_read", data=_reading_data)
    for each in probed:
        if each.failure:
            note("modbus.not_read", key=each.key, reason=each.failure)
    if draft is not None:
        draft.write_text(_drafted(where, model, probed, folder), encoding="utf-8")
        note("modbus.drafted", file=draft)
    return 0 if readings else REFUSED


def _worth(each: Probed, one: Candidate) -> bool:
    """Leave out readings that nobody would take for a measurement; zero is one only where it is expected."""
    beside = one.shift != 0 and each.metric is None  # nothing tells a better neighbour from a worse one
    return one.expected or (one.plausible and bool(one.value) and not beside)


def _reading_data(row: tuple[Probed, Candidate]) -> dict[str, Any]:
    return {"key": row[0].key, **row[1].data()}


def _register(one: Candidate) -> str:
    return f"{one.table}:{one.address}" + (f" ({one.shift:+d})" if one.shift else "")


def _colour(row: tuple[Probed, Candidate]) -> str:
    return "green" if row[1] is row[0].best else ""


def _shown(one: Candidate) -> str:
    value = one.value
    return f"{value:.7g}" if isinstance(value, float) else "-" if value is None else str(value)


def _verdict(each: Probed, one: Candidate) -> str:
    if one.expected and one.value is None and each.failure:
        return text("modbus.unread")
    if one.expected:
        return text("modbus.as_expected" if one.plausible else "modbus.expected_wrong")
    return text("modbus.candidate" if one is each.best else "modbus.possible") if each.metric is not None else ""


READING_COLUMNS: list[Column[tuple[Probed, Candidate]]] = [
    Column("cli.col_key", lambda row: row[0].key),
    Column("modbus.col_register", lambda row: _register(row[1])),
    Column("cli.col_type", lambda row: f"{row[1].type} {row[1].order}".rstrip()),
    Column(
        "cli.col_value", lambda row: _shown(row[1]), lambda row: "green" if row[1] is row[0].best else "", right=True
    ),
    Column("modbus.col_verdict", lambda row: _verdict(*row)),
]


# ---------------------------------------------------------------- the work behind them
def _places(place: str, lines: tuple[str, ...]) -> list[Place]:
    """Give where to look: a host, or a serial port with each of the lines that are to be tried."""
    from drivers.modbus.address import LINES, parse_line, parse_place

    serial = place.startswith("/") or place.upper().startswith("COM")
    if not serial:
        return [parse_place(place.lower())]
    port, _, own = place.rpartition(":") if "-8" in place.rpartition(":")[2] else (place, "", "")
    port = port if port.startswith("/") else port.upper()
    return [parse_line(port, each.upper()) for each in ((own,) if own else lines or LINES)]


def _address(text_: str) -> Address:
    from drivers.modbus.address import EXPECTED, Address, parse

    before, _, unit = text_.removeprefix("modbus://").rpartition("/")
    if not before:
        raise ConfigError("driver.modbus_bad_address", address=text_, expected=EXPECTED)
    place = _places(before, ())[0]
    found = parse(f"modbus://{place}/{unit}")
    return Address(found.place, found.unit_id)


def _profiles(folder: Path | None) -> Profiles:
    """Load what `iot up` would load here, or what lies in `folder`."""
    from iot_core.profiles import load

    if folder is None:
        own = load_settings(found_config(None)).profiles
        folder = Path(own) if own else None
    return load(folder)


def _broke_off(found: list[Found], error: IotError) -> None:
    """Say, to scripts too, that a scan ended early: what was found stays. Raises the error where that is nothing."""
    if not found:
        raise error
    reason = error.facts.get("reason") or error.facts.get("detail") or said(error).rstrip(".")
    if error.code == "api.cut_off":
        reason = text("modbus.core_gone")
    click.echo(text("modbus.broke_off", unit=found[-1].unit_id, reason=reason), err=True)


def _here(places: list[Place], ids: list[list[int]], profiles: Profiles, timeout_s: float) -> tuple[list[Found], bool]:
    """Scan from this machine; of several lines the first on which somebody answers. And whether it came to its end."""
    from drivers.modbus.link import Broken
    from drivers.modbus.lone import lone
    from drivers.modbus.scan import scan as look
    from iot_core.cli.progress import bar

    async def one(place: Place, units: list[int], advance: Callable[[float], None]) -> tuple[list[Found], bool]:
        found: list[Found] = []
        try:
            async with lone(place, timeout_s) as exchange:
                async for each in look(place, units, profiles.all(), exchange, timeout_s):
                    advance(1)
                    if each is not None:
                        found.append(each)
        except Broken as exc:
            _broke_off(found, DeviceUnreachable("modbus.unreachable", place=str(place), reason=str(exc)))
            return found, False
        return found, True

    found: list[Found] = []
    whole = True
    for place, units in zip(places, ids, strict=True):
        with bar(text("modbus.scanning", place=place), len(units)) as advance:
            found, whole = asyncio.run(one(place, units, advance))
        if found:
            break
    return found, whole


def _via(server: str, place: str, units: str, timeout_s: float, total: int) -> tuple[list[Found], bool]:
    """Let a core scan, from where it stands. And whether it came to its end."""
    from drivers.modbus.scan import Found, Guess
    from iot_core.api.shapes import SurveyQuery
    from iot_core.cli.progress import bar
    from iot_core.cli.session import ask, chosen

    chosen().url = server
    asked = SurveyQuery(protocol="modbus", target=place, units=units, timeout_s=timeout_s)
    found: list[Found] = []
    waiting = 0
    with bar(text("modbus.scanning", place=place), total) as advance:

        async def follow(client: Any) -> None:
            nonlocal waiting
            done = 0
            async for step in client.survey(asked):
                advance(step.done - done)
                done = step.done
                if step.found is not None:
                    said = step.found
                    waiting += step.waiting
                    guesses = tuple(
                        Guess(**{name: each[name] for name in ("model", "signs", "of", "values", "zeros")})
                        for each in said.pop("guesses", ())
                    )
                    said.pop("possible", None)
                    found.append(Found(**said, guesses=guesses))

        whole = True
        try:
            ask(follow)
        except (CommandRejected, RequestError) as exc:
            _broke_off(found, exc)
            whole = False
    if waiting:
        note("modbus.waiting", n=waiting)
    return found, whole


def _probed(
    where: Address, model: str | None, spots: tuple[str, ...], timeout_s: float, profiles: Profiles
) -> list[Probed]:
    from drivers.modbus.link import Broken
    from drivers.modbus.lone import lone
    from drivers.modbus.tools.probe import Device, spots_at, spots_of
    from drivers.modbus.tools.probe import probe as look

    profile = profiles.get(model) if model else None
    if profile is not None and profile.modbus is None:
        raise NotFoundError("modbus.no_registers", model=model)
    try:
        places = spots_of(profile) if profile is not None else [spot for each in spots for spot in spots_at(each)]
    except ValueError as exc:
        raise click.UsageError(text("modbus.bad_at", at=", ".join(spots))) from exc

    async def work() -> list[Probed]:
        async with lone(where.place, timeout_s) as exchange:
            device = Device(where.unit_id, exchange, timeout_s)
            return [await look(spot, device) for spot in places]

    try:
        probed = asyncio.run(work())
    except Broken as exc:
        raise DeviceUnreachable("modbus.unreachable", place=str(where.place), reason=str(exc)) from exc
    if all(each.failure == "timeout" for each in probed):
        raise DeviceUnreachable("modbus.says_nothing", device=str(where), reason="timeout")
    return probed


def _drafted(where: Address, model: str | None, probed: list[Probed], folder: Path | None) -> str:
    from drivers.modbus.tools.draft import draft_from_model, draft_from_registers

    if model is None:
        return draft_from_registers(probed, str(where), text("modbus.draft_unknown"))
    profile = _profiles(folder).get(model)
    return draft_from_model(profile, probed, str(where), text("modbus.draft_like", model=model))
