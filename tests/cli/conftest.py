"""`iot` as people run it: a process of its own, with a clean environment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import aiocoap
import pytest

from tests import servers
from tests.forks import FORKS, at_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

IOT = (sys.executable, "-m", "iot_core.cli")


@dataclass(frozen=True)
class Ended:
    """How a run of `iot` ended."""

    code: int
    out: str
    err: str


class Iot:
    """Runs `iot` with a state directory and an environment of its own."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.state = state
        self.folder = folder

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
        return kept | {"LC_ALL": "C.UTF-8", "IOT_STATE": str(self.state), **(env or {})}

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None, feed: bytes = b"") -> Ended:
        """Run it: in a fork, unless it is given what only a start reads."""
        if at_start(env or {}):
            return self.really(*arguments, env=env, feed=feed)
        code, out, err = FORKS.run(arguments, self.environment(env), self.folder, feed)
        return Ended(code, out.decode(), err.decode())

    def really(self, *arguments: str, env: Mapping[str, str] | None = None, feed: bytes = b"") -> Ended:
        """Start the command itself."""
        done = subprocess.run(
            [*IOT, *arguments],
            env=self.environment(env),
            cwd=self.folder,
            input=feed,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class Core(Iot):
    """`iot up` as people run it, and `iot` beside it."""

    def __init__(self, state: Path, folder: Path, port: int, env: Mapping[str, str] | None = None) -> None:
        super().__init__(state, folder)
        self.port = port
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.said = folder / f"said-{port}.txt"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip() + "\n"

    def start(self) -> None:
        """Start, and wait until the core announces itself."""
        environment = self.environment(self.env)
        del environment["IOT_STATE"]
        with self.said.open("wb") as out, (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*IOT, "up", "--state", str(self.state), "--port-base", str(self.port)],
                env=environment,
                cwd=self.folder,
                stdout=out,
                stderr=log,
            )
        wait_until(lambda: (self.state / "core.json").exists() or self.ended())
        assert not self.ended(), (self.said.read_text(), (self.folder / "log.txt").read_text())

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        """End in order; give the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def json(self, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a command for a script, and give what it printed."""
        ended = self("--output", "json", *arguments, env=env)
        assert (ended.code, ended.err) == (0, ""), ended
        return json.loads(ended.out)

    def add(self, key: str, model: str = "native-streetlight", *options: str) -> str:
        """Add a device; give its secret."""
        secret: str = self.json("device", "add", key, "--profile", model, *options)["secret"]
        return secret

    def tell(self, key: str, secret: str, **values: object) -> str:
        """Send telemetry over CoAP, as a device does; give the answer's code."""
        return asyncio.run(_post(f"coap://127.0.0.1:{self.port + 2}/v1/{key}/telemetry?token={secret}", values))

    @contextmanager
    def watch(self, *arguments: str) -> Iterator[Watched]:
        """Run a command that goes on until Ctrl-C."""
        with subprocess.Popen(
            [*IOT, *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process:
            try:
                yield Watched(process)
            finally:
                process.kill()


class Watched:
    """Collects the lines of a running command as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((process.stdout, self.lines), (process.stderr, self.notes))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(source: IO[str], into: list[str]) -> None:
        for line in source:
            into.append(line)  # noqa: PERF402 - each line is seen as it comes

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def interrupt(self) -> tuple[int, str]:
        """End with Ctrl-C; give the exit code and what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        for reader in self.readers:
            reader.join(timeout=20)
        return code, "".join(self.notes)


@contextmanager
def one_answer(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one canned answer; give the address and what was asked."""
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            asked.append(connection.recv(65_536))
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join()


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait on a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


async def _post(url: str, values: Mapping[str, object]) -> str:
    context = await aiocoap.Context.create_client_context()
    try:
        message = aiocoap.Message(code=aiocoap.POST, uri=url, payload=json.dumps(values).encode(), content_format=50)
        response = await asyncio.wait_for(context.request(message).response, 60)
        return str(response.code.dotted)
    finally:
        await context.shutdown()


@contextmanager
def running_core(port: int, env: Mapping[str, str] | None = None) -> Iterator[Core]:
    """Run a core of its own state directory, which root's service users reach."""
    folder = Path(tempfile.mkdtemp(prefix="iot-"))
    folder.chmod(0o711)
    core = Core(folder / "state", folder, port, env)
    try:
        core.start()
        yield core
    finally:
        if core.process is not None and not core.ended():
            core.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def core() -> Iterator[Core]:
    """Run one core for all tests that only talk to it."""
    with running_core(servers.free_ports(3), {"IOT_PUSH_ALLOW_PRIVATE": "true"}) as running:
        yield running


@pytest.fixture
def iot(state_path: Path, tmp_path: Path) -> Iot:
    """Run `iot` where no core runs."""
    return Iot(state_path, tmp_path)
