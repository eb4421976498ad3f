"""A terminal that goes (a window closed, a connection lost) ends in order what owns children; no write fails then."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot_core.cli.logs import unfailing
from tests.cli.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

UP = """
async def work():
    try:
        said("begun")
        await asyncio.sleep(60)
    finally:
        said("ended in order")

asyncio.run(until_signalled(work()))
"""
SIMULATION = """
async def work():
    with ending() as ended:
        said("begun")
        await ended.wait_for(60)
        said("ended in order" if ended.is_set() else "nobody asked")

asyncio.run(work())
"""
TOOL = """
async def work():
    try:
        said("begun")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        said("ended in order")

ends_as_interrupted()
asyncio.run(work())
"""
IMPATIENT = """
async def work():
    with ending() as ended:
        try:
            said("begun")
            await ended.wait()
            said("counting")
            await asyncio.sleep(60)
        finally:
            said("ended in order")

try:
    run(work())
except KeyboardInterrupt:
    said("uncounted")
"""
HEAD = """
import asyncio, fcntl, pathlib, signal, sys, termios
from iot_core.cli.hangup import ends_as_interrupted
from iot_core.cli.up import until_signalled
from simulators.signals import ending, run

def said(words):
    print(words, flush=True)
    print(words, file=sys.stderr, flush=True)
    with pathlib.Path(sys.argv[1]).open("a") as file:
        print(words, file=file)

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2:] == ["nohup"] else signal.SIG_DFL)  # whatever ours is
"""


@contextmanager
def in_a_terminal(program: str, notes: Path, *more: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a program in a terminal of its own; give the other side of the terminal, and the process."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + program, str(notes), *more],
        stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    try:
        wait_until(lambda: notes.exists() and "begun" in notes.read_text())
        yield ours, process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("program", [UP, SIMULATION, TOOL], ids=["up", "simulation", "tool"])
def test_a_terminal_that_goes_ends_the_program_in_order(tmp_path: Path, program: str) -> None:
    notes = tmp_path / "notes"
    with in_a_terminal(program, notes) as (terminal, process):
        os.close(terminal)
        wait_until(lambda: "ended in order" in notes.read_text())
        process.send_signal(signal.SIGHUP)  # as an interactive shell says it once more
        assert process.wait(timeout=20) in {0, -signal.SIGHUP}


def test_a_second_ctrl_c_leaves_the_counting_out_and_still_ends_in_order(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with in_a_terminal(IMPATIENT, notes) as (terminal, process):
        os.write(terminal, b"\x03")
        wait_until(lambda: "counting" in notes.read_text())
        os.write(terminal, b"\x03")
        assert process.wait(timeout=20) == 0
        os.close(terminal)
    assert notes.read_text().split("\n")[-3:-1] == ["ended in order", "uncounted"]


def test_under_nohup_it_goes_on_when_the_terminal_goes(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with in_a_terminal(UP, notes, "nohup") as (terminal, process):
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert notes.read_text() == "begun\n"  # printing its last words failed before they were noted


def test_a_full_disk_does_not_stop_who_logs() -> None:
    full = Path("/dev/full").open("w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closing it fails
    log = unfailing(full)
    for _ in range(1000):
        log.write("a line that goes nowhere\n")
    log.flush()
    with pytest.raises(OSError, match="No space left"):
        full.close()
