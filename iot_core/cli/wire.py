"""What was on the wire, as a person types it: registers `holding:4=352,0x0c`, bytes `0167 ff9c`."""

from __future__ import annotations

import re
from typing import Any

import click

from iot_core.messages import text

__all__ = ["HEX", "REGISTERS"]

_BLOCK = re.compile(r"(?P<start>(?:coil|discrete|input|holding):\d+)=(?P<words>[0-9a-fA-Fx, ]+)")
LARGEST = 0xFFFF


class Registers(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A block of registers: where it begins and its words."""

    name = "registers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, list[int]]:
        """Read a block."""
        if isinstance(value, tuple):
            return value
        match = _BLOCK.fullmatch(value.strip())
        try:
            words = [int(word.strip(), 0) for word in match["words"].split(",")] if match else []
        except ValueError:
            words = []
        if match is None or not words or not all(0 <= word <= LARGEST for word in words):
            self.fail(text("cli.expect_registers"), param, ctx)
        return match["start"], words


class Hexadecimal(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Bytes as hexadecimal digits; spaces and colons between them are allowed."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read bytes."""
        if isinstance(value, bytes):
            return value
        try:
            return bytes.fromhex(value.replace(":", " "))
        except ValueError:
            self.fail(text("cli.expect_hex"), param, ctx)


HEX = Hexadecimal()
REGISTERS = Registers()
