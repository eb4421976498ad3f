"""A dead man's watch outside the store and outside the core's loop: a thread that tells `watchdog` targets straight.

core's loop: vitals.beat("push") ... --> thread looks every second --> nothing heard of a part for too long
                                                                        '-> core.stalled, until they have it
The targets and their secrets are a copy in memory, made while the store still answered. What stands and what is not
written down yet lies in a small file beside: whoever kills a core that stands still gets its end from the next one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
import structlog

from iot_core.errors import StartError
from iot_core.messages import text
from iot_core.push.outbox import Endpoint, new_message_id
from iot_core.push.parcel import pack
from iot_core.push.senders import Access, make_sender
from iot_core.state import write_private

log = structlog.get_logger()

__all__ = ["RECOVERED", "STALLED", "Part", "Vitals", "Watch", "watching"]

_LOOK_S: Final = 1.0
_AGAIN_S: Final = 10.0
STALLED: Final = "core.stalled"
RECOVERED: Final = "core.recovered"


class Part(StrEnum):
    """What can stand still."""

    CORE = "core"
    STORE = "store"
    INGEST = "ingest"
    PUSH = "push"


@dataclass(slots=True)
class Vitals:
    """When each part was last known to move, by the monotonic clock. Written by the core's loop, read by the thread."""

    now: Callable[[], float] = time.monotonic
    _beats: dict[Part, float] = field(default_factory=dict)

    def beat(self, part: Part) -> None:
        """Note that a part moves."""
        self._beats[part] = self.now()

    def still(self, limit_s: float) -> frozenset[Part]:
        """Name the parts that have not moved for so long. A part that never moved is not watched yet."""
        now = self.now()
        return frozenset(part for part, at in list(self._beats.items()) if now - at > limit_s)

    def pardon(self) -> None:
        """Let every part move from now on: when all stood, nothing is known of any."""
        self._beats.update(dict.fromkeys(self._beats, self.now()))

    def moving(self, limit_s: float) -> frozenset[Part]:
        """Name the parts that have moved within so long."""
        return frozenset(self._beats) - self.still(limit_s)


Spell = tuple[Part, datetime, datetime | None]
"""Part, since when it stood still, and until when (None: still)."""


class Kept(msgspec.Struct, frozen=True):
    """What a watch leaves to that of the next start."""

    standing: Mapping[Part, datetime] = {}
    spells: Sequence[Spell] = ()


@dataclass(slots=True)
class Watch:
    """The thread's state. `targets` is replaced whole by the core's loop; `spells` is what it has to write down."""

    vitals: Vitals
    access: Access
    zone: str
    limit_s: float
    targets: Sequence[Endpoint] = ()
    file: Path | None = None
    """Where what stands is kept for the next start."""
    core: str | None = None
    """Which core says it. The store tells it together with the targets: before, nobody would hear of a recovery."""
    spells: list[Spell] = field(default_factory=list)
    _standing: dict[Part, datetime] = field(default_factory=dict)
    _looked: float | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Take over what the last core left: its parts recover when ours move."""
        if self.file is not None:
            with suppress(OSError, msgspec.MsgspecError):
                kept = msgspec.json.decode(self.file.read_bytes(), type=Kept)
                self._standing, self.spells = dict(kept.standing), list(kept.spells)

    def keep(self) -> None:
        """Keep what stands and what is to be written. A full disk is no reason to stop watching."""
        if self.file is not None:
            with suppress(StartError):
                write_private(self.file, msgspec.json.encode(Kept(dict(self._standing), list(self.spells))))

    def run(self) -> None:
        """Watch until ended; in a thread of its own, with a loop of its own."""
        asyncio.run(self._watch())

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            sends: set[asyncio.Task[None]] = set()
            while not self._ended.is_set():
                for kind, parts in self.look(datetime.now(UTC)).items():
                    for target in self.targets:
                        task = group.create_task(self._tell(target, kind, parts))
                        sends.add(task)
                        task.add_done_callback(sends.discard)
                await asyncio.sleep(min(_LOOK_S, self.limit_s / 4))
            for task in sends:
                task.cancel()

    def look(self, now: datetime) -> Mapping[str, Sequence[Part]]:
        """See what has changed since the last look; give what is to be told."""
        at = self.vitals.now()
        still = self.vitals.still(self.limit_s)
        if self._looked is not None and at - self._looked > self.limit_s:  # the whole process stood: a paused machine
            self.vitals.pardon()
            still = frozenset({Part.CORE})
        self._looked = at
        fallen = sorted(still - self._standing.keys())
        risen = sorted(self._standing.keys() & self.vitals.moving(self.limit_s)) if self.core is not None else []
        for part in fallen:
            self._standing[part] = now
            self.spells.append((part, now, None))
        for part in risen:
            self.spells.append((part, self._standing.pop(part), now))
        if fallen or risen:
            self.keep()
        return {kind: parts for kind, parts in ((STALLED, fallen), (RECOVERED, risen)) if parts}

    async def _tell(self, target: Endpoint, kind: str, parts: Sequence[Part]) -> None:
        """Send until the target has it, or the opposite is true."""
        now, message_id = datetime.now(UTC), new_message_id()
        body = {
            "type": kind,
            "timestamp": now.isoformat(),
            "data": {
                "parts": [part.value for part in parts], "limit_s": self.limit_s,
                "text": {lang: "; ".join(text(f"watchdog.{part}", lang) for part in parts) for lang in ("vi", "en")},
                "origin": {"via": [self.core] if self.core is not None else []},
            },
        }  # fmt: skip
        sender = make_sender(target, self.access)
        try:
            while not self._ended.is_set():
                parcel = pack(
                    body, message_id=message_id, at=now, format_="json" if target.format == "cap" else target.format,
                    language=target.language, template_=target.template, options=target.options, zone=self.zone,
                )  # fmt: skip
                answer = await sender.send(parcel)
                if answer.error is None:
                    log.warning("watchdog.told", target=target.key, kind=kind, parts=[*parts])
                    return
                if kind == STALLED and not self._standing.keys() & set(parts):
                    return
                await asyncio.sleep(_AGAIN_S)
        finally:
            with suppress(OSError):
                await sender.close()


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Run the watch's thread while the block lasts. A daemon: a target that hangs never holds up our end."""
    thread = threading.Thread(target=watch.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join(timeout=0.2)
