"""What a native device publishes of a command, read. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from iot_core.commanding.reach import NATIVE
from iot_core.registry.commands import Step

if TYPE_CHECKING:
    from iot_core.model import Uplink

__all__ = ["result"]

_SAID: Final = frozenset({"delivered", "succeeded", "failed"})
_LONGEST_DETAIL: Final = 200
_LONGEST_PROOF: Final = 64
"""Of a SHA-256 in hexadecimal."""
_HIGHEST_ID: Final = 2**63 - 1


class _Result(msgspec.Struct, frozen=True):
    id: int
    state: str
    detail: str = ""
    proof: str = ""


def result(uplink: Uplink) -> Step | None:
    """Read `{"id": 17, "state": "succeeded", "detail": "..."}`; None for what says nothing of a command."""
    if uplink.retained:
        return None
    try:
        said = msgspec.json.decode(uplink.payload, type=_Result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if said.state not in _SAID or not 0 < said.id <= _HIGHEST_ID:
        return None
    detail = said.detail[:_LONGEST_DETAIL].replace("\0", "")
    key = uplink.address.removeprefix(NATIVE)
    proof = said.proof[:_LONGEST_PROOF] if said.state == "succeeded" else ""
    return Step(
        id=said.id, state=said.state, at=uplink.received_at, detail=detail, said=True, device_key=key, proof=proof
    )
