"""Starting and ending: how long it takes, and one clear sentence where it cannot be. Faults: tests/faults."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_core.state import StateDir
from tests.core import command, stopwatch
from tests.up import core_process

Free = Callable[[int], int]
START = datetime(2026, 11, 20, tzinfo=UTC)

pytestmark = pytest.mark.timeout(240)


async def test_a_second_start_and_an_end_keep_nobody_waiting(state_path: Path, free_ports: Free) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        async with stopwatch() as ending:
            await up.stop()
        async with stopwatch() as starting:
            await up.start()
    # Each takes one or two seconds; a supervisor that waits ten would kill what hangs, so more than that is wrong.
    assert ending.seconds < 15
    assert starting.seconds < 15


async def test_two_cores_on_one_state_directory_is_one_clear_sentence(state_path: Path, free_ports: Free) -> None:
    async with core_process(state_path, free_ports(3)) as up:
        code, out, err = await command(
            sys.executable, "-m", "iot_core.cli", "up", "--state", state_path, "--port-base", str(free_ports(3))
        )
        assert code == 2
        assert "Traceback" not in out + err
        assert str(up.process.pid if up.process else "") in err


async def test_a_port_in_use_is_one_clear_sentence(state_path: Path, free_ports: Free) -> None:
    base = free_ports(3)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", base + 1)
    async with server:
        code, out, err = await command(
            sys.executable, "-m", "iot_core.cli", "up", "--state", state_path, "--port-base", str(base)
        )
    assert code == 2
    assert str(base + 1) in err
    assert "Traceback" not in out + err
    assert StateDir(state_path).running() is None


async def test_a_database_too_old_to_use_or_not_there_is_one_clear_sentence(
    state_path: Path, free_ports: Free, free_port: Callable[[], int]
) -> None:
    for dsn in (f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x", "postgresql://["):
        code, out, err = await command(
            "env", f"IOT_STORE_DSN={dsn}", sys.executable, "-m", "iot_core.cli", "up",
            "--state", state_path, "--port-base", str(free_ports(3)),
        )  # fmt: skip
        assert code == 2, out + err
        assert "Traceback" not in out + err
        assert "hunter2" not in out + err
