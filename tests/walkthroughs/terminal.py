"""`iot` as a person runs it: in a terminal of 100 columns, reading what it asks and typing the answers."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cli.conftest import IOT

if TYPE_CHECKING:
    from tests.cli.conftest import Core

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
_WITHIN_S = 60.0


@dataclass(frozen=True)
class Screen:
    """What stood on the screen when a command had ended."""

    code: int
    text: str

    def has(self, *said: str) -> Screen:
        """Fail, showing the screen, unless all of this stands on it."""
        for each in said:
            assert each in self.text, f"{each!r} is not on the screen:\n{self.text}"
        return self

    def number(self, before: str) -> str:
        """Give the number after a word, as a person copies it."""
        found = re.search(rf"{re.escape(before)}\s*(\d+)", self.text)
        assert found is not None, f"no number after {before!r}:\n{self.text}"
        return found[1]


class Terminal:
    """A person's terminal beside a running core."""

    def __init__(self, core: Core, language: str = "en") -> None:
        self.core = core
        self.language = language
        self.spent = 0.0

    def __call__(self, line: str, *more: str, answers: Mapping[str, str] | None = None, code: int = 0) -> Screen:
        """Run `iot LINE MORE...`: `line` is split at blanks, `more` is not. A question in `answers` gets its answer.

        Fails when the command does not end with `code`, or asks what was not foreseen.
        """
        begun = time.monotonic()
        screen = self._run([*line.split(), *more], dict(answers or {}))
        self.spent += time.monotonic() - begun
        assert screen.code == code, f"iot {line} ended with {screen.code}:\n{screen.text}"
        return screen

    def _run(self, arguments: Sequence[str], answers: dict[str, str]) -> Screen:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = self.core.environment({"TERM": "xterm-256color", "IOT_LANG": self.language})
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen(
            [*IOT, *arguments],
            stdin=slave, stdout=slave, stderr=slave,
            env=environment, cwd=self.core.folder, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        try:
            said = self._talk(master, answers)
            code = process.wait(timeout=_WITHIN_S)
        finally:
            process.kill()
            os.close(master)
        return Screen(code, said)

    @staticmethod
    def _talk(master: int, answers: dict[str, str]) -> str:
        raw = b""
        end = time.monotonic() + _WITHIN_S
        while time.monotonic() < end:
            if not select.select([master], [], [], 0.5)[0]:
                continue
            try:
                part = os.read(master, 65_536)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not part:
                break
            raw += part
            seen = raw.decode(errors="replace")
            for question in [each for each in answers if each in seen]:
                os.write(master, f"{answers.pop(question)}\n".encode())
        else:
            message = f"it neither ended nor asked what was foreseen:\n{raw.decode(errors='replace')}"
            raise AssertionError(message)
        assert not answers, f"it never asked {list(answers)}:\n{raw.decode(errors='replace')}"
        return _ESCAPES.sub("", raw.decode())
