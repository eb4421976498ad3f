"""Write registers and coils, and read them back: a device that says yes and does nothing is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from drivers.modbus import pdu
from drivers.modbus.link import Broken, Malformed, Refused, Silent
from iot_core.errors import CommandRejected, DeviceUnreachable

if TYPE_CHECKING:
    from drivers.modbus.gateway import Gateway
    from drivers.modbus.pdu import Request
    from iot_core.profiles.modbus import RegisterWrite

__all__ = ["write"]

_ILLEGAL_FUNCTION: Final = 0x01
_LATER: Final = (0x05, 0x06)
"""Acknowledged but not done yet; busy."""
_TRIES: Final = 4
_WAIT_S: Final = 0.25
"""A busy device is asked again after this, and one whose registers follow slowly is read again."""
_WHOLE: Final = 0xFFFF


async def write(gateway: Gateway, unit_id: int, writes: Sequence[RegisterWrite], *, device: str) -> None:
    """Write in order, each read back before the next.

    Raises CommandRejected when the unit says no or its registers do not change, DeviceUnreachable when it says nothing.
    """
    try:
        for each in writes:
            await _write(gateway, unit_id, each)
            if each.read_back:
                await _read_back(gateway, unit_id, each, device)
    except Refused as exc:
        raise CommandRejected("modbus.refused", device=device, exception=exc.code) from exc
    except (Silent, Broken, Malformed) as exc:
        raise DeviceUnreachable("modbus.says_nothing", device=device, reason=str(exc)) from exc


async def _write(gateway: Gateway, unit_id: int, each: RegisterWrite) -> None:
    if each.mask == _WHOLE or each.table == "coil":
        await _ask(gateway, unit_id, _request(each, each.words))
        return
    try:
        await _ask(gateway, unit_id, pdu.mask_write(each.address, each.words[0], each.mask))
    except Refused as exc:
        if exc.code != _ILLEGAL_FUNCTION:
            raise
        # Few devices know function 22. Nobody of ours writes in between, for the connection is held meanwhile; another
        # master might.
        async with gateway.exchange() as link:
            (before,) = await link.read(unit_id, pdu.Cells(each.table, each.address, 1))
            word = before & ~each.mask | each.words[0] & each.mask
            await link.ask(unit_id, _request(each, (word,)))


def _request(each: RegisterWrite, words: Sequence[int]) -> Request:
    if each.table == "coil":
        single = each.single or len(words) == 1
        return pdu.write_bit(each.address, words[0]) if single else pdu.write_bits(each.address, words)
    return pdu.write_word(each.address, words[0]) if each.single else pdu.write_words(each.address, words)


async def _ask(gateway: Gateway, unit_id: int, request: Request) -> None:
    for left in reversed(range(_TRIES)):
        async with gateway.exchange() as link:
            try:
                await link.ask(unit_id, request)
            except Refused as exc:
                if exc.code not in _LATER or not left:
                    raise
            else:
                return
        await asyncio.sleep(_WAIT_S)


async def _read_back(gateway: Gateway, unit_id: int, each: RegisterWrite, device: str) -> None:
    block = pdu.Cells(each.table, each.address, len(each.words))
    mask = 1 if each.table == "coil" else each.mask
    wanted = [word & mask for word in each.words]
    found: list[int] = []
    for left in reversed(range(_TRIES)):
        async with gateway.exchange() as link:
            found = [word & mask for word in await link.read(unit_id, block)]
        if found == wanted:
            return
        if left:
            await asyncio.sleep(_WAIT_S)
    raise CommandRejected(
        "modbus.not_taken", device=device, block=f"{each.table}:{each.address}", wanted=wanted, found=found
    )
