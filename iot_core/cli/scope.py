"""Options that choose devices and a span, alike in every command that has them."""

from __future__ import annotations

import click

from iot_core.cli.base import option
from iot_core.cli.keys import AREA, CLASS, DEVICE
from iot_core.cli.times import When
from iot_core.messages import text
from iot_core.model import Reason

__all__ = ["area_option", "class_option", "device_option", "from_option", "reason_option", "to_option"]

class_option = option("--class", "class_key", type=CLASS, metavar="CLASS", help=text("telemetry.opt_class"))
area_option = option("--area", type=AREA, metavar="AREA", help=text("telemetry.opt_area"))
device_option = option(
    "--device", "devices", multiple=True, type=DEVICE, metavar="KEY", help=text("telemetry.opt_device")
)
from_option = option("--from", "start", type=When(), metavar="WHEN", help=text("cli.opt_from"))
to_option = option("--to", "end", type=When(), metavar="WHEN", help=text("cli.opt_to"))
reason_option = option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    help=text("held_cli.opt_reason"),
)
