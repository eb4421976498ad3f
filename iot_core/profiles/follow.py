"""Own profiles read again when a file changes, while the core runs: a broken file changes nothing but says so.

stat of every *.yaml, each 2 s -> changed? -> load (beside what runs) -> renew -> whoever keeps things by profile
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from iot_core.errors import ConfigError, StoreUnavailable
from iot_core.profiles.load import Broken, Profiles, load_tolerant

__all__ = ["Stamps", "follow", "name_broken", "stamps"]

log = structlog.get_logger()

EVERY_S: Final = 2.0
Stamps = Mapping[str, tuple[int, int]]


def stamps(folder: Path) -> Stamps:
    """Give time of change and size of every YAML file; a file that vanishes meanwhile is not there."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.glob("*/*.yaml"):
        try:
            stat = path.stat()
        except OSError:
            continue
        found[str(path)] = (stat.st_mtime_ns, stat.st_size)
    return found


async def _load(folder: Path, running: Profiles) -> Profiles:
    return await asyncio.to_thread(load_tolerant, folder, running)


async def follow(
    profiles: Profiles,
    folder: Path,
    before: Stamps,
    renewed: Callable[[], Awaitable[None]],
    *,
    load: Callable[[Path, Profiles], Awaitable[Profiles]] = _load,
    every_s: float = EVERY_S,
) -> None:
    """Renew `profiles` with what `load` gives whenever a file changes, and await `renewed`; until cancelled.

    `before`: the stamps from before `profiles` were loaded, so that what changes while a core starts counts too.
    """
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(stamps, folder)
        if now == before:
            continue
        try:
            found = await load(folder, profiles)
        except ConfigError as exc:  # the folder itself is gone: what is known goes on
            log.warning("profiles.folder_gone", folder=str(folder), error=str(exc))
            before = now
            continue
        except StoreUnavailable:
            continue  # a new class has no table yet: at the next look
        _tell(profiles, found)
        profiles.renew(found)
        await renewed()
        before = now


def name_broken(each: Broken) -> None:
    """Log a file that cannot be used: where it is wrong, what was expected, and what becomes of its devices."""
    facts = {key: each.error.facts.get(key) for key in ("line", "key", "expected") if key in each.error.facts}
    after = "its last good version goes on" if each.kept else "what its devices say is held"
    log.error("profiles.broken", file=each.file, code=each.error.code, model=each.model, after=after, **facts)


def _tell(before: Profiles, after: Profiles) -> None:
    """Log what changed: files that are broken or mended, models that came, went or changed."""
    was = {each.file: str(each.error) for each in before.broken}
    for each in after.broken:
        if was.pop(each.file, None) != str(each.error):
            name_broken(each)
    for file in was:
        log.info("profiles.mended", file=file)
    old = {each.model: each for each in before.all()}
    new = {each.model: each for each in after.all()}
    log.info(
        "profiles.renewed",
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        profiles=len(new),
        broken=len(after.broken),
    )
