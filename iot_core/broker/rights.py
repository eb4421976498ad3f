"""Which topics a login may write and read: one list for Mosquitto's ACL file and for brokers that ask us. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iot_core import sparkplug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from iot_core.profiles import Profiles
    from iot_core.registry.credentials import Sender

__all__ = ["READ", "WRITE", "acl_file", "core", "covers", "granted", "native", "rights_of", "vendor"]

WRITE: Final = "write"
READ: Final = "read"
_NOT_VENDORS: Final = ("iot/", "$")
"""Ours and the broker's: an address that begins so would grant a neighbour's topics."""
_UP: Final = ("telemetry", "status", "commands/result", "config/reported")
_DOWN: Final = ("commands", "config", "stored")


def native(username: str) -> list[tuple[str, str]]:
    """List what a device may do on the native topics (docs/protocol.md); `%u` makes Mosquitto's pattern."""
    return [
        *((WRITE, f"iot/v1/{username}/{tail}") for tail in _UP),
        *((READ, f"iot/v1/{username}/{tail}") for tail in _DOWN),
    ]


def core(profiles: Profiles | None = None) -> list[tuple[str, str]]:
    """List what the core's own account may do: hear all, and write what devices hear, also on vendors' topics."""
    told = [topic for profile in (profiles.all() if profiles else ()) for topic in profile.command_topics]
    commands = dict.fromkeys("/".join("+" if "{" in level else level for level in topic.split("/")) for topic in told)
    return [
        (READ, "#"),
        (READ, "$SYS/#"),
        *((WRITE, f"iot/v1/+/{tail}") for tail in _DOWN),
        (WRITE, "iot/alarms/#"),  # push targets on our own broker
        *((WRITE, topic) for topic in (*commands, *sparkplug.COMMANDS)),
    ]


def vendor(
    senders: Iterable[Sender], profiles: Profiles, bridges: Iterable[tuple[str, str]] = ()
) -> dict[str, list[tuple[str, str]]]:
    """List what logins may do on vendor topics: a unit writes its own and hears its commands, a gateway for others.

    A bridge does both everywhere below its topics, so that devices behind it are heard before they are registered;
    below iot/alarms it only hears.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    known = {profile.model: profile for profile in profiles.all()}
    for sender in senders:
        if (profile := known.get(sender.profile)) is None:
            continue
        own = [(WRITE, topic) for topic in granted(profile.address, profile.topics, sender.address)]
        own += [(READ, topic) for topic in granted(profile.address, profile.command_topics, sender.address)]
        writes, reads = sparkplug.rights(sender.address)
        own += [*((WRITE, topic) for topic in writes), *((READ, topic) for topic in reads)]
        for username in filter(None, (sender.device_key, sender.gateway)):
            if own:
                found.setdefault(username, []).extend(own)
    for username, topic in bridges:
        rights = (READ,) if is_of_alarms(topic) else (WRITE, READ)
        found.setdefault(username, []).extend((right, f"{topic}/#") for right in rights)
    return found


def is_of_alarms(topic: str) -> bool:
    """Say whether a topic is where push targets on our own broker are told: only the core writes there."""
    return f"{topic}/".startswith("iot/alarms/")


def granted(template: str, patterns: Iterable[str], address: str) -> list[str]:
    """Fill a unit's address into its profile's topic patterns; nothing when the address is not of that form."""
    before, _, after = template.partition("{address}")
    inner = address[len(before) : len(address) - len(after)]
    # A wildcard in an address would grant other senders' topics.
    if f"{before}{inner}{after}" != address or not inner or set("+#\n\r\0") & set(inner):
        return []
    filled = [pattern.replace("{address}", inner) for pattern in patterns]
    return [topic for topic in filled if not topic.startswith(_NOT_VENDORS)]


def rights_of(username: str, vendor_rights: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """List everything one device's login may do."""
    return [*native(username), *vendor_rights.get(username, [])]


def acl_file(
    core_username: str, vendor_rights: dict[str, list[tuple[str, str]]], profiles: Profiles | None = None
) -> str:
    """Write Mosquitto's ACL file. Who is not named has the patterns only."""
    return "\n".join(_acl_lines(core_username, vendor_rights, profiles)) + "\n"


def _acl_lines(
    core_username: str, vendor_rights: dict[str, list[tuple[str, str]]], profiles: Profiles | None
) -> Iterator[str]:
    yield f"user {core_username}"
    yield from (f"topic {action} {topic}" for action, topic in core(profiles))
    for username, rights in sorted(vendor_rights.items()):
        yield f"user {username}"
        yield from (f"topic {action} {topic}" for action, topic in rights)
    yield from (f"pattern {action} {topic}" for action, topic in native("%u"))


def covers(filter_: str, topic: str) -> bool:
    """Say whether a granted filter holds everything that `topic`, itself perhaps a filter, can match."""
    have, want = filter_.split("/"), topic.split("/")
    if topic.startswith("$") != filter_.startswith("$"):
        return False  # MQTT 4.7.2: a leading wildcard does not match the broker's own topics
    for position, level in enumerate(have):
        if level == "#":
            return True
        if position >= len(want) or want[position] == "#":
            return False
        if level not in ("+", want[position]):
            return False
    return len(have) == len(want)
