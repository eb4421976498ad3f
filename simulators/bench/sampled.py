"""A core under a sampling profiler: `python -m simulators.bench.sampled FILE up ...`.

SIGUSR2 begins a profile, the next one writes it to FILE. At every tick of CPU time that the kernel gives, the innermost
Python function gets the sample: what C code costs stands at the function that called it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

from iot_core.cli import main

__all__ = ["TURN", "table_of"]

TURN: Final = signal.SIGUSR2
_EVERY_S: Final = 0.001  # the kernel's own tick is longer; it bounds this
_ROWS: Final = 40


class Sampler:
    """Where the samples fell since it began, by file and function."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._counted: Counter[tuple[str, str]] = Counter()
        self._began: float | None = None

    def turn(self, *_: object) -> None:
        """Begin, or end and write [[file, function, CPU seconds], ...]."""
        if self._began is None:
            self._began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        each = (time.process_time() - self._began) / max(self._counted.total(), 1)
        rows = [[_short(name), function, n * each] for (name, function), n in self._counted.most_common()]
        whole = self._file.with_suffix(".new")
        whole.write_text(json.dumps(rows), encoding="utf-8")
        whole.replace(self._file)

    def take(self, _: int, frame: FrameType | None) -> None:
        """Count one sample."""
        if frame is not None:
            self._counted[frame.f_code.co_filename, frame.f_code.co_qualname] += 1


def table_of(rows: list[tuple[str, str, float]], messages: int) -> list[dict[str, Any]]:
    """Give a profile by file, the dearest first, and the functions of each, in microseconds of CPU a message."""
    per = 1e6 / max(messages, 1)
    files: dict[str, dict[str, float]] = {}
    for name, function, used in rows:
        files.setdefault(name, {})[function] = round(used * per, 2)
    sums = sorted(((sum(found.values()), name) for name, found in files.items()), reverse=True)
    return [{"file": name, "us": round(us, 2), "functions": files[name]} for us, name in sums[:_ROWS]]


def _short(name: str) -> str:
    """Leave out where packages are installed."""
    for root in sorted(sys.path, key=len, reverse=True):
        if root and name.startswith(f"{root}/"):
            return name.removeprefix(f"{root}/")
    return name


if __name__ == "__main__":
    sampler = Sampler(Path(sys.argv[1]))
    signal.signal(signal.SIGPROF, sampler.take)
    signal.signal(TURN, sampler.turn)
    sys.argv = ["iot", *sys.argv[2:]]
    main()
