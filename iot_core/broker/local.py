"""What both brokers that we start have in common: a child process, adopted after a crash, started anew when it dies."""

from __future__ import annotations

import asyncio
import signal
import socket
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from iot_core import children
from iot_core.broker.base import Broker
from iot_core.errors import StartError
from iot_core.state import make_folder, start_error
from iot_core.store.connection import AWAY
from iot_core.store.status import forget_presence

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from iot_core.children import Child, User
    from iot_core.settings import Mqtt
    from iot_core.state import StateDir

__all__ = ["LocalBroker", "connects"]

log = structlog.get_logger()

_READY_S: Final = 60.0  # reading a large queue back takes a while
_STOP_S: Final = 30.0  # so does writing it; killed before, it would lose what it holds for us
_BACK_OFF_S: Final = 1.0
_LONGEST_BACK_OFF_S: Final = 30.0
_LAST_WORDS: Final = 500
_PROBE_S: Final = 0.5


class LocalBroker(Broker):
    """Owns the child from `start` to `stop`."""

    keeps_retained = False
    """Whether retained messages outlive its process."""

    def __init__(self, settings: Mqtt, state: StateDir, pool: asyncpg.Pool) -> None:
        self.settings = settings
        self.pool = pool
        self.home = state.broker
        make_folder(self.home)
        self.child: Child | None = None

    @property
    def log_file(self) -> Path:
        """Where the child's own words go."""
        return self.home / "broker.log"

    @abstractmethod
    async def command(self) -> tuple[list[str | Path], User | None, bool]:
        """Prepare everything. Give the command, its user, and whether one that runs already is the one we want."""

    @abstractmethod
    def answers(self) -> bool:
        """Say whether it takes connections."""

    async def start(self) -> None:
        """Adopt the child of an earlier start if it is as wanted, else start one."""
        try:
            command, user, same = await self.command()
            record = self.home / "child.json"
            self.child = children.adopt(record)
            if self.child is not None and same and self.answers():
                log.info("broker.adopted", broker=self.kind, pid=self.child.pid)
                await self.up(adopted=True)
                return
            if self.child is not None:
                await self.stop()
            self._check_port()
            await self._forget_presence()
            self.child = children.start(command, record, log=self.log_file, user=user)
        except OSError as exc:
            raise start_error(exc, self.home) from exc
        await self._ready()
        await self.up(adopted=False)
        log.info("broker.started", broker=self.kind, pid=self.child.pid)

    async def up(self, *, adopted: bool) -> None:
        """Do what must be done before anybody else connects. Raises StartError."""

    async def stop(self) -> None:
        """End the child; it writes down what it holds."""
        if self.child is not None:
            await self.child.stop((signal.SIGTERM, _STOP_S))
            self.child = None

    async def watch(self) -> None:
        """Start it anew whenever it dies, until cancelled, more slowly each time."""
        back_off = _BACK_OFF_S
        while True:
            began = asyncio.get_running_loop().time()
            if self.child is not None:  # else the last start failed
                await self.child.ended()
                log.error("broker.died", broker=self.kind, pid=self.child.pid, said=self._last_words())
            if asyncio.get_running_loop().time() - began > _LONGEST_BACK_OFF_S:
                back_off = _BACK_OFF_S
            while self.child is None or not self.child.alive():
                await asyncio.sleep(back_off)
                await self._start_again()
                back_off = min(back_off * 2, _LONGEST_BACK_OFF_S)

    async def _forget_presence(self) -> None:
        """Nobody is connected to a broker that does not run; whoever comes back says so."""
        try:
            await forget_presence(self.pool, stale=self.keeps_retained)
        except AWAY as exc:
            raise StartError("store.unreachable", detail=type(exc).__name__) from exc

    async def _start_again(self) -> None:
        try:
            await self.start()
        except StartError as exc:
            log.error("broker.not_started", broker=self.kind, code=exc.code)  # noqa: TRY400 - a fact, not a traceback

    async def _ready(self) -> None:
        child = self.child
        assert child is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while child.alive():
                    if self.answers():
                        return
                    await asyncio.sleep(0.02)
        said = self._last_words()
        await self.stop()
        raise StartError("broker.ended", said=said or "?", log=self.log_file)

    def _check_port(self) -> None:
        """Refuse a port in use before the child does, because the child's words are for nobody."""
        host, port = self.settings.host, self.settings.port
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as exc:
            raise StartError("broker.port", host=host, port=port, detail=exc.strerror or str(exc)) from exc

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1][-_LAST_WORDS:] if lines else ""
        return ""


def connects(where: str | tuple[str, int]) -> bool:
    """Say whether something takes connections on a socket's path, or on a host and port."""
    with suppress(OSError):
        if isinstance(where, tuple):
            with socket.create_connection(where, timeout=_PROBE_S):
                return True
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(where)
            return True
    return False
