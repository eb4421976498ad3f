"""The state directory: everything the core keeps on this machine, for one core at a time.

    STATE/  lock        held (flock) by the running core
            core.json   where the running core answers
            token       the local CLI's token, mode 0600
            watch.json  which of its parts stood still when it was last looked at
            postgres/   the embedded database
            broker/     the embedded broker
            run/        sockets; elsewhere when STATE is too long for a socket's path

Root's directory can be passed through (0711), because children run as users of their own and each needs to reach its
folder; everything in it says for itself who may read it. A plain user's directory is closed (0700).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from iot_core.errors import StartError
from iot_core.settings import environment

__all__ = ["Running", "StateDir", "is_root", "locked", "start_error", "write_private"]

_LONGEST_RUN: Final = 70  # a socket's path has 103 bytes on macOS, 107 on Linux; ours end in up to 30 more


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What core.json says about the core that runs; `fingerprint` is of its own certificate, where it has one."""

    pid: int
    url: str
    fingerprint: str = ""
    ports: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class StateDir:
    """Names what lies in a state directory."""

    path: Path
    postgres: Path = field(init=False)
    broker: Path = field(init=False)
    token_file: Path = field(init=False)
    core_file: Path = field(init=False)
    lock_file: Path = field(init=False)

    def __post_init__(self) -> None:
        for name, file in (("postgres",) * 2, ("broker",) * 2, ("token_file", "token"), ("core_file", "core.json")):
            object.__setattr__(self, name, self.path / file)
        object.__setattr__(self, "lock_file", self.path / "lock")

    def run(self) -> Path:
        """Make and give a folder for sockets, short enough for their paths."""
        folder = self.path / "run"
        if len(os.fsencode(folder)) > _LONGEST_RUN:
            folder = _short_folder(self.path)
        make_folder(folder)
        return folder

    def announce(self, running: Running) -> None:
        """Write core.json for the local CLI."""
        write_private(self.core_file, msgspec.json.encode(running))

    def running(self) -> Running | None:
        """Read core.json; None when no core has announced itself."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.core_file.read_bytes(), type=Running)
        return None

    def write_token(self, token: str) -> None:
        """Leave the local CLI its token."""
        write_private(self.token_file, token.encode())

    def read_token(self) -> str:
        """Read the local CLI's token; empty when there is none, or none for us."""
        with suppress(OSError):
            return self.token_file.read_text(encoding="utf-8").strip()
        return ""


def is_root() -> bool:
    """Say whether we may become other users."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def locked(path: Path) -> Iterator[StateDir]:
    """Make the state directory if needed and hold it for this process. Raises StartError when another core has it."""
    import fcntl  # noqa: PLC0415 - POSIX only; the client imports this module everywhere

    state = StateDir(path.absolute())
    try:
        _make_state(state)
        lock = os.open(state.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise start_error(exc, state.path) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            other = state.running()
            if other is None:  # it starts, or ends
                raise StartError("start.already_taken", path=state.path) from exc
            raise StartError("start.already_running", path=state.path, pid=other.pid, url=other.url) from exc
        except OSError as exc:
            raise start_error(exc, state.path) from exc
        try:
            yield state
        finally:
            state.core_file.unlink(missing_ok=True)
    finally:
        os.close(lock)


def start_error(exc: OSError, path: Path) -> StartError:
    """Turn the system's refusal into ours: a full disk, a closed door, or what the system says."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StartError("start.disk_full", path=path)
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StartError("start.state_denied", path=exc.filename or path)
    return StartError("start.state_unusable", path=exc.filename or path, detail=exc.strerror or type(exc).__name__)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once with one that only its owner reads. Raises StartError when the disk is full."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp: 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise start_error(exc, path) from exc


def make_folder(path: Path) -> None:
    """Make one of our folders, closed (root's: to be passed through); refuse one that someone else made."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StartError("start.state_not_ours", path=path)
    wanted = 0o711 if is_root() else 0o700
    if stat.S_IMODE(found.st_mode) != wanted:
        path.chmod(wanted)


def _make_state(state: StateDir) -> None:
    """Make the directory with its parents; let children pass through root's, unless it holds other things than ours."""
    state.path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o711 if is_root() else 0o700
    with suppress(FileExistsError):
        state.path.mkdir(mode=mode)
    found = state.path.stat()
    if found.st_uid != os.geteuid():
        raise StartError("start.state_not_ours", path=state.path)
    ours = state.lock_file.exists() or not any(state.path.iterdir())
    if ours and found.st_mode & mode != mode:
        state.path.chmod(found.st_mode | mode)


def _short_folder(path: Path) -> Path:
    """Name a folder for a state directory with a long path; always the same one, so that it is found again."""
    name = f"iot-{os.geteuid()}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    runtime = environment("XDG_RUNTIME_DIR")
    if is_root():
        return Path("/run") / name
    return Path(runtime if runtime and len(runtime) < _LONGEST_RUN - len(name) else "/tmp") / name  # noqa: S108 - a checked folder of our own
