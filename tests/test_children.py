"""Children are known again by pid and start time, and end when they are asked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest

from iot_core import children
from tests import servers

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "child.json"


async def test_child_has_its_own_session_and_nothing_of_our_environment(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hush")
    child = children.start(["sh", "-c", "env; exec sleep 60"], record, log=tmp_path / "log")
    servers.until(lambda: "PATH" in (tmp_path / "log").read_text())
    assert os.getsid(child.pid) == child.pid
    assert "hush" not in (tmp_path / "log").read_text()
    await child.stop((signal.SIGTERM, 5.0))
    assert not child.alive()
    assert not record.exists()


async def test_running_child_is_adopted(record: Path, tmp_path: Path) -> None:
    child = children.start(["sleep", "60"], record, log=tmp_path / "log")
    adopted = children.adopt(record)
    assert adopted is not None
    assert adopted.pid == child.pid
    await adopted.stop((signal.SIGTERM, 5.0))
    assert not child.alive()


async def test_pid_that_belongs_to_another_now_is_not_adopted(record: Path, tmp_path: Path) -> None:
    child = children.start(["sleep", "60"], record, log=tmp_path / "log")
    for change in ({"started": "1"}, {"boot": "another"}, {"pid": os.getpid()}):
        known = msgspec.json.decode(record.read_bytes())
        other = tmp_path / "other.json"
        other.write_bytes(msgspec.json.encode(known | change))
        assert children.adopt(other) is None
    await child.stop((signal.SIGTERM, 5.0))
    assert children.adopt(record) is None


def test_ended_child_and_broken_record_are_not_adopted(record: Path, tmp_path: Path) -> None:
    child = children.start(["true"], record, log=tmp_path / "log")
    servers.until(lambda: not child.alive())
    assert children.adopt(record) is None
    record.write_text("{")
    assert children.adopt(record) is None


async def test_child_that_does_not_listen_is_killed(record: Path, tmp_path: Path) -> None:
    child = children.start([sys.executable, "-c", STUBBORN], record, log=tmp_path / "log")
    servers.until(lambda: "deaf" in (tmp_path / "log").read_text())
    begun = time.monotonic()
    await child.stop((signal.SIGTERM, 0.2))
    assert not child.alive()
    assert time.monotonic() - begun < 30, "it slept for a minute"


def test_ps_tells_a_start_time_where_there_is_no_proc(record: Path, tmp_path: Path) -> None:
    child = children.start(["sleep", "60"], record, log=tmp_path / "log")
    assert children._start_time_by_ps(child.pid)
    assert child.ours is not None
    child.ours.kill()
    child.ours.wait()
    assert children._start_time_by_ps(child.pid) is None


def test_program_that_is_not_there_is_an_os_error(record: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        children.start(["no-such-program"], record, log=tmp_path / "log")
    assert not record.exists()


@pytest.mark.parametrize("told", [True, False])
async def test_the_end_of_a_child_is_noticed_also_of_an_adopted_one(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    if not told:  # as where there is no pidfd
        monkeypatch.delattr(os, "pidfd_open")
    child = children.start(["sleep", "60"], record, log=tmp_path / "log")
    adopted = children.adopt(record)
    assert adopted is not None
    waiting = [asyncio.create_task(each.ended()) for each in (child, adopted)]
    await asyncio.sleep(0)
    child.send(signal.SIGKILL)
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting)
    await child.ended()  # ended already: at once


async def test_waiting_for_a_child_does_not_look_at_it_again_and_again(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = children.start(["sleep", "60"], record, log=tmp_path / "log")
    looks: list[int] = []
    start_time = children.start_time

    def look(pid: int) -> str | None:
        looks.append(pid)
        return start_time(pid)

    monkeypatch.setattr(children, "start_time", look)
    waiting = asyncio.create_task(child.ended())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert looks == [child.pid]
    child.send(signal.SIGKILL)
    async with asyncio.timeout(20):
        await waiting
