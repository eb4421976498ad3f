"""`iot up`: starts, says what to type next, refuses in one sentence, ends in order."""

from __future__ import annotations

import shlex
import signal
import socket
import time
from typing import TYPE_CHECKING

from tests.cli.conftest import Core, running_core, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Iot


def test_an_empty_core_says_three_commands_that_work_as_typed_and_its_end_is_in_order(
    free_ports: Callable[[int], int],
) -> None:
    with running_core(free_ports(3)) as core:
        wait_until(lambda: "iot --state" in core.said.read_text())
        typed = [line for line in core.said.read_text().splitlines() if line.startswith("  iot ")]
        assert len(typed) == 3
        for line in typed[:2]:
            assert core(*shlex.split(line)[1:]).code == 0
        with core.watch(*shlex.split(typed[2])[1:]) as watching:
            wait_until(lambda: bool(watching.notes))
            assert watching.interrupt() == (130, "Watching; Ctrl-C ends.\n")

        begun = time.monotonic()
        assert core.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 30  # and not after a deadline
        assert not (core.state / "core.json").exists()
        assert core.said.read_text().endswith("Ending in order. Once more ends at once.\n")

        begun = time.monotonic()
        core.start()
        assert time.monotonic() - begun < 30  # and not after a deadline
        assert "No device is registered yet" not in core.said.read_text()
        assert core.end(signal.SIGINT) == 0


def test_a_second_signal_ends_at_once_and_the_next_start_takes_up_what_is_left(
    free_ports: Callable[[int], int],
) -> None:
    with running_core(free_ports(3)) as core:
        core.add("sl-1")
        assert core.process is not None
        core.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Ending in order" in core.said.read_text())
        assert core.end(signal.SIGTERM) in {0, 128 + signal.SIGTERM}
        (core.state / "core.json").unlink(missing_ok=True)
        core.start()
        assert core.json("device", "show", "sl-1")["state"] == "never"


def test_two_cores_on_one_state_directory_are_refused_with_a_sentence(core: Core) -> None:
    ended = core("up")
    assert (ended.code, ended.out) == (2, "")
    assert "--state DIR" in ended.err
    assert ended.err.count("\n") == 1


def test_a_port_in_use_is_refused_with_a_sentence(iot: Iot, free_ports: Callable[[int], int]) -> None:
    base = free_ports(3)
    with socket.create_server(("127.0.0.1", base + 1)):
        ended = iot("up", "--port-base", str(base))
    assert ended.code == 2
    assert str(base + 1) in ended.err
    assert "Traceback" not in ended.err


def test_a_database_that_does_not_answer_is_refused_with_a_sentence(iot: Iot, free_ports: Callable[[int], int]) -> None:
    base = free_ports(4)
    ended = iot("up", "--port-base", str(base), env={"IOT_STORE_DSN": f"postgresql://u:hush@127.0.0.1:{base + 3}/d"})
    assert (ended.code, ended.out) == (2, "")
    assert "store.dsn" in ended.err
    assert "Traceback" not in ended.err
    assert "hush" not in ended.err
