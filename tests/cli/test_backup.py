"""`iot db backup` beside a running core, `iot db restore --verify`, and the whole way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.cli.conftest import running_core

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = (datetime.now(UTC) - timedelta(days=9)).date()


def test_a_core_comes_back_from_its_backup(free_ports: Callable[[int], int], tmp_path: Path) -> None:
    file = str(tmp_path / "iot.backup")
    with running_core(free_ports(3)) as core:
        secret = core.add("sl-kept")
        core.tell("sl-kept", secret, time=f"{DAY}T08:00:00+07:00", power=1.0)
        made = core("db", "backup", file)
        assert made.code == 0, made.err
        assert f"iot db restore {file} --verify" in made.out
        assert core("db", "backup", file).code == 2
        core.tell("sl-kept", secret, time=f"{DAY}T08:01:00+07:00", power=2.0)
        verified = core("db", "restore", file, "--verify", "--lang", "vi")
        assert "khôi phục được" in verified.out, verified.err
        refused = core("db", "restore", file, "--yes")
        assert (refused.code, "End the core" in refused.err) == (2, True)
        assert "--yes" in core("db", "restore", file).err
        core.end()
        restored = core("db", "restore", file, "--yes")
        assert restored.code == 0, restored.err
        assert "kept as iot_before_" in restored.out
        core.start()
        (row,) = core.json("telemetry", "get", "sl-kept", "--from", str(DAY), "--level", "raw")
        assert row["values"] == {"power": 1.0}
