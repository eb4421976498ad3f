"""Write registers and coils, and read them back: a device that says yes and does nothing is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from drivers.modbus import pdu
from drivers.modbus.link import Broken, Malformed, Refused, Silent
from iot_core.errors import CommandRejected, DeviceUnreachable

if TYPE_CHECKING:
    from drivers.modbus.gateway import Gateway, Plan
    from drivers.modbus.link import Link
    from drivers.modbus.pdu import Block, Request
    from iot_core.profiles.modbus import RegisterWrite

__all__ = ["stands", "write"]

_ILLEGAL_FUNCTION: Final = 0x01
_LATER: Final = (0x05, 0x06)
"""Acknowledged but not done yet; busy."""
_TRIES: Final = 4
_WAIT_S: Final = 0.25
"""A busy device is asked again after this, and one whose registers follow slowly is read again."""
_WHOLE: Final = 0xFFFF


async def write(gateway: Gateway, plan: Plan, writes: Sequence[RegisterWrite], *, device: str) -> None:
    """Write in order, each read back before the next.

    Raises CommandRejected when the unit says no or its registers do not change, DeviceUnreachable when it says nothing.
    """
    try:
        for each in writes:
            await _write(gateway, plan, each)
            if each.read_back:
                await _read_back(gateway, plan, each, device)
    except Refused as exc:
        raise CommandRejected("modbus.refused", device=device, exception=exc.code) from exc
    except (Silent, Broken, Malformed) as exc:
        raise DeviceUnreachable("modbus.says_nothing", device=device, reason=str(exc)) from exc


async def stands(gateway: Gateway, plan: Plan, writes: Sequence[RegisterWrite], *, device: str) -> bool:
    """Say whether registers hold what `writes` would leave in them. Raises as `write`."""
    try:
        for each in writes:
            async with gateway.exchange() as link:
                found = await _read(link, plan, pdu.Cells(each.table, each.address, len(each.words)))
            if _masked(each, found) != _masked(each, each.words):
                return False
    except Refused as exc:
        raise CommandRejected("modbus.refused", device=device, exception=exc.code) from exc
    except (Silent, Broken, Malformed) as exc:
        raise DeviceUnreachable("modbus.says_nothing", device=device, reason=str(exc)) from exc
    return True


def _masked(each: RegisterWrite, words: Sequence[int]) -> list[int]:
    mask = 1 if each.table == "coil" else each.mask
    return [word & mask for word in words]


async def _write(gateway: Gateway, plan: Plan, each: RegisterWrite) -> None:
    if each.mask == _WHOLE or each.table == "coil":
        await _ask(gateway, plan, _request(each, each.words))
        return
    try:
        await _ask(gateway, plan, pdu.mask_write(each.address, each.words[0], each.mask))
    except Refused as exc:
        if exc.code != _ILLEGAL_FUNCTION:
            raise
        # Few devices know function 22. Nobody of ours writes in between, for the connection is held meanwhile; another
        # master might.
        async with gateway.exchange() as link:
            (before,) = await _read(link, plan, pdu.Cells(each.table, each.address, 1))
            word = before & ~each.mask | each.words[0] & each.mask
            await _send(link, plan, _request(each, (word,)))


def _request(each: RegisterWrite, words: Sequence[int]) -> Request:
    if each.table == "coil":
        single = each.single or len(words) == 1
        return pdu.write_bit(each.address, words[0]) if single else pdu.write_bits(each.address, words)
    return pdu.write_word(each.address, words[0]) if each.single else pdu.write_words(each.address, words)


async def _ask(gateway: Gateway, plan: Plan, request: Request) -> None:
    for left in reversed(range(_TRIES)):
        async with gateway.exchange() as link:
            try:
                await _send(link, plan, request)
            except Refused as exc:
                if exc.code not in _LATER or not left:
                    raise
            else:
                return
        await asyncio.sleep(_WAIT_S)


async def _read_back(gateway: Gateway, plan: Plan, each: RegisterWrite, device: str) -> None:
    block = pdu.Cells(each.table, each.address, len(each.words))
    wanted = _masked(each, each.words)
    found: list[int] = []
    for left in reversed(range(_TRIES)):
        async with gateway.exchange() as link:
            found = _masked(each, await _read(link, plan, block))
        if found == wanted:
            return
        if left:
            await asyncio.sleep(_WAIT_S)
    raise CommandRejected(
        "modbus.not_taken", device=device, block=f"{each.table}:{each.address}", wanted=wanted, found=found
    )


async def _send(link: Link, plan: Plan, request: Request) -> None:
    await link.ask(plan.unit_id, request, timeout_s=plan.timeout_s, pause_s=plan.pause_s)


async def _read(link: Link, plan: Plan, block: Block) -> list[int]:
    return await link.read(plan.unit_id, block, timeout_s=plan.timeout_s, pause_s=plan.pause_s)
