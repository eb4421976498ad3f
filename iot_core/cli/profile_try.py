"""`iot profile try`: one message of one model, each step from bytes to values, judged against the class."""

from __future__ import annotations

import asyncio
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iot_core.cli.base import Command, option
from iot_core.cli.endings import REFUSED
from iot_core.cli.keys import MODEL
from iot_core.cli.output import note, show_one
from iot_core.cli.session import state_dir
from iot_core.cli.trial import print_trial, trial_data
from iot_core.cli.wire import HEX, REGISTERS, payload_of
from iot_core.errors import RequestError
from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from iot_core.model import Uplink
    from iot_core.profiles import Profile

__all__ = ["FORMATS", "try_"]

FORMATS = {"json": 50, "cbor": 60, "senml-json": 110, "senml-cbor": 112, "octets": 42, "text": 0}
LOOKS = "iot_core.looks"
"""Entry points by a driver's scheme: `look(address, profile, timeout_s, state) -> Sequence[Uplink]`, without a core."""


class ContentFormat(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A CoAP content format by name or number."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read one."""
        if isinstance(value, int):
            return value
        if value in FORMATS:
            return FORMATS[value]
        if value.isdecimal() and int(value) <= 0xFFFF:
            return int(value)
        raise click.BadParameter(text("profile.expect_format", known=", ".join(FORMATS)), ctx, param)


@click.command(
    "try",
    cls=Command,
    help=text("cli.help_profile_try"),
    examples=[
        'iot profile try native-streetlight --payload \'{"power": 85.2, "on": true}\'',
        "iot profile try milesight-am319 --payload 0367EE00 --fport 85",
        "iot profile try ./air_quality/acme_aq4.yaml --registers holding:4=352 --registers holding:8=65336",
        "iot profile try tasmota-energy --topic tele/desk/SENSOR --payload @message.json",
        "iot profile try tuf-2000m --live modbus://10.0.3.7:502/1",
        "iot profile try ./streetlight/acme_lamp.yaml --live coap://10.0.3.8:5683",
    ],
)
@click.argument("model", type=MODEL, metavar="MODEL|FILE")
@option("--payload", metavar="HEX|TEXT|@FILE", help=text("profile.opt_payload"))
@option("--text", "message", metavar="TEXT", help=text("cli.opt_try_text"))
@option("--hex", "hexadecimal", type=HEX, metavar="HEX", help=text("cli.opt_try_hex"))
@option("--file", "source", type=click.File("rb"), metavar="FILE", help=text("cli.opt_try_file"))
@option(
    "--registers", type=REGISTERS, multiple=True, metavar="TABLE:ADDRESS=WORD,...", help=text("cli.opt_try_registers")
)
@option("--topic", default="", metavar="TOPIC", help=text("cli.opt_try_topic"))
@option("--fport", type=click.IntRange(0, 255), metavar="N", help=text("profile.opt_try_fport"))
@option("--format", "--content-format", "form", type=ContentFormat(), metavar="NAME|N", help=text("cli.opt_try_format"))
@option("--live", metavar="ADDRESS", help=text("profile.opt_live"))
@option("--timeout", type=click.FloatRange(0.1, 3600), default=30.0, metavar="S", help=text("profile.opt_timeout"))
@option("--folder", type=click.Path(path_type=Path), metavar="DIR", help=text("cli.opt_folder"))
def try_(
    model: str,
    *,
    payload: str | None,
    message: str | None,
    hexadecimal: bytes | None,
    source: BinaryIO | None,
    registers: tuple[tuple[str, list[int]], ...],
    topic: str,
    fport: int | None,
    form: int | None,
    live: str | None,
    timeout: float,
    folder: Path | None,
) -> None:
    from iot_core.cli.profile import find

    found = find(model, folder)
    given = sum(one is not None for one in (payload, message, hexadecimal, source, live)) + bool(registers)
    if given > 1:
        raise click.UsageError(text("cli.try_one_input"))
    if live is not None:
        uplinks = asyncio.run(_look(found, live, timeout))
    elif given == 0 and found.examples:
        uplinks = [_first_example(found)]
    else:
        data = hexadecimal if source is None else source.read()
        if message is not None:
            data = message.encode()
        elif payload is not None:
            data = payload_of(payload, binary=_takes_bytes(found, topic, form))
        uplinks = [_uplink(found, data, dict(registers) or None, topic=topic, fport=fport, form=form)]
    _show(found, uplinks)


def _show(profile: Profile, uplinks: Sequence[Uplink]) -> None:
    """Show what each says: to scripts one object, or a list of them where a device was asked for several resources."""
    from iot_core.profiles import explain

    trials = [(uplink, explain(profile, uplink), profile.decode(uplink)) for uplink in uplinks]

    def people() -> None:
        for uplink, steps, decoded in trials:
            if len(trials) > 1:
                click.echo(f"/{uplink.topic}")
            print_trial(profile, steps, decoded)

    data = [trial_data(profile, *trial) for trial in trials]
    show_one(data[0] if len(data) == 1 else data, people)
    if not any(decoded.samples or decoded.online is not None for _, _, decoded in trials):
        click.get_current_context().exit(REFUSED)


def _first_example(profile: Profile) -> Uplink:
    from iot_core.profiles import example_uplink

    note("profile.trying_example", name=profile.examples[0].name)
    return example_uplink(profile, profile.examples[0])


def _uplink(
    profile: Profile,
    data: bytes | None,
    registers: dict[str, list[int]] | None,
    *,
    topic: str,
    fport: int | None,
    form: int | None,
) -> Uplink:
    from iot_core.profiles import uplink_of

    if profile.modbus is not None and registers is None:
        raise click.UsageError(text("profile.try_registers"))
    if profile.modbus is None and registers is not None:
        raise click.UsageError(text("profile.try_payload"))
    if data is not None and data[:1] == b"{" and profile.address.startswith("lorawan:"):
        fport = None  # an envelope of its own
    if not topic and any(route.format is not profile.routes[0].format for route in profile.routes):
        topics = "  ".join(profile.topics)
        raise click.UsageError(text("profile.try_topic", topics=topics))
    return uplink_of(profile, data=data, registers=registers, topic=topic, content_format=form, port=fport)


def _takes_bytes(profile: Profile, topic: str, form: int | None) -> bool:
    """Say whether hexadecimal digits are meant as bytes for this model."""
    from iot_core.profiles.bytes_format import BytesFormat
    from iot_core.profiles.envelope import LorawanFormat
    from iot_core.profiles.json_format import JsonFormat

    if form in {FORMATS["cbor"], FORMATS["senml-cbor"], FORMATS["octets"]}:
        return True
    spoken = profile.format
    for route in profile.routes:
        if not topic or route.matches.fullmatch(topic):
            spoken = route.format
            break
    if isinstance(spoken, BytesFormat):
        return spoken.encoding == "raw"
    return isinstance(spoken, LorawanFormat) or (isinstance(spoken, JsonFormat) and spoken.binary)


async def _look(profile: Profile, address: str, timeout_s: float) -> Sequence[Uplink]:
    """Read a device, or wait for it to speak."""
    scheme = address.partition(":")[0]
    found = {entry.name: entry for entry in entry_points(group=LOOKS)}
    if scheme == "lorawan":
        scheme = "mqtt"
    if scheme not in found:
        raise RequestError("profile.no_look", scheme=scheme, known=", ".join(sorted(found)) or "-")
    note("profile.looking", address=address, seconds=f"{timeout_s:g}")
    uplinks: Sequence[Uplink] = await found[scheme].load()(address, profile, timeout_s, state_dir())
    return uplinks
