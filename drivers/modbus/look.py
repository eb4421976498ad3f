"""Read a device once, without a running core: `iot profile try MODEL --live modbus://HOST:PORT/UNIT`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.modbus.address import parse
from drivers.modbus.link import Broken, Link, Malformed, Refused, Silent
from iot_core.errors import DeviceUnreachable
from iot_core.model import Uplink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iot_core.profiles import Profile

__all__ = ["look"]

_ANSWER_S = 3.0


async def look(address: str, profile: Profile, timeout_s: float, state: Path) -> Sequence[Uplink]:  # noqa: ARG001 - no core needed
    """Read every point of a model once. What the device refuses is left out, and decoding names it.

    Raises ConfigError for an address that is none, DeviceUnreachable when nothing answers.
    """
    modbus = profile.modbus
    if modbus is None:
        raise DeviceUnreachable("modbus.no_registers", model=profile.model)
    unit = parse(address)
    own_s = modbus.timeout_s or _ANSWER_S
    link = Link(unit.place, min(own_s, timeout_s))
    registers: dict[str, list[int]] = {}
    refused = ""
    try:
        await link.open()
        for block in modbus.reads():
            try:
                registers[f"{block.table}:{block.address}"] = await link.read(
                    unit.unit_id, block, pause_s=modbus.pause_s or 0
                )
            except (Refused, Malformed) as exc:
                refused = str(exc)
    except (Silent, Broken) as exc:
        raise DeviceUnreachable("modbus.silent", address=address, detail=str(exc)) from exc
    finally:
        link.close()
    if not registers:
        raise DeviceUnreachable("modbus.silent", address=address, detail=refused)
    return [Uplink(driver="modbus", address=address, registers=registers)]
