"""Command groups of plug-ins: a broken one breaks itself only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Ended, Iot

MODULES = {
    "good": "import click\n@click.command()\ndef command():\n    click.echo('good works')\n",
    "broken": "raise RuntimeError('bad day')\n",
    "odd": "command = 3\n",
}


@pytest.fixture
def plugins(iot: Iot) -> Path:
    """Install three plug-ins: one good, one that fails to import, one that is no command, one that is not there."""
    folder = iot.folder / "plugins"
    info = folder / "plugins-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1\n")
    points = [f"{name} = plugin_{name}:command" for name in (*MODULES, "missing")]
    (info / "entry_points.txt").write_text("\n".join(["[iot_core.commands]", *points, "device = plugin_good:command"]))
    for name, source in MODULES.items():
        (folder / f"plugin_{name}.py").write_text(source)
    return folder


def run(iot: Iot, plugins: Path, *arguments: str) -> Ended:
    return iot(*arguments, env={"PYTHONPATH": str(plugins)})


def test_help_lists_them_all_without_importing_any(iot: Iot, plugins: Path) -> None:
    ended = run(iot, plugins, "--help")
    assert ended.code == 0
    for name in ("good", "broken", "odd", "missing"):
        assert f"Plug-in plugin_{name}:command." in ended.out


def test_a_good_one_runs(iot: Iot, plugins: Path) -> None:
    assert run(iot, plugins, "good").out == "good works\n"


@pytest.mark.parametrize(("name", "why"), [("broken", "bad day"), ("odd", "int"), ("missing", "plugin_missing")])
def test_a_broken_one_says_why_and_ends_with_2(iot: Iot, plugins: Path, name: str, why: str) -> None:
    ended = run(iot, plugins, name)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert "Traceback" not in ended.err


def test_none_replaces_a_command_of_ours(iot: Iot, plugins: Path) -> None:
    assert "good works" not in run(iot, plugins, "device").out
