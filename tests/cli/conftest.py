"""`iot` as people run it: a process of its own, with a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@pytest.fixture
def iot(tmp_path: Path) -> Iot:
    """Run `iot` where no core runs."""
    return Iot(tmp_path / "state", tmp_path)
