"""Benchmarks that anyone can run: each starts what it needs on loopback, bounded, and ends with one JSON line.

commands.play(NAME) -> simulators.bench.NAME.run(Options, say) -> report(...)

A new one is a module here with `class Options(msgspec.Struct, frozen=True, kw_only=True)` and
`async def run(options: Options, say: Say) -> dict[str, Any]`, and its command in commands.py.
"""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str, float], None]
"""Told what is going on, as the code of a sentence (`bench.step_publish`), and how much of it is done (0 to 1)."""
