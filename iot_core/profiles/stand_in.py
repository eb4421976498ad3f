"""What stands in for a profile whose file cannot be read: it knows who speaks where, and holds what they say.

Without it a broken file would silence its devices: no subscription, no right to publish, nothing to replay later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iot_core.errors import ConfigError
from iot_core.model import DeviceClass, Title
from iot_core.profiles.formats import HeldFormat
from iot_core.profiles.profile import Profile, Route

if TYPE_CHECKING:
    from iot_core.profiles.load import Broken

__all__ = ["Known", "reason_of", "stand_in"]

_SELDOM: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was noted of a model when its profile was last good."""

    model: str
    class_key: str
    interval: timedelta | None
    metrics: Sequence[str] = ()
    address: str = ""
    topics: Sequence[str] = ()


def stand_in(known: Known, broken: Broken, classes: Mapping[str, DeviceClass]) -> Profile:
    """Make the profile that holds everything which the devices of a model say."""
    title = Title(known.model, known.model)
    detail = reason_of(broken.error)
    held = HeldFormat(detail, tuple(known.metrics))
    return Profile(
        model=known.model,
        vendor="-",
        title=title,
        device_class=classes.get(known.class_key) or DeviceClass(key=known.class_key, title=title, metrics=()),
        source=detail,
        interval=known.interval or _SELDOM,
        address=known.address,
        file=broken.file,
        routes=tuple(Route(topic, held, re.compile(".*", re.DOTALL)) for topic in known.topics),
        format=held,
    )


def reason_of(error: ConfigError) -> str:
    """Say in one line where a file is wrong and what was expected, for whoever finds the held uplink."""
    facts = error.facts
    if error.code != "profile.invalid":
        return str(error)
    return f"{Path(str(facts['file'])).name}:{facts['line']} {facts['key']}: expected {facts['expected']}"
