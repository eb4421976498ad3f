"""Child processes that outlive a killed core: each in its own session, known again by pid and start time.

    start -> record {pid, started} -> (core is killed, starts again) -> adopt: is it still that process? -> stop

A pid alone says nothing: the system hands it out again. With the time the process was started, it is who it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from iot_core.state import write_private

__all__ = ["Child", "User", "adopt", "boot", "start", "start_time"]

ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""What a child sees: nothing of ours, so that no secret of the core's environment leaks into it."""
_POLL_S: Final = 0.5
_STARTED: Final[list[subprocess.Popen[bytes]]] = []
"""Kept: Python warns of a Popen that goes while its process lives, and ours outlive a killed core on purpose."""


@dataclass(frozen=True, slots=True)
class User:
    """A system user that a child runs as."""

    name: str
    uid: int
    gid: int


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    started: str
    boot: str


@dataclass(frozen=True, slots=True)
class Child:
    """One process, started or adopted. `ours` is set when we are its parent and must collect it."""

    pid: int
    started: str
    record: Path
    ours: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        """Say whether it still runs, and is still the one it was."""
        if self.ours is not None and self.ours.poll() is not None:
            return False
        return start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> None:
        """Wait until it has ended: told by the system where it can, else by looking."""
        if not hasattr(os, "pidfd_open"):
            while self.alive():  # noqa: ASYNC110 - an adopted process is nobody's child and tells nobody
                await asyncio.sleep(_POLL_S)
            return
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            while self.alive():  # only now: before the handle it could have ended, and another had its pid
                await _readable(handle)
        finally:
            os.close(handle)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Ask it to end with each signal in turn, waiting so many seconds; kill it at last, and forget it."""
        for number, seconds in (*steps, (signal.SIGKILL, 5.0)):
            self.send(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.ended()
            if not self.alive():
                break
        self.record.unlink(missing_ok=True)


async def _readable(handle: int) -> None:
    """Wait until a file handle can be read from; of a process: until it has ended."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(handle)


def start(
    command: Sequence[str | Path],
    record: Path,
    *,
    log: Path,
    user: User | None = None,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a program in a session of its own, write down who it is, send its output to `log`. Raises OSError."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            [os.fspath(word) for word in command],
            cwd="/",
            env={**ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            umask=0o077,
        )
    finally:
        os.close(handle)
    started = start_time(process.pid) or ""
    try:
        write_private(record, msgspec.json.encode(_Record(pid=process.pid, started=started, boot=boot())))
    except BaseException:
        process.kill()
        process.wait()
        raise
    _STARTED.append(process)
    return Child(process.pid, started, record, process)


def adopt(record: Path) -> Child | None:
    """Find the process of an earlier start again; None when it has ended, or when its pid belongs to another now."""
    try:
        known = msgspec.json.decode(record.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None
    child = Child(known.pid, known.started, record)
    return child if known.boot == boot() and known.started and child.alive() else None


def start_time(pid: int) -> str | None:
    """Say when a process was started, in the system's own words; None when it does not run (a zombie does not)."""
    try:
        # The name in parentheses may hold anything; what follows it is: state, ..., start time as the 20th.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)
    return None if words[0] in "ZX" else words[19]


def _start_time_by_ps(pid: int) -> str | None:
    asked = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
        env=ENVIRONMENT,
    )
    state, _, started = asked.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def boot() -> str:
    """Name this run of the system: Linux counts start times from it. Empty where they are dates."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
