"""The whole platform from the wheel alone: installed elsewhere, with no source tree near, it runs its city."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests import wheels

pytestmark = pytest.mark.timeout(400)


def test_wheel_holds_what_is_not_python(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (".sql", ".mo", ".yaml", ".html", ".js", ".css", "LICENSE"):
        assert any(name.endswith(wanted) for name in names), wanted
    assert not [name for name in names if name.startswith(("tests/", "docs/", "scripts/"))]


def test_demo_runs_from_the_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory, state_path: Path) -> None:
    installed = wheels.install(wheel, tmp_path_factory.mktemp("server") / "venv", "[server]")
    done = installed.run("iot", "demo", "--seconds", "20", "--devices", "40", "--state", state_path, seconds=100)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["lost"] == verdict["duplicate"] == 0
    assert all(verdict["stored"][protocol] > 0 for protocol in ("mqtt", "coap", "modbus"))
    assert verdict["alarms"]["received"] >= 1
