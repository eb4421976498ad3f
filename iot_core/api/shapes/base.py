"""What the shapes of the HTTP API have in common: requests, answers, closed sets."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from iot_core.model import KEY_PATTERN

PREFIX: Final = "/api/v1"
LEFT_OUT: Final = "Iot-Left-Out"
"""Header of an export: `CLASS=DEVICES, ...` whose class is no longer among the profiles."""
MAX_BATCH: Final = 5_000

Key = Annotated[str, Meta(pattern=f"^{KEY_PATTERN}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=4_000)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Value = float | int | bool | str


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to us: a key that is not listed is an error that names it."""


class Query(Request, frozen=True, kw_only=True):
    """Parameters in a URL."""


class Answer(Struct, frozen=True, kw_only=True):
    """What we send."""


class Nothing(Answer, frozen=True, kw_only=True):
    """An empty object: it was done."""


class DeviceState(StrEnum):
    """What a person wants to know of a device first; the first that applies."""

    RETIRED = "retired"
    ALARM = "alarm"
    SILENT = "silent"
    NEVER = "never"
    OK = "ok"


class QualityName(StrEnum):
    """Quality of an observation, as people read it."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    CALIBRATION = "calibration"
    BAD = "bad"


class AlarmState(StrEnum):
    """After ISA-18.2: active and unacknowledged; acknowledged; returned to normal but unacknowledged; over."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    CLOSED = "closed"


class Role(StrEnum):
    """What a token may do; each may do all that the ones before it may."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"
    OPERATOR = "operator"
    ADMIN = "admin"


class Problem(Answer, frozen=True, kw_only=True):
    """RFC 9457. `code` and `facts` find and fill the sentence in a catalogue; `detail` is that sentence."""

    type: str = "about:blank"
    title: str = ""
    status: int
    code: str
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)


def fields_of(kind: type[Struct]) -> tuple[str, ...]:
    """Name the keys of a shape as JSON spells them."""
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))
