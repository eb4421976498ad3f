"""Which topics we subscribe to, and whose word a topic carries. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.mqtt import discovery
from iot_core import sparkplug

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from iot_core.driver import Units
    from iot_core.profiles import Profile, Profiles

__all__ = ["NATIVE", "Topics", "inside"]

_KINDS: Final = ("telemetry", "status", "commands/result", "config/reported")
NATIVE: Final = tuple(f"iot/v1/+/{kind}" for kind in _KINDS)
_LEVELS: Final = 4
_REMEMBERED: Final = 100_000
_PLACE: Final = "{address}"
_EUI: Final = re.compile("[0-9A-Fa-f]{16}")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A profile's topic pattern, and the form of the addresses of its units."""

    topic: re.Pattern[str]
    address: str


class Topics:
    """Reads native topics by their form, vendors' topics by the patterns of all profiles."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._version = -1
        self.renew()

    def renew(self) -> Sequence[str]:
        """Look at the profiles again where they changed, and give the filters that they need now."""
        if self._version == self._profiles.version:
            return self.filters()
        self._version = self._profiles.version
        own = [profile for profile in self._profiles.all() if profile.topics]
        self._patterns = [pattern for profile in own for pattern in _patterns(profile)]
        self._vendor = _outermost(_filter(topic) for profile in own for topic in profile.topics)
        self._known: dict[str, tuple[str, ...]] = {}
        return self.filters()

    def filters(self) -> Sequence[str]:
        """List the filters to subscribe to, none of them inside another one (else messages would come twice)."""
        return _outermost([*NATIVE, *discovery.FILTERS, *sparkplug.FILTERS, *self._vendor])

    def sender(self, topic: str, units: Units) -> tuple[str, str] | None:
        """Give the address and kind of what is published on `topic`; None for a topic of nobody.

        Where patterns of several profiles match, the one with a mounted unit is meant.
        """
        if topic.startswith("iot/v1/"):
            levels = topic.split("/", _LEVELS - 1)
            if len(levels) == _LEVELS and levels[2] and levels[3] in _KINDS:
                return f"iot:{levels[2]}", levels[3]
            return None
        addresses = self._known.get(topic)
        if addresses is None:
            addresses = self._addresses(topic)
        if len(addresses) > 1:
            mounted = next((address for address in addresses if units.at(address) is not None), addresses[0])
            return mounted, "telemetry"
        return (addresses[0], "telemetry") if addresses else None

    def _addresses(self, topic: str) -> tuple[str, ...]:
        matches = ((pattern, pattern.topic.fullmatch(topic)) for pattern in self._patterns)
        found = [pattern.address.replace(_PLACE, match["address"]) for pattern, match in matches if match]
        addresses = tuple(dict.fromkeys([*found, *(other for each in found for other in _spellings(each))]))
        if len(self._known) >= _REMEMBERED:  # senders choose the topics, so they do not choose the size
            self._known.clear()
        self._known[topic] = addresses
        return addresses


def _spellings(address: str) -> Iterable[str]:
    """Give the other ways to write a DevEUI: labels have capital letters, ChirpStack's topics small ones."""
    scheme, _, eui = address.partition(":")
    return (f"{scheme}:{eui.lower()}", f"{scheme}:{eui.upper()}") if scheme == "lorawan" and _EUI.fullmatch(eui) else ()


def _patterns(profile: Profile) -> Iterable[_Pattern]:
    for topic in profile.topics:
        parts = (re.escape(part).replace(r"\+", "[^/]*").replace(r"\#", ".*") for part in topic.split(_PLACE))
        yield _Pattern(re.compile("(?P<address>[^/]+)".join(parts), re.DOTALL), profile.address)


def _filter(pattern: str) -> str:
    """Make an MQTT filter: a wildcard stands for a whole level, also where the address is only a part of it."""
    return "/".join("+" if _PLACE in level else level for level in pattern.split("/"))


def _outermost(filters: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(filters))
    return [one for one in distinct if not any(other != one and inside(one, other) for other in distinct)]


def inside(inner: str, outer: str) -> bool:
    """Say whether one filter covers another."""
    have, want = outer.split("/"), inner.split("/")
    if have[-1] == "#":
        have, want = have[:-1], want[: len(have) - 1]
    return len(have) == len(want) and all(mine in ("+", theirs) for mine, theirs in zip(have, want, strict=True))
