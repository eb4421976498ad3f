"""What was on the wire, as a person types it: registers `holding:4=352,0x0c`, bytes `0167 ff9c`, text, or `@FILE`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from iot_core.cli.endings import reason
from iot_core.messages import text

__all__ = ["HEX", "REGISTERS", "payload_of"]

_BLOCK = re.compile(
    r"(?P<table>coil|discrete|input|holding):(?P<address>0x[0-9a-fA-F]+|\d+)=(?P<words>[0-9a-fA-Fx, ]+)"
)
LARGEST = 0xFFFF
_DIGITS = re.compile(r"(?:0x)?(?:[0-9a-fA-F]{2}[\s:]*)+")


def payload_of(given: str, *, binary: bool) -> bytes:
    """Read a message as it is typed: `@FILE` or `@-` as it is; hexadecimal digits for a `binary` model; else text."""
    if given.startswith("@"):
        try:
            return sys.stdin.buffer.read() if given == "@-" else Path(given[1:]).read_bytes()
        except OSError as exc:
            raise click.UsageError(text("profile.no_file", file=given[1:], detail=reason(exc))) from exc
    if binary and _DIGITS.fullmatch(given.strip()):
        return bytes.fromhex(given.strip().removeprefix("0x").replace(":", " "))
    if binary and given.strip()[:1] not in {"{", "["}:  # else the envelope of a network server
        raise click.UsageError(text("profile.expect_bytes", given=given[:40]))
    return given.encode()


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
        address = match["address"]
        return f"{match['table']}:{int(address, 16 if address.startswith('0x') else 10)}", words


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
