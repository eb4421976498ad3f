"""Which models may have sent this? Those whose address and topics fit, that understand it, and find it plausible. Pure.

It is a guess for a person to look at: raw bytes have no meaning of their own, and some fit several models.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from iot_core.errors import DecodeError
from iot_core.model import FOUND, Find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot_core.model import Uplink
    from iot_core.profiles.profile import Profile

__all__ = ["Guess", "find_of", "guess", "likely"]

Guess = tuple[str, float]
"""A model, and how well it fits."""
_NAMED: Final = 100.0
_SHOWN: Final = 5
_WORD: Final = re.compile(r"[a-z0-9]{4,}")
_NAMES: Final = frozenset({"deviceProfileName", "model", "model_id", "modelId", "model_ids", "md", "applicationName"})
"""Where network servers and bridges say what a device is."""


def guess(uplink: Uplink, profiles: Iterable[Profile]) -> list[Guess]:
    """Rank models by how much of what was said they understand; one that the message names comes first.

    Whoever found a sender has guessed already, with more in hand than the message.
    """
    if uplink.kind == FOUND:
        find = find_of(uplink.payload)
        if find.sample:
            return guess(_sample(uplink, find), profiles)
        weighed = find.guess
        known = [(each.model, weighed[each.model]) for each in profiles if each.model in weighed]
        return sorted(known, key=lambda each: (-each[1], each[0]))[:_SHOWN]
    names = _names(uplink.payload)
    ranked = [
        (profile.model, score)
        for profile in profiles
        if _may_be_at(profile.address, uplink.address) and (score := _score(profile, uplink, names)) > 0
    ]
    return sorted(ranked, key=lambda each: (-each[1], each[0]))[:_SHOWN]


def find_of(payload: bytes | None) -> Find:
    """Read what a find says; one that cannot be read says nothing."""
    try:
        return msgspec.json.decode(payload or b"", type=Find)
    except (msgspec.MsgspecError, UnicodeError):
        return Find()


def _sample(uplink: Uplink, find: Find) -> Uplink:
    return msgspec.structs.replace(uplink, kind="telemetry", topic=find.topic, payload=find.sample.encode())


def likely(guesses: list[Guess]) -> str | None:
    """Name the model that fits better than any other; None where two fit alike."""
    if not guesses or (len(guesses) > 1 and guesses[0][1] == guesses[1][1]):
        return None
    return guesses[0][0]


def _may_be_at(template: str, address: str) -> bool:
    before, _, after = template.partition("{address}")
    return address.startswith(before) and address.endswith(after) and len(address) > len(before) + len(after)


def _score(profile: Profile, uplink: Uplink, names: str) -> float:
    try:
        decoded = profile.decode(uplink)
    except DecodeError:
        return 0.0
    metrics = {metric.key: metric for metric in profile.device_class.metrics}
    values = [(key, value) for sample in decoded.samples for key, value in sample.values.items()]
    good = sum(1 for key, value in values if key in metrics and _plausible(metrics[key], value))
    if not good:
        return 0.0
    named = any(word in names for word in _WORD.findall(profile.model.partition("-")[2].replace("-", "")))
    return good - 2.0 * (len(values) - good + len(decoded.problems)) + (_NAMED if named else 0.0)


def _plausible(metric: object, value: object) -> bool:
    return isinstance(value, (bool, int, float, str)) and bool(metric.plausible(value))  # type: ignore[attr-defined]


def _names(payload: bytes) -> str:
    """Gather what a message says of its sender's model, in small letters and digits only."""
    try:
        said = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return ""
    found: list[str] = []
    if isinstance(said, dict):
        for part in (said, *(each for each in said.values() if isinstance(each, dict))):
            found += [value for key, value in part.items() if key in _NAMES and isinstance(value, str)]
    return " ".join(re.sub(r"[^a-z0-9]", "", each.lower()) for each in found)
