"""`iot` in forks of one process that has imported what every command imports: a run costs a third of a real start.

a test ── words, environment, folder, files ──▶ this module as a process ─fork─▶ keeper ─fork─▶ iot_core.cli.main()
       ◀──────────── process id, exit code ─────────────────────────────────────┘
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path

__all__ = ["FORKS", "Forks", "at_start"]

AHEAD = ("aiohttp", "babel.dates", "iot_core.client", "iot_core.profiles", "openpyxl", "rich.console", "rich.table")
"""Imported ahead, and the shipped profiles compiled: what is the same in every language. Help texts are not."""
LONGEST = 1 << 17
"""Of a request, in bytes: its words and its environment."""
_ROOT = Path(__file__).parent.parent


class Forks:
    """Runs `iot` in forks; the process that forks starts with the first run. Close it at the end."""

    def __init__(self) -> None:
        self._asking: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()

    def run(
        self, words: Sequence[str], env: Mapping[str, str], folder: Path, feed: bytes = b"", within_s: float = 60.0
    ) -> tuple[int, bytes, bytes]:
        """Run `iot WORDS`; give its exit code, output and errors. Raises TimeoutExpired, as subprocess.run does."""
        with ExitStack() as stack:
            files = [stack.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in ("in", "out", "err")]
            files[0].write(feed)
            files[0].seek(0)
            keeper, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(keeper)
            request = json.dumps([list(words), dict(env), str(folder)]).encode()
            with telling:
                socket.send_fds(self._started(), [request], [*(each.fileno() for each in files), telling.fileno()])
            child = _told(keeper)
            keeper.settimeout(within_s)
            try:
                code = _told(keeper)
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["iot", *words], within_s) from None
            for each in files:
                each.seek(0)
            return code, files[1].read(), files[2].read()

    def close(self) -> None:
        """End the process that forks."""
        if self._asking is not None and self._process is not None:
            self._asking.close()
            self._process.wait(timeout=20)

    def _started(self) -> socket.socket:
        with self._starting:
            if self._asking is None:
                self._asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with asked:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "tests.forks", str(asked.fileno())],
                        pass_fds=[asked.fileno()],
                        cwd=_ROOT,
                        env={**os.environ, "LC_ALL": "C.UTF-8"},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                    )
            return self._asking


FORKS = Forks()
"""Those of this session; tests/conftest.py closes them."""


def at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Give what Python and its libraries read once, when they start: where it differs a fork is no real start."""
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG"))}


def _told(keeper: socket.socket) -> int:
    said = keeper.recv(64)
    assert said, "the process that forks has died"
    return int(said)


# ---------------------------------------------------------------- the process that forks
def _serve(asked: socket.socket) -> bool:
    """Fork for each request until nobody can ask any more; return True in the fork that is to be `iot`."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    while True:
        request, files, _, _ = socket.recv_fds(asked, LONGEST, 4)
        if not request:
            return False
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked.close()
            if (child := os.fork()) == 0:
                words, env, folder = json.loads(request)
                _become(words, env, folder, files)
                return True
            _keep(child, files)
        for each in files:
            os.close(each)


def _become(words: Sequence[str], env: Mapping[str, str], folder: str, files: Sequence[int]) -> None:
    """Take over what a start would have been given."""
    for number, each in enumerate(files[:3]):
        os.dup2(each, number)
    for each in files:
        os.close(each)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["iot", *words]


def _keep(child: int, files: Sequence[int]) -> None:
    """Tell how the child ends, as only its parent learns it."""
    *theirs, telling = files
    for each in theirs:
        os.close(each)
    os.write(telling, b"%d" % child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):  # it took too long: nobody wants to know
        os.write(telling, b"%d" % code)
    os._exit(0)


if __name__ == "__main__":
    for module in AHEAD:
        import_module(module)
    from iot_core.profiles import load

    load()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as socket_of_requests:
        is_iot = _serve(socket_of_requests)
    if is_iot:
        from iot_core.cli import main

        main()
