"""What was on the wire, as a person types or pastes it: registers `holding:4=352,0x0c`, bytes, text, or `@FILE`."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from pathlib import Path
from typing import Any

import click

from iot_core.cli.endings import reason
from iot_core.cli.output import note
from iot_core.messages import text

__all__ = ["HEX", "REGISTERS", "payload_of"]

_BLOCK = re.compile(
    r"(?P<table>coil|discrete|input|holding):(?P<address>0x[0-9a-fA-F]+|\d+)=(?P<words>[0-9a-fA-Fx, ]+)"
)
LARGEST = 0xFFFF
_DIGITS = re.compile(r"(?:(?:0[xX])?[0-9a-fA-F]{2}[\s:,-]*)+")
_BETWEEN = re.compile(r"0[xX]|[\s:,-]")
_WAYS = ("hex:", "base64:")


def payload_of(given: str, *, binary: bool) -> bytes:
    """Read a message as it is typed or pasted.

    `@FILE` and `@-` are taken as they are. `hex:` and `base64:` say how the rest is written, for any model. Without
    them a `binary` model takes hexadecimal digits (spaces, `:`, `,`, `-` and `0x` between them), or base64 as network
    servers write it, and says so; every other model takes text. Raises UsageError.
    """
    if given.startswith("@"):
        try:
            return sys.stdin.buffer.read() if given == "@-" else Path(given[1:]).read_bytes()
        except OSError as exc:
            raise click.UsageError(text("profile.no_file", file=given[1:], detail=reason(exc))) from exc
    way = next((each for each in _WAYS if given[: len(each)].lower() == each), "")
    body = given[len(way) :].strip()
    if not way and (not binary or body[:1] in {"{", "["}):  # text, or the envelope of a network server
        return given.encode()
    data = _from_hex(body) if way != "base64:" else None
    if data is None and (way == "base64:" or (not way and _looks_base64(body))):
        data = _from_base64(body)
        if data is not None and not way:
            note(
                "profile.read_base64",
                hex=data[:_SHOWN].hex(" ") + (" ..." if len(data) > _SHOWN else ""),
                count=len(data),
            )
    if data is None:
        raise click.UsageError(text("profile.expect_bytes", given=given[:40]))
    return data


_SHOWN = 16
"""How many bytes a note repeats."""


def _from_hex(body: str) -> bytes | None:
    return bytes.fromhex(_BETWEEN.sub("", body)) if _DIGITS.fullmatch(body) else None


def _looks_base64(body: str) -> bool:
    """Say whether this is rather base64 than hexadecimal with a slip, `036O`, which is base64 as well."""
    return body.endswith("=") or 2 * len(re.sub(r"[0-9a-fA-F\s]", "", body)) > len(body)


def _from_base64(body: str) -> bytes | None:
    """Read base64 of either alphabet."""
    try:
        return base64.b64decode("".join(body.split()).translate(_URL_SAFE), validate=True) or None
    except (binascii.Error, ValueError):
        return None


_URL_SAFE = str.maketrans("-_", "+/")


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
