"""The one line of JSON that every benchmark ends with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

__all__ = ["busy", "percentiles", "report"]

_LOOK_S: Final = 1.0
_SHARES: Final = (50, 95, 99)


def report(
    bench: str, options: msgspec.Struct, *, ok: bool, versions: Mapping[str, str], **figures: Any
) -> dict[str, Any]:
    """Put a result together. `ok` is false when anything was lost, doubled or late; it decides the exit code.

    Figures that several benchmarks give have one name: `messages_per_s`, `cpu_s` (by process), `memory_peak_mb`,
    `lost`, `duplicate`, and percentiles as {"p50": ..., "p99": ...} in a unit that the name ends with.
    """
    settings = msgspec.to_builtins(options)
    if "://" in str(settings.get("store", "")):
        settings["store"] = "given"  # a DSN holds a password
    return {
        "bench": bench,
        "ok": ok,
        "settings": settings,
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **versions},
        **figures,
    }


def busy() -> float:
    """Give the share of the machine's cores that others use just now, 0 to 1; it takes a second to look.

    Not the load average: that still holds what the benchmark before this one did.
    """
    share: float = psutil.cpu_percent(_LOOK_S)
    return round(share / 100, 2)


def percentiles(values: Sequence[float], *, digits: int = 1) -> dict[str, float]:
    """Give p50, p95, p99 and the largest of `values`; nothing of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    shares = {f"p{share}": round(ordered[round(last * share / 100)], digits) for share in _SHARES}
    return {**shares, "max": round(ordered[-1], digits)}


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_name(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
    }


def _cpu_name() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return platform.machine()
