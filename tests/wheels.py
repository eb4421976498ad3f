"""The wheel as a stranger gets it: built once, installed in empty environments elsewhere, with the locked versions."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel in it, and nothing of the source tree."""

    folder: Path

    def run(self, *words: str | Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, in an empty folder and a bare environment."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [self.folder / "bin" / words[0], *words[1:]],
            cwd=home,
            env={"PATH": _PATH, "HOME": str(home), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def build(folder: Path) -> Path:
    """Build the wheel."""
    _pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, extra: str = "") -> Installed:
    """Install the wheel in an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    locked = folder / "constraints.txt"
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked.write_text("\n".join(line.rstrip(" \\") for line in lines if re.match(r"[a-z]", line)), encoding="utf-8")
    _pip(folder / "bin" / "python", "install", "-c", locked, f"{wheel}{extra}")
    return Installed(folder)


def _pip(python: str | Path, *words: str | Path) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
